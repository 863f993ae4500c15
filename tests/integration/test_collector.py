"""Collectors on real tables: open transactions, deleted rows, restarts of ids, and databases that go away."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.engine import make_url

from accounting.db.engine import Database
from accounting.db.foreign import ForeignAway, ForeignRefused
from accounting.db.tables import collector_position, writer
from accounting.journal import gaps
from tests.support.mariadb import Server
from tests.support.proxy import INSERT, Proxy, calls_of, read_all, rows_of
from tests.support.proxy_tables import create_tables


@pytest.fixture
def proxy(mariadb_server: Server) -> Iterator[Proxy]:
    """A MariaDB database with OpenSIPS' own tables."""
    given = Proxy(mariadb_server.create())
    with given.engine.begin() as conn:
        create_tables(conn, "opensips")
    yield given
    given.engine.dispose()
    mariadb_server.drop(given.url)


@pytest.fixture
def sqlite_proxy(tmp_path: Path) -> Iterator[Proxy]:
    """A SQLite file with a table like acc, without AUTOINCREMENT: it gives the ids of deleted rows again."""
    given = Proxy(f"sqlite:///{tmp_path}/proxy.db")
    columns = "method, from_tag, to_tag, callid CHAR(64), sip_code, time DATETIME"
    given.run(f"CREATE TABLE acc (id INTEGER PRIMARY KEY, {columns})")
    yield given
    given.engine.dispose()


@pytest.fixture
def journal_db(sqlite_url: str) -> Iterator[Database]:
    with Database(make_url(sqlite_url)) as opened:
        yield opened


def test_each_row_is_stored_once_with_its_position(proxy: Proxy, database: Database) -> None:
    proxy.add(*(f"c{n}" for n in range(120)))
    collector = proxy.collector(database)
    read_all(collector)
    collector.close()
    again = proxy.collector(database)  # as after a restart
    read_all(again)
    proxy.add("c120")
    read_all(again)
    again.close()
    assert calls_of(database) == [f"c{n}" for n in range(121)]
    with database.journal_read() as conn:
        assert gaps(conn) == []
        assert conn.execute(select(collector_position.c.table_name)).scalars().all() == ["acc", "missed_calls"]
        assert set(conn.execute(select(writer.c.kind)).scalars()) == {"collector"}


def test_row_of_a_slow_transaction_is_not_missed(proxy: Proxy, journal_db: Database) -> None:
    collector = proxy.collector(journal_db)
    with proxy.engine.connect() as slow, proxy.engine.connect() as lost:
        begin(slow, "slow")
        begin(lost, "lost")
        proxy.add("quick")
        read_all(collector)
        assert calls_of(journal_db) == ["quick"]
        slow.commit()
        lost.rollback()
        read_all(collector)
        read_all(collector)
    collector.close()
    assert calls_of(journal_db) == ["quick", "slow"]


def begin(conn: Connection, call: str) -> None:
    conn.execute(text(INSERT.format(call=call)))


def test_slow_row_is_found_after_a_restart_of_the_collector(proxy: Proxy, journal_db: Database) -> None:
    with proxy.engine.connect() as slow:
        begin(slow, "slow")
        proxy.add("quick")
        first = proxy.collector(journal_db)
        read_all(first)
        first.close()
        slow.commit()
    second = proxy.collector(journal_db)
    read_all(second)
    second.close()
    assert calls_of(journal_db) == ["quick", "slow"]


def test_gap_is_given_up_after_its_time(proxy: Proxy, journal_db: Database) -> None:
    now = [time.time_ns() // 1000]
    collector = proxy.collector(journal_db, lambda: now[0], gap_s=3600)
    with proxy.engine.connect() as slow:
        begin(slow, "slow")
        proxy.add("quick")
        read_all(collector)
        now[0] += 3601 * 1_000_000
        read_all(collector)
        slow.commit()
        read_all(collector)
    collector.close()
    assert calls_of(journal_db) == ["quick"]


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_missed_beside_writers_that_hold_transactions_open(
    proxy: Proxy, journal_db: Database, seed: int
) -> None:
    collector = proxy.collector(journal_db, batch_max=20)
    done = threading.Event()
    committed: list[str] = []

    def write(number: int) -> None:
        dice = random.Random(seed * 100 + number)
        with proxy.engine.connect() as conn:
            for turn in range(25):
                calls = [f"w{number}-{turn}-{n}" for n in range(dice.randint(1, 4))]
                for call in calls:
                    begin(conn, call)
                    if dice.random() < 0.5:
                        conn.exec_driver_sql(f"SELECT SLEEP({dice.random() * 0.02})").close()
                if dice.random() < 0.2:
                    conn.rollback()
                else:
                    conn.commit()
                    committed.extend(calls)

    def follow() -> None:
        while not done.is_set():
            collector.collect()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    reader = threading.Thread(target=follow)
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    read_all(collector)
    collector.close()
    assert Counter(calls_of(journal_db)) == Counter(committed)


def test_deleted_and_archived_rows_are_no_restart(proxy: Proxy, journal_db: Database) -> None:
    collector = proxy.collector(journal_db)
    proxy.add("a", "b", "c")
    read_all(collector)
    proxy.run("DELETE FROM acc")
    read_all(collector)
    proxy.add("d")
    read_all(collector)
    collector.close()
    assert calls_of(journal_db) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("refilled", [2, 3, 7])
def test_truncated_table_is_read_from_its_start(proxy: Proxy, journal_db: Database, refilled: int) -> None:
    collector = proxy.collector(journal_db)
    proxy.add("a", "b", "c")
    read_all(collector)
    proxy.run("TRUNCATE acc")
    proxy.add(*(f"n{n}" for n in range(refilled)))  # fewer rows than before, as many, more
    read_all(collector)
    collector.close()
    assert calls_of(journal_db) == ["a", "b", "c", *(f"n{n}" for n in range(refilled))]


def test_table_of_another_shape_is_noticed_on_the_next_connection(proxy: Proxy, journal_db: Database) -> None:
    collector = proxy.collector(journal_db)
    proxy.add("a")
    read_all(collector)
    proxy.run("DROP TABLE acc")
    with pytest.raises(ForeignRefused, match="acc"):
        collector.collect()
    with proxy.engine.begin() as conn:
        conn.exec_driver_sql("DROP TABLE missed_calls")
        create_tables(conn, "opensips", {"acc": ["src_user"]})
    proxy.add("b")
    read_all(collector)
    collector.close()
    assert calls_of(journal_db) == ["a", "b"]
    assert "src_user" in rows_of(journal_db)[1]["row"]


def test_sqlite_table_that_gives_ids_again(sqlite_proxy: Proxy, journal_db: Database) -> None:
    collector = sqlite_proxy.collector(journal_db)
    sqlite_proxy.add("a", "b", "c")
    read_all(collector)
    sqlite_proxy.run("DELETE FROM acc")
    sqlite_proxy.add("d", "e")
    read_all(collector)
    sqlite_proxy.add("f", "g")
    read_all(collector)
    collector.close()
    assert calls_of(journal_db) == list("abcdefg")


def test_missing_missed_calls_is_fine_and_a_missing_acc_is_told(sqlite_proxy: Proxy, journal_db: Database) -> None:
    sqlite_proxy.run("DROP TABLE acc")
    with pytest.raises(ForeignRefused, match="no table acc that this user may read"):
        sqlite_proxy.collector(journal_db).collect()


def test_start_now_takes_what_comes_and_what_was_still_open(proxy: Proxy, journal_db: Database) -> None:
    proxy.add("old")
    insert = INSERT.replace("'2026-03-02 10:00:00'", "UTC_TIMESTAMP()")
    with proxy.engine.connect() as slow:
        slow.execute(text(insert.format(call="slow")))
        proxy.add("older")
        collector = proxy.collector(journal_db, start="now")
        read_all(collector)
        slow.commit()
    proxy.run(insert.format(call="new"))
    read_all(collector)
    collector.close()
    assert sorted(calls_of(journal_db)) == ["new", "slow"]


def test_start_at_an_instant_in_the_proxys_time_zone(proxy: Proxy, journal_db: Database) -> None:
    for call, at in (
        ("before", "2026-03-02 09:59:59"),
        ("first", "2026-03-02 10:00:00"),
        ("then", "2026-03-02 11:00:00"),
    ):
        proxy.run(INSERT.replace("2026-03-02 10:00:00", at).format(call=call))
    collector = proxy.collector(journal_db, start="2026-03-02T04:30:00+00:00", timezone="Asia/Kolkata")
    read_all(collector)
    collector.close()
    assert calls_of(journal_db) == ["first", "then"]


def test_acc_cdrs_without_a_call_id_is_refused_with_the_line_that_adds_it(
    mariadb_server: Server, journal_db: Database
) -> None:
    proxy = Proxy(mariadb_server.create())
    with proxy.engine.begin() as conn:
        create_tables(conn, "kamailio")
    with pytest.raises(ForeignRefused, match=r'modparam\("acc", "cdr_extra", "callid=\$dlg_var\(callid\)') as told:
        proxy.collector(journal_db, flavour="kamailio-cdrs").collect()
    assert "\n" not in str(told.value)
    proxy.engine.dispose()
    mariadb_server.drop(proxy.url)


def test_wrong_column_and_missing_rights_are_one_line(proxy: Proxy, journal_db: Database) -> None:
    with pytest.raises(ForeignRefused, match="has no column src_usr"):
        proxy.collector(journal_db, columns={"caller": "src_usr"}).collect()
    proxy.run("CREATE USER IF NOT EXISTS 'nobody'@'127.0.0.1' IDENTIFIED BY 'x'")
    url = make_url(proxy.url).set(username="nobody", password="x").render_as_string(hide_password=False)
    with pytest.raises(ForeignRefused, match="grant this user SELECT") as told:
        Proxy(url).collector(journal_db).collect()
    assert "nobody:x" not in str(told.value)
    proxy.run("DROP USER 'nobody'@'127.0.0.1'")


def test_the_proxys_database_is_only_read(proxy: Proxy, journal_db: Database) -> None:
    user = f"reader{os.getpid()}"
    name = make_url(proxy.url).database
    proxy.run(
        f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'x'",
        f"GRANT SELECT ON {name}.acc TO '{user}'@'127.0.0.1'",
    )
    proxy.add("a", "b")
    url = make_url(proxy.url).set(username=user, password="x").render_as_string(hide_password=False)
    collector = Proxy(url).collector(journal_db)  # has no right on missed_calls either: as if it were not there
    read_all(collector)
    collector.close()
    proxy.run(f"DROP USER '{user}'@'127.0.0.1'")
    assert calls_of(journal_db) == ["a", "b"]


def test_database_that_is_away_is_told_once_and_read_again(
    tmp_path: Path, journal_db: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    proxy = Proxy(f"sqlite:///{tmp_path}/later.db")
    collector = proxy.collector(journal_db)
    waits = [collector.step() for _ in range(4)]
    assert waits == sorted(waits)
    assert waits[0] > 0
    with pytest.raises(ForeignAway):
        collector.collect()
    proxy.run("CREATE TABLE acc (id INTEGER PRIMARY KEY, method, from_tag, to_tag, callid, sip_code, time)")
    proxy.add("a")
    collector.step()
    collector.close()
    proxy.engine.dispose()
    assert calls_of(journal_db) == ["a"]
    assert "".join(capfd.readouterr()).count("tries again") == 1


def test_octets_and_full_columns_come_as_they_are(proxy: Proxy, journal_db: Database) -> None:
    proxy.run("ALTER TABLE acc MODIFY from_tag VARBINARY(64) NOT NULL")
    proxy.run(
        "INSERT INTO acc (method, from_tag, to_tag, callid, sip_code, time)"
        f" VALUES ('INVITE', x'66e9', 'ü', '{'x' * 64}', '200', '2026-03-02 10:00:00')"
    )
    collector = proxy.collector(journal_db)
    read_all(collector)
    collector.close()
    [said] = rows_of(journal_db)
    assert said["row"]["from_tag"] == {"hex": "66e9"}
    assert (said["row"]["to_tag"], said["full"], said["table"]) == ("ü", ["callid"], "acc")


def test_radacct_rows_are_followed_until_they_are_closed(mariadb_server: Server, journal_db: Database) -> None:
    proxy = Proxy(mariadb_server.create())
    with proxy.engine.begin() as conn:
        create_tables(conn, "radacct")
    proxy.run(
        "INSERT INTO radacct (acctsessionid, acctuniqueid, nasipaddress, acctstarttime) VALUES"
        " ('s1', 'u1', '192.0.2.1', '2026-03-02 10:00:00'), ('s2', 'u2', '192.0.2.1', '2026-03-02 10:00:01')"
    )
    collector = proxy.collector(journal_db, flavour="radacct")
    read_all(collector)
    read_all(collector)
    proxy.run(
        "UPDATE radacct SET acctstoptime = '2026-03-02 10:01:00', acctsessiontime = 60 WHERE acctsessionid = 's1'"
    )
    read_all(collector)
    collector.close()
    again = proxy.collector(journal_db, flavour="radacct")
    proxy.run("UPDATE radacct SET acctupdatetime = '2026-03-02 10:05:00' WHERE acctsessionid = 's2'")
    read_all(again)
    read_all(again)
    again.close()
    said = [
        (row["row"]["acctsessionid"], row["row"]["acctstoptime"], row["row"]["acctupdatetime"])
        for row in rows_of(journal_db)
    ]
    assert said == [
        ("s1", None, None),
        ("s2", None, None),
        ("s1", "2026-03-02 10:01:00", None),
        ("s2", None, "2026-03-02 10:05:00"),
    ]
    proxy.engine.dispose()
    mariadb_server.drop(proxy.url)
