"""What a tally of reports says about the configuration of the proxies and devices that sent them. Pure.

Judges habits, never a single call; what one report cannot prove needs several.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from accounting.event import EventKind, Source
from cdr.pairing_evidence import SECOND_US
from cdr.source_clock import clock_findings
from cdr.source_mends import flavour_of, mend_of
from cdr.source_tally import CUT_AT, Tally

FEW = 3  # so many reports show a habit
MOST = 0.5
CALL_US = 3600 * SECOND_US  # a call seldom lasts longer: its beginning may lie before what was looked at
LOST_US = 4 * CALL_US  # a call that nobody ended by then has lost its BYE
STOP_WAIT_US = 600 * SECOND_US  # an answered call may still be on
NUMBERS_SHOWN_MAX = 20


class Severity(StrEnum):
    PROBLEM = "problem"  # calls or money are lost or wrong
    HINT = "hint"  # less is known than could be
    NOTE = "note"  # nothing is lost


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a source's configuration gets wrong."""

    source: str
    code: str
    severity: Severity
    count: int  # reports, calls or values that show it
    words: str
    mend: str


class Expected(NamedTuple):
    """A client, collector or media log of the settings."""

    source: Source
    kind: str  # client | collector | media log
    is_known: bool = True  # to the journal, from a report or a process that follows it


_QUARANTINE_WORDS = {
    "dialect_unsupported": "what they mean is not known for this dialect",
    "unknown_status_type": "their Acct-Status-Type is not known",
    "no_call_id": "they name no call",
    "bad_dictionary": "the dictionary of the settings cannot be used",
    "bad_packet": "their attributes are malformed",
    "bad_attribute": "a value has an impossible length",
    "bad_row": "the row lacks a time or duration that can be read",
}
_FLAGS: dict[str, tuple[Severity, str]] = {
    "bad_timestamp": (
        Severity.PROBLEM,
        "reports carry a time before 2000 or more than a day after their arrival: their arrival is used instead",
    ),
    "absurd_duration": (
        Severity.PROBLEM,
        "durations are longer than 24 days, as after a clock that was set back: those calls are exceptions",
    ),
    "nonexistent_hour": (
        Severity.PROBLEM,
        "rows tell local times that the collector's time zone leaves out in spring: it is not the proxy's zone",
    ),
    "duration_includes_ringing": (
        Severity.PROBLEM,
        "rows of acc_cdrs begin at the INVITE, so that their durations hold the ringing: only their end is used",
    ),
    "duration_lost": (
        Severity.PROBLEM,
        "rows of radacct end when they begin: FreeRADIUS does not keep the durations of OpenSIPS' CDR mode",
    ),
    "stop_with_invite": (Severity.HINT, "Stops are about an INVITE and tell no duration, as no proxy sends by itself"),
}


def findings(
    tallies: Mapping[str, Tally], expected: Sequence[Expected], *, is_whole: bool, now_us: int
) -> list[Finding]:
    """Return what is wrong, the worst first within each source, in the order of sources.

    `is_whole`: all reports of the time in question were counted, so that a source without any is truly silent.
    """
    order = list(Severity)
    found = [
        finding
        for tally in tallies.values()
        for rule in _RULES
        for finding in rule(tally, tallies if rule is _cdr_mode else {}, now_us)
    ]
    found += [_silent(one, tallies, is_whole=is_whole) for one in expected if one.source.name not in tallies]
    return sorted(found, key=lambda finding: (finding.source, order.index(finding.severity), finding.code))


def _silent(expected: Expected, tallies: Mapping[str, Tally], *, is_whole: bool) -> Finding:
    """Return the finding of a source without a report; a relay's log may well be silent while nobody calls."""
    source, kind, is_known = expected
    mend = mend_of("silent", source)
    severity = Severity.PROBLEM if is_whole or not is_known else Severity.HINT
    if is_known:
        words = "nothing came from it" + ("" if is_whole else " among the reports looked at")
        others = sum(tally.reports for tally in tallies.values())
        words += f", while {others} report{' came' if others == 1 else 's came'} from others" if others else ""
        if kind == "media log" and not any(tally.answered or tally.complete for tally in tallies.values()):
            severity = Severity.HINT
    else:
        words = "nothing has ever come from it" if kind == "client" else "no process has ever followed it"
        mend = f"systemctl restart tollbook        # settings are read at the start; then\n{mend}"
    code = "silent" if is_known else "never_seen"
    return Finding(source.name, code, severity, 0, f"the {kind} is in the settings, and {words}", mend)


def _finding(tally: Tally, code: str, severity: Severity, count: int, words: str, **names: str) -> Finding:
    return Finding(tally.source.name, code, severity, count, words, mend_of(code, tally.source, **names))


# ---- beginnings and ends

_Others = Mapping[str, Tally]


def _ends(tally: Tally, _: _Others, now_us: int) -> Iterator[Finding]:
    if "kamailio-cdrs" in tally.source.dialects:
        return  # tells a call in one row
    old = sum(at_us < now_us - STOP_WAIT_US for at_us in tally.answered.values())
    if old >= FEW and not tally.stopped and not tally.complete:
        words = f"{old} calls were answered, and no end of any call was ever reported: none can be charged"
        yield _finding(tally, "no_stop", Severity.PROBLEM, old, words)
    since_us = tally.first_us + CALL_US if tally.answered else 0
    ended = [call_id for call_id, at_us in tally.stopped.items() if at_us > since_us]
    orphans = sum(call_id not in tally.answered and call_id not in tally.complete for call_id in ended)
    if orphans >= FEW and orphans > len(ended) * MOST:
        words = f"{orphans} of {len(ended)} calls whose BYE was reported have no Start: they are exceptions, not CDRs"
        yield _finding(tally, "stop_without_start", Severity.PROBLEM, orphans, words)


def _cdr_mode(tally: Tally, others: _Others, now_us: int) -> Iterator[Finding]:
    whole = tally.kinds[EventKind.COMPLETE]
    if not whole or tally.kinds[EventKind.START] or not flavour_of(tally.source).startswith("opensips"):
        return
    missing: set[str] = set()
    for other in others.values():
        ended = {c: at_us for c, at_us in other.answered.items() if c in other.stopped or at_us < now_us - LOST_US}
        ended |= other.complete
        if other is not tally and len(ended.keys() & tally.complete.keys()) > whole * MOST:
            missing |= {c for c, at_us in ended.items() if at_us >= tally.first_us and c not in tally.complete}
    words = "CDR mode: a call is reported at its end only; one that loses its BYE is never reported, unless its dialog"
    words += " was created with bye-on-timeout"
    if missing:
        words = f"{len(missing)} answered calls that other sources saw were not reported. {words}"
    severity = Severity.PROBLEM if missing else Severity.NOTE
    yield _finding(tally, "cdr_mode", severity, len(missing) or whole, words)


def _oddities(tally: Tally, _: _Others, _now_us: int) -> Iterator[Finding]:
    for flag, (severity, words) in _FLAGS.items():
        if count := tally.flags[flag]:
            yield _finding(tally, flag, severity, count, words)
    if tally.early_media:
        words = "provisional answers (183) were accounted: the answer gets the time of the 183, and"
        yield _finding(
            tally, "early_media", Severity.PROBLEM, tally.early_media, f"{words} callers pay for the ringing"
        )
    if tally.doubled_failed:
        words = "failed calls were reported twice, as missed and as failed: harmless, one CDR each"
        yield _finding(tally, "failed_twice", Severity.NOTE, tally.doubled_failed, words)
    if tally.sessions and not tally.kinds[EventKind.NAS_ON] + tally.kinds[EventKind.NAS_OFF]:
        words = "no Accounting-On came: if it never does, sessions cut off by a restart stay open until max_age_s"
        yield _finding(tally, "no_accounting_on", Severity.NOTE, tally.sessions, words)


# ---- what is lost on the way


def _identifiers(tally: Tally, _: _Others, _now_us: int) -> Iterator[Finding]:
    if tally.tagless >= FEW:
        words = "reports of answered calls lack a tag: forked calls cannot be told apart"
        yield _finding(tally, "no_tags", Severity.PROBLEM, tally.tagless, words)
    severity = Severity.PROBLEM if tally.source.kind == "sql" else Severity.HINT
    for code, full, longest, what in (
        ("call_id_cut", tally.full_ids, tally.longest_id, "Call-IDs"),
        ("tag_cut", tally.full_tags, tally.longest_tag, "tags"),
    ):
        if len(full) >= FEW and longest == CUT_AT:
            words = (
                f"{len(full)} {what} are exactly {CUT_AT} characters long and none is longer: they are cut, most likely"
            )
            yield _finding(tally, code, severity, len(full), words)


def _attributes(tally: Tally, _: _Others, _now_us: int) -> Iterator[Finding]:
    source = tally.source
    if tally.strangers:
        family = tally.family_of_strangers.most_common(1)
        count = tally.strangers
        if family:
            words = f"reports carry SIP attributes by the numbers of dictionary {family[0][0]!r}, and the settings"
            words += " read them by others: methods, codes and tags are lost"
            yield _finding(tally, "wrong_dictionary", Severity.PROBLEM, count, words, family=family[0][0])
        else:
            words = "reports carry no SIP attribute: the proxy's own dictionary does not name them"
            yield _finding(tally, "no_sip_attributes", Severity.PROBLEM, count, words)
    elif tally.unknown:
        numbers = ", ".join(map(str, sorted(tally.unknown)[:NUMBERS_SHOWN_MAX]))
        words = f"attributes that this client's dictionary does not know are kept and not used: {numbers}"
        yield _finding(tally, "unknown_attributes", Severity.NOTE, max(tally.unknown.values()), words)
    for reason, (count, detail) in sorted(tally.unreadable.items()):
        words = f"reports are in quarantine ({reason}): {_QUARANTINE_WORDS.get(reason, 'they cannot be read')}"
        mend = mend_of(reason, source) or "tollbook quarantine list        # tells each, and why"
        yield Finding(source.name, "quarantined", Severity.PROBLEM, count, f"{words}; the first: {detail}", mend)


# ---- who calls whom


def _parties(tally: Tally, _: _Others, _now_us: int) -> Iterator[Finding]:
    source, lacking, invites = tally.source, tally.lacking, tally.invites
    if not invites:
        return
    is_proxy = flavour_of(source) not in ("", "-sql") and "kamailio-cdrs" not in source.dialects
    if lacking["called"] > invites * MOST:
        words = f"{lacking['called']} of {invites} calls do not say who was called: they cannot be priced"
        yield _finding(tally, "no_called", Severity.PROBLEM, lacking["called"], words)
    elif is_proxy and lacking["canonical"] > invites * MOST:
        words = f"{lacking['canonical']} of {invites} calls have no Canonical-URI: where the script changes the"
        words += " Request-URI, the number dialled may be lost"
        yield _finding(tally, "no_canonical_uri", Severity.HINT, lacking["canonical"], words)
    if is_proxy and lacking["source_ip"] > invites * MOST:
        words = f"{lacking['source_ip']} of {invites} calls have no Source-IP: accounts and carriers cannot be known by"
        words += " address, and forwarded calls not by their second pass"
        yield _finding(tally, "no_source_ip", Severity.HINT, lacking["source_ip"], words)
    elif is_proxy and not source.own_addresses:
        yield _own_addresses(tally)
    if lacking["identity"] > invites * MOST and source.role == "access":
        words = (
            f"{lacking['identity']} of {invites} calls tell nothing of identify_by ({', '.join(source.identify_by)}):"
        )
        yield _finding(
            tally, "nobody_identified", Severity.PROBLEM, lacking["identity"], f"{words} nobody can be charged for them"
        )
    users = tally.users_as_caller
    if users >= FEW and not tally.users_otherwise and is_proxy and "auth_user" in source.identify_by:
        words = (
            f"User-Name is the From's user@domain in all {users} calls that have it, as $Au gives it for a caller who"
        )
        words += " was never asked for a password: anybody can write another's name there"
        yield _finding(tally, "user_from_caller", Severity.HINT, users, words)


def _own_addresses(tally: Tally) -> Finding:
    peer = tally.peers.most_common(1)[0][0] or "..."
    words = (
        "the proxy's own addresses are not in the settings: calls that it sends to itself (forwarding) are not known"
    )
    if tally.spirals:
        words = f"{tally.spirals} calls passed twice from different addresses. {words}"
    severity = Severity.PROBLEM if tally.spirals else Severity.HINT
    return _finding(tally, "no_own_addresses", severity, tally.spirals or tally.invites, words, address=peer)


# ---- clocks


def _clock(tally: Tally, _: _Others, _now_us: int) -> Iterator[Finding]:
    if tally.untimed:
        words = (
            f"{tally.untimed} reports carry no Event-Timestamp that can be used: their arrival counts, so that one that"
        )
        words += " comes late makes a call longer or shorter"
        yield _finding(tally, "no_event_timestamp", Severity.HINT, tally.untimed, words)
    for code, count, words in clock_findings(tally.clock, is_local=tally.source.kind == "sql"):
        yield _finding(tally, code, Severity.PROBLEM, count, words)


_RULES: tuple[Callable[[Tally, _Others, int], Iterator[Finding]], ...] = (
    _ends, _cdr_mode, _oddities, _identifiers, _attributes, _parties, _clock,
)  # fmt: skip
