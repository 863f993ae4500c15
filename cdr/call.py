"""A call as pairing leaves it: open, closed or an exception, with the journal positions of its evidence.

Pure values; nothing here decides anything.
"""

from enum import StrEnum
from typing import NamedTuple


class CallState(StrEnum):
    OPEN = "open"  # waits for more, or for its time (due_us)
    CLOSED = "closed"  # a CDR
    EXCEPTION = "exception"  # no CDR can be made of it: reason tells why


class Call(NamedTuple):
    """One call. Times are epoch microseconds UTC; None where unknown."""

    state: CallState
    key: str  # the group key: Call-ID, or NAS and session id
    call_id: str
    from_tag: str
    to_tag: str
    source_id: int  # of the record that names the parties
    source: str
    role: str
    nas: str
    events: tuple[int, ...]  # journal positions of all kept evidence, ascending
    attempts: int = 0  # how many of them belong to attempts (failed branches, other answered dialogs)
    caller_uri: str = ""
    called_uri: str = ""
    translated_uri: str = ""
    auth_user: str = ""
    billing_party: str = ""
    from_user: str = ""
    source_ip: str = ""
    forwarder_uri: str = ""  # who forwarded: the called party of the outer pass
    forwarded_to_uri: str = ""  # the number the forwarded leg went to: called party of the inner pass
    forwarded_via_uri: str = ""  # where the proxy sent the forwarded leg
    started_us: int | None = None
    answered_us: int | None = None
    ended_us: int | None = None
    reported_us: int = 0  # the latest event's own time
    setup_ms: int | None = None
    duration_ms: int = 0
    disposition: str = ""
    sip_code: int | None = None
    stop_cause: str = ""
    released_by: str = "unknown"
    exceptions: tuple[str, ...] = ()  # reason codes shown on the CDR: no_stop, ...
    flags: tuple[str, ...] = ()  # notes that need nobody: multi_answer, two_clocks, ...
    reason: str = ""  # of an EXCEPTION: stop_without_start, negative_duration ...
    due_us: int | None = None  # of an OPEN call: when to look again if nothing comes


class PairedGroup(NamedTuple):
    """All calls of one group key, and the events that said nothing new."""

    calls: tuple[Call, ...]
    duplicates: tuple[int, ...]  # journal positions that are not kept
