"""Nothing that a source can send makes translation raise, and what comes out fits where it goes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable, group_key, key_hash
from accounting.sources import translate
from accounting.sources.describe import describe
from tests.support.radius import SECRET, body, sign, vsa
from tests.unit.sources.rows import ARRIVED, ARRIVED_US, captures, row, source

CAPTURED = [(captured.raw, captured.received_us) for capture in captures() for captured in capture.rows]
TEXT_MAX = 4 * 253  # octets of a value, each perhaps written as \xNN
DIALECTS = ("opensips", "kamailio", "mediaproxy", "generic", "cisco", "asterisk", "freeswitch")
NUMBERS = [1, 4, 6, 26, 30, 31, 32, 40, 41, 44, 46, 49, 55, 95, *range(101, 110), *range(204, 237)]

sources = st.builds(
    lambda dialects, dictionary, own: source(*dialects, dictionary=dictionary, own_addresses=own),
    st.lists(st.sampled_from(DIALECTS), min_size=1, max_size=5, unique=True),
    st.sampled_from(["", "opensips", "classic"]),
    st.sampled_from([(), ("127.0.0.1", "10.0.0.0/8", "2001:db8::/32")]),
)
integers = st.one_of(
    st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 3, 7, 8, 15, 200, 486, ARRIVED, 2**31, 2**32 - 1])
)
values = st.one_of(integers, st.binary(max_size=253), st.text(max_size=60).map(lambda text: text.encode()[:253]))
WRITTEN = (
    "ANSWERED", "BUSY", "2027-01-15 07:58:50 +0000", "2027-01-15T07:58:50.250000+0518", "1970-01-01 00:00:00 +0000",
    "*07:58:50.250 CET Fri Jan 15 2027", "h323-conf-id=1 2 3 4", "answer", "Telephony", "h323-connect-time=x", "1C",
    "outbound", "PJSIP/alice-0000002a", "99:99:99.9 +9999 Foo 99 9999", "192.0.2.1:1720",
    "\u0661\u0662:\u0663\u0664:\u0665\u0666 UTC Jan \u0661 \u0662\u0660\u0662\u0667",
)  # fmt: skip
written = st.one_of(
    integers,
    st.binary(max_size=200),
    st.sampled_from(WRITTEN),
    st.text(alphabet="0123456789:.+-*TZ UTCJan", max_size=40),
)
of_vendors = st.builds(
    vsa,
    st.sampled_from([9, 4923, 22736, 27880, 1]),
    st.sampled_from([1, 2, 4, 5, 8, 13, 15, *range(20, 36), *range(101, 119)]),
    written,
)
bodies = st.one_of(
    st.tuples(st.sampled_from([1, 2, 3, 7, 8, 15]), st.lists(of_vendors, max_size=15), st.integers(0, 2**32 - 1)).map(
        lambda told: body([(40, told[0]), (44, "c1"), *told[1], (46, told[2]), (8, told[2])])
    ),
    st.lists(st.tuples(st.sampled_from(NUMBERS), values), max_size=25).map(body),
    st.lists(st.tuples(st.integers(0, 255), values), max_size=10).map(body),
    st.tuples(
        st.sampled_from([1, 2, 3, 7, 8, 15]), st.lists(st.tuples(st.sampled_from(NUMBERS), values), max_size=12)
    ).map(lambda pair: body([(40, pair[0]), (44, "c1"), *pair[1]])),
    st.binary(max_size=300),
)


def holds(raw: bytes, by: Source, received_us: int = ARRIVED_US) -> None:
    got = translate(row(raw, received_us=received_us), by)
    describe(raw, by)
    if isinstance(got, Untranslatable):
        assert got.ref == 7
        assert got.reason
        return
    assert isinstance(got, AccountingEvent)
    assert got.call_id or got.kind in (EventKind.NAS_ON, EventKind.NAS_OFF)
    assert got.sip_code is None or 100 <= got.sip_code <= 699
    assert got.kind is not EventKind.COMPLETE or got.duration_ms is not None
    for text in got:
        if isinstance(text, str):
            assert len(text) <= TEXT_MAX
            assert len(text.splitlines()) <= 1
    key_hash(group_key(got))


@given(bodies, sources)
@settings(max_examples=500)
def test_any_attributes(octets: bytes, by: Source) -> None:
    holds(sign(octets[:4000], SECRET), by)


@given(st.binary(max_size=600), sources)
def test_any_octets(raw: bytes, by: Source) -> None:
    holds(raw, by)


@given(st.data(), sources)
@settings(max_examples=300)
def test_captured_datagrams_with_octets_changed(data: st.DataObject, by: Source) -> None:
    raw, received_us = data.draw(st.sampled_from(CAPTURED))
    changed = bytearray(raw)
    for place, octet in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        changed[place] = octet
    holds(bytes(changed), by, received_us)


@given(st.sampled_from(CAPTURED), st.integers(0, 500), sources)
def test_captured_datagrams_cut_short(captured: tuple[bytes, int], size: int, by: Source) -> None:
    holds(captured[0][:size], by, captured[1])


@given(st.binary(max_size=40), st.binary(max_size=20))
def test_any_peer(peer: bytes, octets: bytes) -> None:
    translate(row(sign(body([(40, 1), (44, "c1"), (105, "f")]), SECRET), peer=peer), source())
