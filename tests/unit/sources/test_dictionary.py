"""Dictionaries: the packaged families, operators' own files, and definitions that cannot both be meant."""

from importlib.resources import files
from pathlib import Path

import pytest
from pyrad.packet import AcctPacket

from accounting.radius.dictionary import (
    FAMILIES,
    DictionaryError,
    decode_table,
    dictionary_text,
    family_of,
    load_family,
    read_dictionary_file,
)
from tests.support.radius import SECRET
from tests.unit.sources.rows import DATA, captures

TABLE = [line.split("\t") for line in (DATA / "radius/dictionaries.tsv").read_text("utf-8").splitlines()[1:]]


@pytest.mark.parametrize("words", TABLE, ids=lambda words: "/".join(words[:4]))
def test_families_say_what_the_clients_use(words: list[str]) -> None:
    family, kind, name, number, meaning, *vendor = (word for word in words if word)
    table = decode_table(family, "")
    if kind == "value":
        place = table.numbers[name.lower()]
        assert isinstance(place, int)
        entry = table.entries[place]
        assert entry is not None
        assert entry.values[number] == int(meaning)
    elif vendor:
        assert table.vendor_entries[int(vendor[0]), int(number)][:2] == (name, meaning)
    else:
        entry = table.entries[int(number)]
        assert entry is not None
        assert entry[:2] == (name, meaning)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_hold_the_standard_attributes(family: str) -> None:
    numbers = decode_table(family, "").numbers
    assert (numbers["user-name"], numbers["acct-session-id"], numbers["event-timestamp"]) == (1, 44, 55)
    unused = {17, 21, 26}  # 26 is the frame of vendors' attributes
    assert {*range(1, 52)} - unused <= {number for number in numbers.values() if isinstance(number, int)}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_pass_their_own_check(family: str, tmp_path: Path) -> None:
    text = files("accounting.dictionaries").joinpath(f"dictionary.{family}").read_text("utf-8")
    path = tmp_path / "dictionary"
    path.write_text(text, "utf-8")
    assert decode_table(read_dictionary_file(path), "") == decode_table(family, "")


def test_families_serve_pyrads_packets() -> None:
    dictionary = load_family("classic")
    [capture] = [c for c in captures() if (c.proxy, c.scenario) == ("kamailio", "busy_486")]
    packet = AcctPacket(dict=dictionary, secret=SECRET, packet=capture.rows[0].raw)
    assert packet.VerifyAcctRequest()
    assert packet["Sip-Response-Code"] == [486]
    assert packet["Acct-Status-Type"] == ["Failed"]


def test_family_goes_with_the_dialect_unless_set() -> None:
    assert family_of("opensips") == "opensips"
    assert family_of("kamailio") == family_of("generic") == family_of("mediaproxy") == "classic"
    assert decode_table("", "opensips") is decode_table("opensips", "kamailio")


def test_number_with_two_names_is_refused_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("ATTRIBUTE User-Name 1 string\nATTRIBUTE Digest-Response 206 string\n")
    path = tmp_path / "dictionary"
    path.write_text("# ours\n$INCLUDE base\n\nATTRIBUTE Sip-From-Tag 0xCE string\n")
    with pytest.raises(DictionaryError) as error:
        read_dictionary_file(path)
    assert str(error.value) == (
        "dictionary line 4: number 0xCE is Sip-From-Tag (string) here and Digest-Response (string) in base line 2; "
        "keep the one that this client sends"
    )


def test_number_with_two_types_is_refused() -> None:
    with pytest.raises(DictionaryError, match="line 2: number 101 is Sip-Method"):
        decode_table("ATTRIBUTE Sip-Method 101 integer\nATTRIBUTE Sip-Method 101 string\n", "")


def test_name_with_two_numbers_is_refused() -> None:
    """As in the dictionary.openser that FreeRADIUS ships."""
    with pytest.raises(DictionaryError, match="dictionary line 2: Sip-Method has another number in dictionary line 1"):
        decode_table("ATTRIBUTE Sip-Method 101 integer\nATTRIBUTE Sip-Method 204 integer\n", "")


def test_same_definition_twice_is_no_harm() -> None:
    assert decode_table("ATTRIBUTE Sip-Method 101 integer\nATTRIBUTE Sip-Method 0x65 integer\n", "").numbers == {
        "sip-method": 101
    }


def test_same_number_of_two_vendors_is_no_clash() -> None:
    text = (
        "VENDOR A 1\nVENDOR B 2\nATTRIBUTE Plain 5 string\nATTRIBUTE A-One 5 string A\n"
        "BEGIN-VENDOR B\nATTRIBUTE B-One 5 string\nEND-VENDOR B\n"
    )
    assert decode_table(text, "").numbers == {"plain": 5, "a-one": (1, 5), "b-one": (2, 5)}


def test_file_with_includes_becomes_one_text(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/sip").write_text("ATTRIBUTE Sip-Method 204 integer")
    path = tmp_path / "dictionary"
    path.write_text("$INCLUDE sub/sip\n$INCLUDE- absent\nVALUE Sip-Method Bye 8\n")
    text = read_dictionary_file(path)
    assert text == "ATTRIBUTE Sip-Method 204 integer\nVALUE Sip-Method Bye 8\n"
    assert decode_table(text, "").numbers == {"sip-method": 204}


def test_errors_of_a_file_name_it_and_its_line(tmp_path: Path) -> None:
    (tmp_path / "part").write_text("\nATTRIBUTE Sip-Method 101 nonsense\n")
    path = tmp_path / "dictionary"
    path.write_text("$INCLUDE part\n")
    with pytest.raises(DictionaryError, match=r"^part line 2: Illegal type: nonsense$"):
        read_dictionary_file(path)


@pytest.mark.parametrize("included", ["absent", "dictionary"])
def test_missing_and_recursive_includes_are_refused(tmp_path: Path, included: str) -> None:
    path = tmp_path / "dictionary"
    path.write_text(f"$INCLUDE {included}\n")
    with pytest.raises(DictionaryError, match=f"{included}"):
        read_dictionary_file(path)


def test_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DictionaryError, match=r"cannot read .*nowhere: No such file"):
        read_dictionary_file(tmp_path / "nowhere")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    """Its text would stand for the family of the dialect."""
    (tmp_path / "dictionary").write_text("# nothing\n")
    with pytest.raises(DictionaryError, match="defines no attribute"):
        read_dictionary_file(tmp_path / "dictionary")


def test_sources_keep_a_family_by_name_and_a_file_by_its_text(tmp_path: Path) -> None:
    path = tmp_path / "dictionary"
    path.write_text("ATTRIBUTE Sip-Method 101 integer\n")
    assert [dictionary_text(setting) for setting in ("", "opensips", str(path))] == ["", "opensips", path.read_text()]


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dictionary"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DictionaryError):
        read_dictionary_file(path)


@pytest.mark.parametrize(
    "text",
    [
        "ATTRIBUTE X\n",
        "ATTRIBUTE X 1 nonsense\n",
        "ATTRIBUTE X one string\n",
        "VENDOR V 1 format=\n",
        "VENDOR V 1 format\n",
        "END-VENDOR V\n",
        "$INCLUDE /etc/passwd\n",
        "  $include- x\n",
    ],
)
def test_wrong_text_is_refused(text: str) -> None:
    with pytest.raises(DictionaryError):
        decode_table(text, "")


def test_unknown_family_is_refused() -> None:
    with pytest.raises(DictionaryError, match="use opensips, classic or a file"):
        decode_table("openser", "")


def test_files_that_include_others_twice_do_not_grow_without_end(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"d{number}").write_text(f"$INCLUDE d{number + 1}\n" * 2)
    (tmp_path / "d30").write_text("# nothing\n" * 5000)
    with pytest.raises(DictionaryError, match="is larger than"):
        read_dictionary_file(tmp_path / "d0")
