"""Reports of MediaProxy relays -> AccountingEvent: how long the streams of a call lasted, and why they ended. Pure.

Never says that a call began or ended; pairing draws what follows.
"""

from accounting.event import AccountingEvent, EventKind, Untranslatable
from accounting.sources.fields import INTERIM, NAS_OFF, NAS_ON, Plan, Report, Row, Setup, stamp
from accounting.sources.sip import nas_event, nas_of, status_of
from accounting.sources.text import text_of
from accounting.sources.values import duration, event_time, integer


def translate_media(report: Report, row: Row, setup: Setup, plan: Plan) -> AccountingEvent | Untranslatable:
    """Return the event of a relay's update."""
    status = status_of(report, row, plan)
    if isinstance(status, Untranslatable):
        return status
    if status in (NAS_ON, NAS_OFF):
        return nas_event(EventKind.NAS_ON if status == NAS_ON else EventKind.NAS_OFF, report, row, setup)
    if status != INTERIM:
        return Untranslatable(row.ref, "unknown_status_type", f"a media proxy sends no Acct-Status-Type {status}")
    call_id = text_of(report.call_id)
    if not call_id:
        return Untranslatable(row.ref, "no_call_id", "no Acct-Session-Id on a report of a call")
    flags: list[str] = []
    at_us = event_time(report.stamp, row.received_us, flags)
    length_ms = duration(integer(report.session_time, flags), flags)
    source = setup.source
    return AccountingEvent(
        # Acct-Delay-Time is the post dial delay here: it must not be taken off
        *stamp(row, source, EventKind.MEDIA, row.received_us if at_us is None else at_us),
        call_id=call_id,
        from_tag=text_of(report.from_tag),
        to_tag=text_of(report.to_tag),
        nas=nas_of(report, row),
        timed=at_us is not None,
        auth_user=text_of(report.user),
        duration_ms=length_ms,
        media_info=text_of(report.media_info),
        flags=tuple(flags),
    )
