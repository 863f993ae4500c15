"""One address may send several dialects: each packet is told apart by what it holds."""

import pytest

from accounting.event import EventKind, Source
from tests.support.radius import Attribute, vsa
from tests.unit.sources.rows import BYE, CALL, CALL_ID, INTERIM, INVITE, NOW, START, STOP, TAGS, event, refused, source

ALL = source("opensips", "kamailio", "mediaproxy", "generic")
OPENSIPS_TAGS: tuple[Attribute, ...] = ((206, "f"), (207, "t"))
MEDIA: tuple[Attribute, ...] = (INTERIM, (CALL_ID, "c1"), NOW, (46, 95))


def test_media_update_tells_duration_and_why_it_ended() -> None:
    got = event(*MEDIA, *TAGS, (234, "timeout"), (233, "G711"), by=source("mediaproxy"))
    assert (got.kind, got.duration_ms, got.media_info) == (EventKind.MEDIA, 95_000, "timeout")
    assert (got.from_tag, got.to_tag, got.is_session) == ("f", "t", False)


def test_media_update_may_lack_its_to_tag_and_its_words() -> None:
    got = event(*MEDIA, (105, "f"), (104, b""), (234, b""), by=source("mediaproxy"))
    assert (got.kind, got.to_tag, got.media_info) == (EventKind.MEDIA, "", "")


def test_media_proxy_neither_begins_nor_ends_a_call() -> None:
    assert refused(START, *CALL, by=source("mediaproxy")) == "unknown_status_type"
    assert refused(STOP, *CALL, by=source("mediaproxy")) == "unknown_status_type"
    assert refused(INTERIM, NOW, by=source("mediaproxy")) == "no_call_id"
    assert event((40, 7), (32, "relay"), by=source("mediaproxy")).kind is EventKind.NAS_ON
    assert refused((40, 99), by=source("mediaproxy")) == "unknown_status_type"


@pytest.mark.parametrize("by", [ALL, source("mediaproxy", "opensips"), source("generic", "mediaproxy", "kamailio")])
@pytest.mark.parametrize("mark", [(234, "timeout"), (233, "G711"), (235, "phone/1"), (46, 95)])
def test_media_updates_are_found_among_others(by: Source, mark: Attribute) -> None:
    assert event(INTERIM, *CALL, mark, by=by).kind is EventKind.MEDIA


@pytest.mark.parametrize("tags", [TAGS, OPENSIPS_TAGS])
def test_media_updates_are_read_by_the_dictionary_of_their_proxy(tags: tuple[Attribute, ...]) -> None:
    got = event(*MEDIA, *tags, (234, "timeout"), by=ALL)
    assert (got.kind, got.from_tag, got.to_tag) == (EventKind.MEDIA, "f", "t")


def test_reinvite_is_no_media_update() -> None:
    assert event(INTERIM, INVITE, *CALL, (46, 95), by=ALL).kind is EventKind.INTERIM
    opensips: tuple[Attribute, ...] = ((204, 1), (CALL_ID, "c1"), NOW, *OPENSIPS_TAGS, (46, 95))
    assert event(INTERIM, *opensips, by=ALL).kind is EventKind.INTERIM


def test_dictionary_goes_with_the_dialect_that_fits() -> None:
    classic = event(START, INVITE, (102, 200), *CALL, by=ALL)
    opensips = event(START, (204, 1), (205, 200), (CALL_ID, "c1"), NOW, *OPENSIPS_TAGS, by=ALL)
    assert classic == opensips
    assert classic.from_tag == "f"


def test_cdr_is_found_among_others() -> None:
    cdr: tuple[Attribute, ...] = (STOP, (204, 1), (CALL_ID, "c1"), NOW, *OPENSIPS_TAGS, (230, 61_250))
    assert event(*cdr, by=ALL).kind is EventKind.COMPLETE


def test_packet_without_sip_attributes_is_generic_if_that_is_listed() -> None:
    session = (STOP, (CALL_ID, "00A1"), NOW, (46, 61))
    assert event(*session, by=ALL).is_session
    got = event(*session, by=source("opensips", "kamailio"))
    assert (got.is_session, got.flags) == (False, ("no_sip_attributes",))


def test_interim_of_a_session_is_no_media_update_where_generic_is_listed() -> None:
    session = (INTERIM, (CALL_ID, "00A1"), NOW, (46, 61))
    assert event(*session, by=source("mediaproxy", "generic")).kind is EventKind.INTERIM
    assert event(*session, by=source("mediaproxy", "opensips")).kind is EventKind.MEDIA


def test_stop_with_tags_is_generics_where_no_proxy_reads_it() -> None:
    got = event(STOP, BYE, *CALL, by=source("opensips", "generic"))
    assert (got.kind, got.from_tag, got.is_session) == (EventKind.STOP, "f", False)


def test_dialect_that_nobody_knows_stays_in_quarantine() -> None:
    assert refused(START, *CALL, by=source("something")) == "dialect_unsupported"


@pytest.mark.parametrize(
    ("dialect", "refusal"), [("cisco", "no_call_id"), ("asterisk", "bad_attribute"), ("freeswitch", "bad_attribute")]
)
def test_packets_without_their_vendors_attributes_are_set_aside(dialect: str, refusal: str) -> None:
    assert refused(STOP, *CALL, by=source(dialect)) == refusal
    assert refused((40, 99), *CALL, by=source(dialect)) == "unknown_status_type"
    assert refused((40, 15), *CALL, by=source(dialect)) == "unknown_status_type"
    assert event((40, 7), (32, "gw"), by=source(dialect)).kind is EventKind.NAS_ON
    assert event((40, 8), (32, "gw"), by=source(dialect)).kind is EventKind.NAS_OFF


@pytest.mark.parametrize(
    ("dialect", "mark"),
    [
        ("cisco", vsa(9, 24, "1 2 3 4")),
        ("cisco", vsa(4923, 24, "1 2 3 4")),
        ("asterisk", vsa(22736, 115, "BUSY")),
        ("freeswitch", vsa(27880, 13, 17)),
    ],
)
def test_packets_are_told_by_their_vendor_among_others(dialect: str, mark: Attribute) -> None:
    by = source("generic", "opensips", "mediaproxy", dialect)
    session = (STOP, (CALL_ID, "00A1"), NOW)
    assert event(*session, mark, by=by).kind is EventKind.FAILED
    assert event(*session, by=by).kind is EventKind.STOP
    assert event(*session, mark, by=source("generic")).kind is EventKind.STOP
    assert event(STOP, (204, 8), (CALL_ID, "c1"), NOW, *OPENSIPS_TAGS, mark, by=by).kind is EventKind.STOP


def test_avpair_of_a_proxy_makes_no_cisco_gateway() -> None:
    assert event(STOP, BYE, *CALL, vsa(9, 1, "leg=2"), by=source("kamailio", "cisco")).kind is EventKind.STOP
    assert event(STOP, (CALL_ID, "1"), vsa(9, 1, "leg=2"), by=source("generic", "cisco")).is_session


def test_packet_is_no_row_of_an_sql_source() -> None:
    assert refused(START, *CALL, by=source("opensips", kind="sql")) == "bad_row"


def test_source_with_a_broken_dictionary_says_where() -> None:
    assert refused(START, *CALL, by=source("kamailio", dictionary="ATTRIBUTE x\n")) == "bad_dictionary"
    assert refused(START, *CALL, by=source("kamailio", dictionary="unheard-of")) == "bad_dictionary"
