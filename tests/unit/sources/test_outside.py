"""Whatever comes from outside, in whatever number, gives what is defined, in bounded time: targets of tests/fuzz."""

import json
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

FINDS = Path(__file__).parents[2] / "data" / "fuzz"
EXAMPLES = 60
BIG_S_MAX = 5.0
"""For half a mebibyte of the worst; it takes tenths of a second, and took minutes where a find was quadratic."""
NUMBERS = st.sampled_from(["0", "1", "200", "²", "١", "-1", "1e9", "4" * 30, "2026-11-24 08:07:43", "1795504063.5", ""])
VALUES = st.one_of(
    NUMBERS, st.text(max_size=40), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(NUMBERS)
)
COLUMNS = st.sampled_from(
    [
        "method", "callid", "sip_code", "time", "duration", "ms_duration", "setuptime", "created", "start_time",
        "end_time", "acctsessionid", "acctstarttime", "acctstoptime", "acctsessiontime", "time_attr", "time_exten",
    ]
)  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_what_real_programs_send(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_found(name: str) -> None:
    for find in sorted((FINDS / name).glob("*")):
        TARGETS[name](find.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_real_octets_changed_cut_and_repeated(name: str) -> None:
    real = [seed for seed in seeds(name) if seed]

    @settings(max_examples=EXAMPLES)
    @given(st.data())
    def changed(data: st.DataObject) -> None:
        octets = bytearray(data.draw(st.sampled_from(real)))
        for at, octet in data.draw(
            st.lists(st.tuples(st.integers(0, len(octets) - 1), st.integers(0, 255)), max_size=8)
        ):
            octets[at] = octet
        start, end = sorted((data.draw(st.integers(0, len(octets))), data.draw(st.integers(0, len(octets)))))
        octets[end:end] = octets[start:end] * data.draw(st.integers(0, 3))
        TARGETS[name](bytes(octets))
        TARGETS[name](bytes(octets[:end]))

    changed()


@pytest.mark.parametrize("name", TARGETS)
def test_any_octets(name: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(st.binary(max_size=600))
    def anything(octets: bytes) -> None:
        TARGETS[name](octets)

    anything()


@settings(max_examples=300)
@given(st.dictionaries(COLUMNS, VALUES))
def test_any_values_of_columns(row: dict[str, object]) -> None:
    TARGETS["sql_columns"](json.dumps(row).encode())


WORST = [
    ("datagram", b"\x01\x02"),
    ("stream", b"\x04\x01\x00\x14"),
    ("attributes", b"\x1a\x06\x00\x00\x00\x09"),
    ("capture", b"\x00" * 16),
    ("captured_frame", b"\x81\x00\x00\x01"),
    ("dictionary", b"ATTRIBUTE A# # string\nVALUE A# V# 1\n"),
    ("sql_row", b"["),
    ("sql_columns", b"=3D\x00"),
    ("media_line", b"ml#_termination=T, ml#_local_tag=t, ml#_midx1_rtp_last_packet=1795505118, "),
    ("media_line", b"ci="),
    ("operator", b'{"a":'),
    ("hexadecimal", b"\n \n"),
]
"""What is repeated, # being its number."""


@pytest.mark.parametrize("worst", WORST, ids=lambda worst: f"{worst[0]}-{worst[1].hex()[:12]}")
def test_much_of_the_worst_takes_bounded_time(worst: tuple[str, bytes]) -> None:
    name, part = worst
    octets = b"".join(part.replace(b"#", b"%d" % number) for number in range(512 * 1024 // len(part)))
    began = process_time()
    TARGETS[name](octets)
    assert process_time() - began < BIG_S_MAX
