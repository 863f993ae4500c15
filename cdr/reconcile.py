"""Which stored call each freshly paired call is: keeps ids stable, finds what must go.

Pure. Evidence is owned once: each journal position by one open call, one exception or one latest CDR revision.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from accounting.event import SEQ_BITS
from cdr.call import Call


class Stored(NamedTuple):
    """What the database holds under one call id: perhaps an open call or an exception, perhaps a CDR."""

    id: int
    key: str
    nas: str = ""
    open_refs: tuple[int, ...] | None = None  # None: no such row
    open_due_us: int = 0
    exception_refs: tuple[int, ...] | None = None
    exception_reason: str = ""
    cdr_revision: int = 0  # 0: no CDR
    cdr_digest: int = 0
    cdr_refs: tuple[int, ...] = ()
    cdr_attempts: int = 0
    cdr_void: bool = False
    cdr_of_session: bool = True  # by what its CDR shows: it may be of a SIP call, or of legs, if not

    @property
    def refs(self) -> tuple[int, ...]:
        """All journal positions that this call owns."""
        return (self.open_refs or ()) + (self.exception_refs or ()) + self.cdr_refs


def concerned(
    stored: Sequence[Stored], nases: frozenset[str], of_packets: Callable[[], frozenset[int]]
) -> Sequence[Stored]:
    """Return those of a group's stored calls that sessions which packets of these NASes tell of can change.

    Gateways count their sessions from 1, so many may share an id, but packets of different NASes are told apart. A SIP
    call, and what did not come as a packet (by the writers `of_packets`), may be of any: then it is all. NASes of which
    something waits are taken too, for only its events tell what it is. All calls of a NAS are taken, or none.
    """
    nases |= {s.nas for s in stored if s.open_refs is not None or s.exception_refs is not None}
    near = [s for s in stored if s.nas in nases]
    if len(near) == len(stored):
        return stored
    packets = of_packets()
    if any(not s.cdr_of_session or any(ref >> SEQ_BITS not in packets for ref in s.refs) for s in stored):
        return stored
    return near


class Match(NamedTuple):
    """A paired call and the stored call that it continues; one of both may be missing, the id never."""

    id: int
    stored: Stored | None
    call: Call | None


def match(stored: Iterable[Stored], calls: Sequence[Call]) -> list[Match]:
    """Return each paired call with its id and the stored call that it continues, and the stored calls that are left.

    A call continues the stored call whose first event (its id) it holds; of those left, the one it shares evidence
    with. A call that continues none gets the position of its own first event as its id.
    """
    by_id = {s.id: s for s in stored}
    home = {ref: number for number, call in enumerate(calls) for ref in call.events}
    chosen: dict[int, int] = {}  # number of the call -> id
    for stored_id in sorted(by_id):
        number = home.get(stored_id)
        if number is not None and number not in chosen:
            chosen[number] = stored_id
    free = [s for s in sorted(by_id.values()) if s.id not in chosen.values()]
    for number in range(len(calls)):
        if number not in chosen:
            found = next((s for s in free if any(home.get(ref) == number for ref in s.refs)), None)
            if found is not None:
                chosen[number] = found.id
                free.remove(found)
    matches = []
    for number, call in enumerate(calls):
        call_id = chosen.get(number, call.events[0])
        matches.append(Match(call_id, by_id.get(call_id), call))
    matches.extend(Match(s.id, s, None) for s in free)
    return matches
