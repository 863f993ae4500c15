"""A proxy's own database for tests of collectors, and what a collector stored of it."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.engine import make_url

from accounting.base.config import CollectorSettings
from accounting.collector import Collector
from accounting.db.engine import Database
from accounting.db.tables import journal

INSERT = (
    "INSERT INTO acc (method, from_tag, to_tag, callid, sip_code, time)"
    " VALUES ('INVITE', 'f', 't', '{call}', '200', '2026-03-02 10:00:00')"
)


class Proxy:
    """A proxy's database."""

    def __init__(self, url: str) -> None:
        self.url = url
        driver = make_url(url)
        self.engine: Engine = create_engine(
            driver if url.startswith("sqlite") else driver.set(drivername="mysql+mysqldb"), pool_size=20
        )

    def run(self, *statements: str) -> None:
        with self.engine.begin() as conn:
            for statement in statements:
                conn.exec_driver_sql(statement)

    def add(self, *calls: str) -> None:
        self.run(*(INSERT.format(call=call) for call in calls))

    def collector(self, database: Database, clock: Callable[[], int] | None = None, **more: Any) -> Collector:
        known: dict[str, Any] = {"name": "lab", "url": self.url, "flavour": "opensips", "start": "all", "batch_max": 50}
        made = CollectorSettings(**(known | more))
        return Collector(database, made, clock=clock) if clock else Collector(database, made)


def read_all(collector: Collector) -> None:
    while collector.collect():
        pass


def rows_of(database: Database) -> list[dict[str, Any]]:
    with database.journal_read() as conn:
        return [
            json.loads(raw)
            for raw in conn.execute(select(journal.c.raw).order_by(journal.c.writer, journal.c.seq)).scalars()
        ]


def calls_of(database: Database) -> list[str]:
    return [row["row"]["callid"] for row in rows_of(database)]
