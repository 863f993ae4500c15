"""What a clumsy operator does, by the real command line: one clear line, exit 1 (usage: 2), and nothing half done."""

import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import create_engine, make_url, text

import tollbook
from accounting.base.cli import ID_MAX
from accounting.db.engine import open_database
from cdr import cli_process

DECK = "prefix,destination,rate\n49,Germany,0.01\n"
FULL_DISK_BYTES = 1_000_000
SECRET = "hush-hush"


class Said(NamedTuple):
    code: object
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the front door in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["tollbook", *words])
        capsys.readouterr()
        code: object = 0
        try:
            tollbook.main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert SECRET not in out + err
        return Said(code or 0, out, err)

    return run


def problem(said: Said) -> str:
    """Return the one line of a problem, without the program's name."""
    assert said.code == 1, said
    [line] = said.err.splitlines()
    assert line.startswith("tollbook: ")
    return line.removeprefix("tollbook: ")


def spawn(folder: Path, *words: str, before: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the front door as a process, with Python to run before it."""
    script = f"import sys; sys.path.insert(0, {str(Path(tollbook.__file__).parent)!r}); {before}\nimport tollbook\n"
    command = [sys.executable, "-c", f"{script}tollbook.main()", *words]
    environment = {**os.environ, "NO_COLOR": "1", **variables}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- settings


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes([0x80, 0xFE, 0xFF]), "is not UTF-8 text"),
        ('[database]\nurl = "x"\n'.encode("utf-16"), "is not UTF-8 text"),
        (b"a = " + b"[" * 100_000, "brackets are nested too deeply"),
        (b"[database\n", "is not TOML: Expected ']' at the end of a table declaration (at line 1, column 10)"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(run: Run, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "t.toml").write_bytes(content)
    assert problem(run("process", "--config", "t.toml")).startswith(f"t.toml: {words}")


def test_a_file_that_cannot_be_read_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert problem(run("process", "--config", str(tmp_path))) == f"{tmp_path}: cannot be read: Is a directory"
    assert problem(run("process", "--config", "plain/t.toml")) == "plain/t.toml: cannot be read: Not a directory"
    assert problem(run("process", "--config", "x" * 300)).endswith("cannot be read: File name too long")


def test_the_mark_that_some_editors_write_first_is_no_mistake(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_bytes(b'\xef\xbb\xbf[database]\nurl = "sqlite:///t.db"\n')
    assert run("db", "upgrade", "--config", "t.toml").code == 0
    assert "t.db" in files(tmp_path)


def test_wrong_types_are_told_in_words_an_operator_knows(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tollbook.toml").write_text(
        'database = 5\n[receiver]\nlisten = "127.0.0.1:1813"\nbatch_max = "many"\npending_max = 0\n'
        '[log]\nlevel = "x"\n'
        f'[[clients]]\nname = "a"\naddress = "::1"\nsecret = ["{SECRET}"]\nidentify_by = []\n'
    )
    said = run("account", "list")
    assert said.code == 1
    assert [line.removeprefix("tollbook: tollbook.toml: ") for line in said.err.splitlines()] == [
        "database: is not a table of settings",
        'receiver.listen: is not a list like ["one", "two"]',
        "receiver.batch_max: is not a whole number",
        "receiver.pending_max: is less than 1",
        "log.level: is not 'debug', 'info', 'warning' or 'error'",
        "clients[0].identify_by: is empty",
        "clients[0].secret: is not text in quotes",
    ]


# ---- databases


@pytest.fixture
def foreign_file(tmp_path: Path) -> Path:
    """A SQLite file of another program."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE places (id INTEGER)")
    conn.close()
    return path


def test_a_command_that_finds_no_database_leaves_no_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.db").write_text("this is no database at all\n" * 100)
    (tmp_path / "zero.db").touch()
    before = files(tmp_path)
    for name, words in (
        ("text.db", "file is not a database"),
        ("zero.db", "has no tables yet; run: tollbook db upgrade"),
        ("none.db", "has no tables yet; run: tollbook db upgrade"),
        ("no/t.db", f"there is no folder {tmp_path}/no"),
    ):
        monkeypatch.setenv("TOLLBOOK_DATABASE__URL", f"sqlite:///{name}")
        for command in (("account", "list"), ("process",), ("receive",), ("schedule",)):
            assert words in problem(run(*command))
    assert files(tmp_path) - before <= {"zero.db-shm", "zero.db-wal"}


def test_another_programs_file_is_not_built_into(
    run: Run, foreign_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", f"sqlite:///{foreign_file}")
    for command in (("db", "upgrade"), ("serve",)):
        assert f"{foreign_file} has tables without a schema version (places)" in problem(run(*command))
    with sqlite3.connect(foreign_file) as conn:
        assert conn.execute("SELECT name FROM sqlite_master").fetchall() == [("places",)]
    conn.close()
    assert "other-journal.db" not in files(tmp_path)


def test_tables_of_our_names_on_a_server_are_not_built_around(
    run: Run, empty_mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(make_url(empty_mariadb_url).set(drivername="mysql+mysqldb"))
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE cdr (id INTEGER)"))
        conn.execute(text("CREATE TABLE acc (id INTEGER)"))  # the proxy's: no harm
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", empty_mariadb_url)
    assert "has tables without a schema version (cdr)" in problem(run("db", "upgrade"))
    with engine.begin() as conn:
        assert sorted(conn.execute(text("SHOW TABLES")).scalars()) == ["acc", "cdr"]
        conn.execute(text("DROP TABLE cdr"))
    engine.dispose()
    assert run("db", "upgrade").code == 0


def test_a_lost_journal_is_not_replaced_by_an_empty_one(
    run: Run, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", sqlite_url)
    (tmp_path / "tollbook-journal.db").rename(tmp_path / "away.db")
    for command in (("db", "upgrade"), ("process",), ("serve",)):
        assert f"its journal {tmp_path}/tollbook-journal.db is not; put that file back" in problem(run(*command))
    assert "tollbook-journal.db" not in files(tmp_path)
    (tmp_path / "away.db").rename(tmp_path / "tollbook-journal.db")
    assert run("verify").code == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"mysql://u:a@{SECRET}@h/d", "write an @ of the password as %40"),
        (f"mysql://u:a@{SECRET}/b@h/d", "write an @ of the password as %40"),
        (f"mysql://u:{SECRET}@h/d?multi_statements=1", "has the unknown option 'multi_statements'; known are"),
        (f"mysql://u:{SECRET}@[::1/d", "cannot be read"),
        (f"mysql://u:{SECRET}@h:port/d", "cannot be read"),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_meant_is_refused_and_not_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, words: str
) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", url)
    monkeypatch.setenv("TOLLBOOK_LOG__LEVEL", "debug")
    for command in (("db", "upgrade"), ("receive",)):
        assert words in problem(run(*command))


@pytest.fixture
def reader(mariadb_url: str) -> Iterator[str]:
    """The URL of a MariaDB user who may only read."""
    url = make_url(mariadb_url)
    name = f"reader_{os.getpid()}"
    engine = create_engine(url.set(drivername="mysql+mysqldb"))
    with engine.begin() as conn:
        conn.execute(text(f"CREATE USER {name}@'%' IDENTIFIED BY '{SECRET}'"))
        conn.execute(text(f"GRANT SELECT ON {url.database}.* TO {name}@'%'"))
    yield url.set(username=name, password=SECRET).render_as_string(hide_password=False)
    with engine.begin() as conn:
        conn.execute(text(f"DROP USER {name}@'%'"))
    engine.dispose()


def test_a_server_that_refuses_is_told_as_it_says(run: Run, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url(reader)
    for other, command, words in (
        (url.set(password=f"{SECRET}-not"), ("process",), "Access denied for user"),
        (url.set(database="no_such"), ("account", "list"), "cannot be opened: "),
        (url, ("account", "add", "a", "--currency", "EUR"), "INSERT command denied"),
        (url, ("receive",), "cannot be written: INSERT command denied"),
    ):
        monkeypatch.setenv("TOLLBOOK_DATABASE__URL", other.render_as_string(hide_password=False))
        assert words in problem(run(*command))


def test_a_file_that_may_not_be_written_is_told_with_what_is_needed(sqlite_url: str) -> None:
    from sqlalchemy.exc import DBAPIError

    from accounting.db.engine import as_problem

    with open_database(sqlite_url) as database, pytest.raises(DBAPIError) as caught, database.read() as conn:
        conn.exec_driver_sql("DELETE FROM account")
    assert "the right to write the file and its folder" in str(as_problem(caught.value))


def test_a_deck_that_fills_the_disk_is_not_loaded_at_all(sqlite_url: str, tmp_path: Path) -> None:
    rows = "".join(f"{number},Somewhere {number},0.0{number}\n" for number in range(10_000, 60_000))
    (tmp_path / "deck.csv").write_text(f"prefix,destination,rate\n{rows}")
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({FULL_DISK_BYTES}, {resource.RLIM_INFINITY}))"
    words = ("rates", "load", "deck.csv", "--deck", "retail", "--currency", "EUR")
    done = spawn(tmp_path, *words, before=limit, TOLLBOOK_DATABASE__URL=sqlite_url)
    assert done.returncode == 1, done
    [line] = done.stderr.splitlines()
    assert line.startswith("tollbook: ")
    assert "disk" in line
    listed = spawn(tmp_path, "rates", "list", "--json", TOLLBOOK_DATABASE__URL=sqlite_url)
    assert json.loads(listed.stdout) == []
    assert spawn(tmp_path, *words, TOLLBOOK_DATABASE__URL=sqlite_url).returncode == 0


# ---- processes


def test_an_address_of_another_machine_cannot_be_listened_on(
    run: Run, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", sqlite_url)
    monkeypatch.setenv("TOLLBOOK_RECEIVER__LISTEN", '["192.0.2.1:1813"]')
    assert problem(run("receive")) == (
        "cannot listen on 192.0.2.1:1813: this machine has no such address; change [receiver] listen"
    )


def test_a_second_worker_names_the_first_and_does_nothing(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", database_url)
    monkeypatch.setattr(cli_process, "LEASE_WAIT_S", 0.1)
    with open_database(database_url) as database, database.lease(cli_process.LEASE):
        line = problem(run("process"))
    assert "the lease 'pipeline' of " in line
    assert line.endswith("; wait until it is done, or stop it")
    assert run("process").code == 0


# ---- commands


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("process", "--now", "2026-11-26T00:00:00"), 1, "'2026-11-26T00:00:00' has no offset; write it like"),
        (("process", "--now", "0000-00-00T00:00:00Z"), 1, "is not an instant"),
        (("cdr", "show", "1"), 1, "no CDR has the id 1"),
        (("cdr", "show", str(ID_MAX)), 1, "no CDR has the id"),
        (("cdr", "show", str(ID_MAX + 1)), 2, "less than or equal to"),
        (("cdr", "close", "1", "--ended-at", "2026-11-24T00:00:00Z", "--reason", "x"), 1, "no CDR has the id 1"),
        (("cdr", "close", "1", "--ended-at", "2026-11-24T00:00:00Z", "--reason", " "), 1, "--reason must say why"),
        (("exceptions", "retry", "1"), 1, "no such id: 1"),
        (("exceptions", "retry", str(ID_MAX + 1)), 2, "less than or equal to"),
        (("exceptions", "dismiss", "1", "2"), 1, "no such id: 1, 2"),
        (("quarantine", "retry", "1"), 1, "no such id: 1"),
        (("rerate", "--account", "nobody"), 1, "there is no account 'nobody'"),
        (("rerate", "--from", "2026-12-01T00:00:00Z", "--to", "2026-11-01T00:00:00Z"), 1, "--from must lie before"),
        (("account", "show", "nobody"), 1, "there is no account 'nobody'"),
        (("account", "add", "a\nb", "--currency", "EUR"), 1, "'a\\nb' is no account name"),
        (("account", "topup", "nobody", "1,000.00", "--reference", "x"), 1, "is not a decimal number like 12.50"),
        (("rates", "load", "none.csv", "--deck", "d", "--currency", "EUR"), 1, "none.csv: No such file or directory"),
        (("rates", "load", ".", "--deck", "d", "--currency", "EUR"), 1, ".: Is a directory"),
        (("nonsense",), 2, "No such command"),
        (("verify", "extra"), 2, "unexpected extra argument"),
    ],
)  # fmt: skip
def test_a_mistaken_command_says_what_is_wrong(
    run: Run, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, complaint: str
) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", sqlite_url)
    said = run(*words)
    assert said.code == code, said
    assert complaint in (problem(said) if code == 1 else said.err)


@pytest.mark.parametrize(
    "words",
    [
        ("account", "list"), ("carrier", "list"), ("rates", "list"), ("exceptions", "list"), ("quarantine", "list"),
        ("process",), ("rerate",), ("verify",), ("exceptions", "retry"), ("quarantine", "retry"),
    ],
)  # fmt: skip
def test_an_empty_database_is_no_problem(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", database_url)
    assert run(*words).code == 0
    json.loads(run(*words, "--json").out)


def test_a_user_id_without_a_name_can_post_too(sqlite_url: str, tmp_path: Path) -> None:
    no_names = "import os, pwd; os.environ.clear(); pwd.getpwuid = {}.__getitem__"
    line = "; ".join([no_names, f"os.environ['TOLLBOOK_DATABASE__URL'] = {sqlite_url!r}"])
    assert spawn(tmp_path, "account", "add", "acme", "--currency", "EUR", before=line).returncode == 0
    done = spawn(tmp_path, "account", "topup", "acme", "5", "--reference", "r", before=line)
    assert (done.returncode, done.stderr) == (0, "")


# ---- terminals and pipes


def test_what_is_needed_to_go_on_is_never_cut_from_a_table(
    run: Run, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", sqlite_url)
    monkeypatch.setenv("COLUMNS", "20")
    name = "a customer with rather a long name, Ltd. & Co. [KG]"
    assert run("account", "add", name, "--currency", "EUR").code == 0
    assert name in run("account", "list").out


def test_a_terminal_without_unicode_gets_escapes_and_json_stays_json(sqlite_url: str, tmp_path: Path) -> None:
    variables = {"TOLLBOOK_DATABASE__URL": sqlite_url, "PYTHONIOENCODING": "ascii"}
    assert spawn(tmp_path, "account", "add", "Müller", "--currency", "EUR", **variables).returncode == 0
    assert "M\\xfcller" in spawn(tmp_path, "account", "list", **variables).stdout
    listed = spawn(tmp_path, "account", "list", "--json", **variables).stdout
    assert [row["name"] for row in json.loads(listed)] == ["Müller"]


def test_output_that_cannot_be_written_is_a_problem_of_one_line(sqlite_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tollbook", "verify"]
    environment = {**os.environ, "TOLLBOOK_DATABASE__URL": sqlite_url}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert (done.returncode, done.stderr) == (1, "tollbook: input or output: No space left on device\n")


def test_a_reader_that_goes_away_is_no_traceback(sqlite_url: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "tollbook", "account", "list", "--json"]
    environment = {**os.environ, "TOLLBOOK_DATABASE__URL": sqlite_url}
    done = subprocess.run(
        command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False, env=environment
    )
    os.close(write)
    assert "Traceback" not in done.stderr
