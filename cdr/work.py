"""What one batch of the pipeline is made of, and how it is halved to find what cannot be made."""

from typing import NamedTuple

from accounting.journal import JournalRow


class Work(NamedTuple):
    """What one batch is made of: journal rows, and groups (key -> hash) to look at again without new events."""

    rows: tuple[JournalRow, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()
    origin: str = "events_read"  # the count that the rows are taken from: read, exception or quarantined
    gone: tuple[int, ...] = ()  # ids of exceptions (or refs of quarantined events) that the rows come from
    rate_again: frozenset[int] = frozenset()  # CDRs to rate though nothing new is known of the call
    kind: str = "process"
    nases: frozenset[str] = frozenset()  # whose calls in the groups are meant, beside those that are open
    leaves_calls: bool = False  # a NAS's restart is only noted: its calls are looked at in work of their own

    def halves(self) -> "tuple[Work, Work]":
        """Return the same work in two parts."""
        if self.rows:
            middle = len(self.rows) // 2
            first, last = self.rows[:middle], self.rows[middle:]
            if not middle:  # one row and some groups
                return self._replace(groups=()), self._replace(rows=(), gone=())
            refs = {row.ref for row in first}
            gone = set(self.gone)
            return (
                self._replace(rows=first, groups=(), gone=tuple(sorted(gone & refs))),
                self._replace(rows=last, gone=tuple(sorted(gone - refs))),
            )
        middle = len(self.groups) // 2
        return self._replace(groups=self.groups[:middle]), self._replace(groups=self.groups[middle:])

    @property
    def size(self) -> int:
        """How many things a failure could come from."""
        return len(self.rows) + len(self.groups)
