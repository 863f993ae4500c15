"""Which of a source's dialects a packet is, where one address sends several. Pure; looks at the packet alone."""

from typing import NamedTuple

from accounting.radius.attributes import Malformed
from accounting.sources.cisco import AV_PAIR, CISCO
from accounting.sources.fields import INTERIM, SIP_DIALECTS, VENDOR_DIALECTS, Plan, Report, Setup, read


class Choice(NamedTuple):
    """A packet as its dialect reads it."""

    plan: Plan
    report: Report
    vendors: list[bytes]  # values of its Vendor-Specific attributes


def choose(raw: bytes, setup: Setup) -> Choice | Malformed | None:
    """Return the packet read by the dialect that fits it, None where none of them is translated."""
    reports: dict[bytes, Report] = {}  # by slots: dialects that share a dictionary share the reading
    vendors: list[bytes] = []
    for plan in setup.plans:
        if plan.slots not in reports:
            found = read(raw, plan)
            if isinstance(found, Malformed):
                return found
            reports[plan.slots], vendors = found
    readings = [Choice(plan, reports[plan.slots], vendors) for plan in setup.plans]
    fullest = max(reports.values(), key=_sip_traits, default=None)
    if fullest is None:
        return None
    if not _sip_traits(fullest) and (dialect := _vendor_dialect(vendors, setup)):
        return next(choice for choice in readings if choice.plan.dialect == dialect)
    dialects = {choice.plan.dialect: choice for choice in readings}
    media = dialects.get("mediaproxy")
    # A relay's tags have the numbers of its proxy's dictionary, so the reading that finds them counts
    if media is not None and _is_media(fullest, media.plan, has_generic="generic" in dialects):
        return Choice(media.plan, fullest, vendors)
    return _best(readings, _sip_traits(fullest))


def _best(readings: list[Choice], sip_traits: int) -> Choice:
    """Return the first proxy dialect whose dictionary finds the most SIP attributes; generic where there are none."""
    proxies = [choice for choice in readings if choice.plan.dialect in SIP_DIALECTS]
    others = [choice for choice in readings if choice.plan.dialect == "generic"]
    if sip_traits and proxies:
        best = max(_sip_traits(choice.report) for choice in proxies)
        if best or not others:
            return next(choice for choice in proxies if _sip_traits(choice.report) == best)
    rest = [choice for choice in readings if choice.plan.dialect not in VENDOR_DIALECTS.values()]
    return [*others, *proxies, *rest, *readings][0]


def _sip_traits(report: Report) -> int:
    """Return how many of the four SIP attributes a reading finds; a wrong family finds none, or stray ones."""
    traits = (report.method, report.code, report.from_tag, report.to_tag)
    return sum(trait is not None for trait in traits)


def _is_media(report: Report, plan: Plan, *, has_generic: bool) -> bool:
    """Return whether it is a relay's update: what only relays send, or a session time under a call's tags."""
    if report.status is None or plan.statuses.get(int.from_bytes(report.status)) != INTERIM:
        return False
    if report.method is not None or report.code is not None:
        return False
    if report.media_info is not None or report.media_codecs is not None or report.user_agents is not None:
        return True
    has_tags = report.from_tag is not None or report.to_tag is not None
    return report.session_time is not None and (has_tags or not has_generic)


def _vendor_dialect(vendors: list[bytes], setup: Setup) -> str:
    """Return the dialect that a vendor's attribute marks. A Cisco-AVPair marks none: proxies send it too."""
    for value in vendors:
        if len(value) < 5 or int.from_bytes(value[:4]) not in setup.vendors:
            continue
        if int.from_bytes(value[:4]) != CISCO or value[4] != AV_PAIR:
            return setup.vendors[int.from_bytes(value[:4])]
    return ""
