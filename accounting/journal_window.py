"""Which journal rows arrived in a time, the newest of each writer first where there are too many. Reads only."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sqlalchemy import Connection

from accounting.db.engine import Database
from accounting.event import pack_ref, unpack_ref
from accounting.journal import JournalRow, ends, fetch, read_after

ROWS_PER_CHUNK = 5_000


class Span(NamedTuple):
    """A writer's rows behind `after` up to `last`, by seq."""

    after: int
    last: int

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.last - self.after


class Window(NamedTuple):
    """The rows to look at. `rows` of them arrived in the time, of which `looked_at` are taken."""

    spans: Mapping[int, Span]  # by writer
    rows: int
    looked_at: int


def window_since(
    database: Database, since_us: int, rows_max: int | None = None, *, until_us: int | None = None
) -> Window:
    """Return the rows that arrived since an instant and, if told, before another; of many, the newest.

    Of the newest so many of each writer as all can give. A few look-ups by key for each writer, however long the
    journal is.
    """
    with database.journal_read() as conn:
        whole: dict[int, Span] = {}
        for writer, end in ends(conn).items():
            last = end if until_us is None else _before(conn, writer, end, until_us)
            after = _before(conn, writer, last, since_us)
            if after < last:
                whole[writer] = Span(after, last)
    taken = whole if rows_max is None else _newest(whole, rows_max)
    return Window(taken, sum(span.rows for span in whole.values()), sum(span.rows for span in taken.values()))


def rows_of(database: Database, window: Window) -> Iterator[list[JournalRow]]:
    """Yield the window's rows in chunks, each writer's in order."""
    for writer, span in window.spans.items():
        yield from rows_of_writer(database, writer, span)


def rows_of_writer(
    database: Database, writer: int, span: Span, chunk: int = ROWS_PER_CHUNK
) -> Iterator[list[JournalRow]]:
    """Yield a writer's rows of a span in order, in chunks."""
    after = span.after
    while after < span.last:
        with database.journal_read() as conn:
            others = {other: last for other, last in ends(conn).items() if other != writer}
            rows = read_after(conn, {**others, writer: after}, min(chunk, span.last - after))
        yield rows
        after = unpack_ref(rows[-1].ref)[1]


def _before(conn: Connection, writer: int, last: int, at_us: int) -> int:
    """Return the seq of the last row up to `last` that arrived before an instant, 0 if none did.

    A writer's rows are in order of arrival, but for steps of the clock.
    """
    if not last or _arrival(conn, writer, last) < at_us:
        return last
    below, above = 0, last  # seq `below` arrived before, `above` not
    while above - below > 1:
        middle = (below + above) // 2
        if _arrival(conn, writer, middle) < at_us:
            below = middle
        else:
            above = middle
    return below


def _arrival(conn: Connection, writer: int, seq: int) -> int:
    [row] = fetch(conn, [pack_ref(writer, seq)])
    return row.received_us


def _newest(whole: Mapping[int, Span], rows_max: int) -> dict[int, Span]:
    """Return spans that hold at most rows_max rows: short ones whole, of the others equal parts from their ends."""
    taken: dict[int, Span] = {}
    left = rows_max
    order = sorted(whole, key=lambda writer: whole[writer].rows)
    for place, writer in enumerate(order):
        span = whole[writer]
        share = min(span.rows, left // (len(order) - place))
        taken[writer] = Span(span.last - share, span.last)
        left -= share
    return taken
