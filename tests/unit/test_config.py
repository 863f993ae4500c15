"""Settings: what is wrong is told at once, with file and key, and never with a secret."""

from collections.abc import Callable
from pathlib import Path

import pytest

from accounting.base.config import Settings, load_settings, source_of
from accounting.base.errors import SettingsError

Write = Callable[[str], Path]
CLIENT = '[[clients]]\nname = "p1"\naddress = "127.0.0.0/8"\nsecret = "hush-hush"\n'
FULL = """
[database]
url = "mysql://tollbook:hush-hush@db.example/tollbook"
[receiver]
listen = ["127.0.0.1:1813", "[::1]:1813"]
[pairing]
max_age_s = 3600
[reports]
timezone = "Europe/Berlin"
[[clients]]
name = "proxy-1"
address = "127.0.0.0/8"
secret = "testing123"
dialect = "opensips"
dictionary = "opensips"
role = "access"
rank = 1
own_addresses = ["127.0.0.1"]
identify_by = ["billing_party", "source_ip", "auth_user"]
country = "DE"
[[clients]]
name = "proxy-2"
address = "192.0.2.1"
secret = "testing123"
dialect = ["kamailio", "mediaproxy"]
[[collectors]]
name = "opensips-acc"
url = "mysql://reader@127.0.0.1/opensips"
flavour = "opensips"
start = "all"
timezone = "Europe/Berlin"
columns = { caller = "src_user", called = "dst_ouser", source_ip = "src_ip" }
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a configuration file in a folder that is not the working directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def write_file(text: str) -> Path:
        path = tmp_path / "etc.toml"
        path.write_text(text)
        return path

    return write_file


def mistakes(path: Path | None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert "hush" not in str(caught.value)
    return str(caught.value).split("\n")


def test_without_a_file_the_defaults_hold(write: Write) -> None:
    settings = load_settings(None)
    assert settings.path is None
    assert settings.database.url == f"sqlite:///{Path.cwd()}/tollbook.db"
    assert settings.receiver.listen == ("127.0.0.1:1813",)
    assert settings.pairing.max_age_s == 86400
    assert settings.reports.out == Path.cwd() / "reports-out"
    assert settings.directions.outbound == ("account", "carrier")


def test_the_documented_file_is_understood(write: Write) -> None:
    settings = load_settings(write(FULL))
    assert settings.clients[0].dialect == ("opensips",)
    assert settings.clients[1].dialect == ("kamailio", "mediaproxy")
    assert settings.clients[1].address == "192.0.2.1/32"
    assert settings.clients[0].secret.get_secret_value() == "testing123"
    assert settings.collectors[0].columns["called"] == "dst_ouser"
    assert "hush-hush" not in repr(settings)
    assert "testing123" not in repr(settings)


def test_a_file_of_the_working_directory_or_of_the_environment_is_found(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tollbook.toml").write_text("[worker]\ninterval_s = 7\n")
    assert load_settings(None).worker.interval_s == 7
    monkeypatch.setenv("TOLLBOOK_CONFIG", str(write("[worker]\ninterval_s = 8\n")))
    assert load_settings(None).worker.interval_s == 8


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = mistakes(tmp_path / "no.toml")
    assert "no.toml: there is no such configuration file" in line
    monkeypatch.setenv("TOLLBOOK_CONFIG", str(tmp_path / "gone.toml"))
    [line] = mistakes(None)
    assert "gone.toml" in line


def test_broken_toml_is_told_with_line_and_column(write: Write) -> None:
    [line] = mistakes(write("[worker]\ninterval_s 5\n"))
    assert "is not TOML" in line
    assert "line 2, column 12" in line


def test_all_mistakes_are_told_at_once_with_file_and_key(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABSE__URL", "mysql://u:hush@h/d")
    monkeypatch.setenv("TOLLBOOK_WORKER__INTERVAL_S", "soon")
    path = write(
        '[database]\nurl = "postgres://u:hush@h/d"\n[recever]\n[pairing]\nmax_age = 1\nstop_grace_s = -1\n'
        '[reports]\ntimezone = "Europe/Berln"\n[receiver]\nlisten = ["localhost"]\n'
        '[[clients]]\nname = "a"\naddress = "10.0.0.1/8"\nsecret = ["hush"]\ndialect = "cisko"\n'
        '[[clients]]\nname = "a"\naddress = "10.0.0.0/8"\ncountry = "XX"\nrank = true\n'
        '[[collectors]]\nname = "c"\nurl = "hush"\nflavour = "opensips"\nstart = "2026-01-01T00:00:00"\n'
    )
    found = mistakes(path)
    keys = [
        "clients[0].address", "clients[0].dialect[0]", "clients[0].secret", "clients[1].country", "clients[1].name",
        "clients[1].rank", "clients[1].secret", "collectors[0].start", "collectors[0].url", "database.url",
        "pairing.max_age", "pairing.stop_grace_s", "receiver.listen[0]", "recever", "reports.timezone",
    ]  # fmt: skip
    assert sorted(line.split(": ")[1] for line in found if line.startswith(str(path))) == keys
    assert "environment TOLLBOOK_DATABSE__URL: unknown setting" in found
    assert any(line.startswith("environment TOLLBOOK_WORKER__INTERVAL_S: worker.interval_s: ") for line in found)


def test_the_environment_wins_over_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLBOOK_DATABASE__URL", "sqlite:///here.db")
    monkeypatch.setenv("TOLLBOOK_RECEIVER__LISTEN", '["127.0.0.1:1"]')
    settings = load_settings(write('[database]\nurl_file = "gone"\n[receiver]\nbatch_max = 9\n'))
    assert settings.database.url == f"sqlite:///{Path.cwd()}/here.db"
    assert settings.receiver.listen == ("127.0.0.1:1",)
    assert settings.receiver.batch_max == 9


def test_a_list_in_the_environment_must_be_json(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLBOOK_RECEIVER__LISTEN", "127.0.0.1:1813")
    [line] = mistakes(None)
    assert "environment TOLLBOOK_RECEIVER__LISTEN: is not JSON" in line


def test_paths_in_the_file_are_relative_to_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush-hush \n")
    (tmp_path / "my.dictionary").write_text("ATTRIBUTE X 1 string\n")
    text = CLIENT.replace('secret = "hush-hush"', 'secret_file = "secret"\ndictionary = "my.dictionary"')
    settings = load_settings(write('[database]\nurl = "sqlite:///data/t.db"\n[reports]\nout = "r"\n' + text))
    assert settings.database.url == f"sqlite:///{tmp_path}/data/t.db"
    assert settings.reports.out == tmp_path / "r"
    assert settings.clients[0].secret.get_secret_value() == "hush-hush "
    assert source_of(settings.clients[0]).dictionary == "ATTRIBUTE X 1 string\n"
    assert load_settings(write("")).reports.out == tmp_path / "reports-out"


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ('secret_file = "gone"', "cannot be read: No such file"),
        ('secret_file = "empty"', "is empty"),
        ('secret_file = "empty"\nsecret = "hush"', "stands beside secret"),
        ('secret = ""', "is empty"),
        ("", "is missing"),
    ],
)
def test_exactly_one_readable_secret_is_needed(write: Write, tmp_path: Path, secret: str, words: str) -> None:
    (tmp_path / "empty").write_text("\n")
    [line] = mistakes(write(CLIENT.replace('secret = "hush-hush"', secret)))
    assert "clients[0].secret" in line
    assert words in line


def test_a_second_secret_may_stand_in_a_file_and_one_for_tls_is_known(write: Write, tmp_path: Path) -> None:
    (tmp_path / "next").write_text("hush-next\n")
    [client] = load_settings(write(CLIENT + 'secret_next_file = "next"\n')).clients
    assert client.secret_next is not None
    assert client.secret_next.get_secret_value() == "hush-next"
    certified = CLIENT.replace('secret = "hush-hush"', 'certificate = "Proxy.example.net"')
    [client] = load_settings(write(certified)).clients
    assert (client.secret.get_secret_value(), client.certificate) == ("radsec", "proxy.example.net")
    (tmp_path / "own").write_text("hush-own\n")
    [client] = load_settings(write(certified + 'secret_file = "own"\n')).clients
    assert client.secret.get_secret_value() == "hush-own"


def test_a_url_file_gives_the_url_and_its_mistakes_do_not_show_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("mysql://u:pw@h/d\n")
    path = write('[database]\nurl_file = "url"\n')
    assert load_settings(path).database.url == "mysql://u:pw@h/d"
    (tmp_path / "url").write_text("hush://u:hush@h/d\n")
    [line] = mistakes(path)
    assert "database.url: is not a database URL" in line


def test_two_clients_or_collectors_of_one_name_or_network_are_refused(write: Write) -> None:
    second = CLIENT.replace("127.0.0.0/8", "192.0.2.1") + CLIENT.replace("p1", "p3").replace(
        "127.0.0.0/8", "192.0.2.1/32"
    )
    collector = '[[collectors]]\nname = "c"\nurl = "mysql://h/d"\nflavour = "radacct"\nstart = "now"\n'
    found = mistakes(write(CLIENT + second + collector * 2))
    assert [line.split(": ")[1] for line in found] == ["clients[1].name", "collectors[1].name", "clients[2].address"]


def test_media_come_by_one_way_each(write: Write) -> None:
    by_udp = '[[media]]\nname = "one"\nlisten = "[::1]:5514"\naddress = "2001:db8::/32"\n'
    path = write(by_udp + '[[media]]\nname = "two"\nfile = "cdr.log"\nrank = 2\n')
    first, second = load_settings(path).media
    assert (first.listen, first.address, first.file) == ("[::1]:5514", "2001:db8::/32", None)
    assert (second.listen, second.file, second.rank) == (None, path.parent / "cdr.log", 2)
    text = '[[media]]\nname = "one"\n[[media]]\nname = "two"\nlisten = "h:1"\n[[media]]\nname = "three"\nlisten = 1\n'
    assert [line.split(": ")[1] for line in mistakes(write(text))] == ["media[0]", "media[1].listen", "media[2].listen"]
    both = by_udp + 'file = "x"\n' + by_udp
    assert [line.split(": ", 2)[1:] for line in mistakes(write(both))] == [
        ["media[1].name", "'one' is also media[0].name"],
        ["media[1].listen", "'[::1]:5514' is also media[0].listen"],
        ["media[0]", "needs listen or file, and not both"],
    ]


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:70000", "::1:1813", "[127.0.0.1]:1", "host:1", ":1813", ""])
def test_listen_addresses_are_checked(write: Write, listen: str) -> None:
    [line] = mistakes(write(f'[receiver]\nlisten = ["{listen}"]\n'))
    assert "receiver.listen[0]" in line


def test_a_collector_starts_at_an_instant_of_toml_too(write: Write) -> None:
    text = '[[collectors]]\nname = "c"\nurl = "mysql://h/d"\nflavour = "radacct"\nstart = 2026-01-01T00:00:00Z\n'
    assert load_settings(write(text)).collectors[0].start == "2026-01-01T00:00:00+00:00"


def test_settings_cannot_be_changed(write: Write) -> None:
    settings = load_settings(write(CLIENT))
    with pytest.raises(ValueError, match="frozen"):
        settings.clients[0].rank = 2
    with pytest.raises(ValueError, match="frozen"):
        settings.clients = ()


def test_a_clients_settings_become_its_source(write: Write) -> None:
    source = source_of(load_settings(write(FULL)).clients[0])
    assert (source.id, source.name, source.kind, source.dialects) == (0, "proxy-1", "radius", ("opensips",))
    assert (source.dictionary, source.own_addresses, source.country) == ("opensips", ("127.0.0.1",), "DE")
    assert source_of(load_settings(write(FULL)).collectors[0]).kind == "sql"


def test_settings_read_nothing_behind_the_callers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLBOOK_WORKER__INTERVAL_S", "9")
    assert Settings().worker.interval_s == 5
