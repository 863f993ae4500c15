"""Each finding of `tollbook check sources`: a source with that habit shows it, a source without a fault shows none."""

import re
from pathlib import Path

import pytest

from accounting.event import Source
from cdr.source_findings import Expected
from tests.unit.checks.habits import (
    ACC,
    CDRS,
    FAILED,
    GATEWAY,
    HOUR,
    KAMAILIO,
    OPENSIPS,
    RADACCT,
    RELAY,
    START,
    STOP,
    Report,
    acc,
    bye,
    calls,
    codes,
    complete,
    found,
    invite,
    packet,
    row,
    session,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "check-sources.md"
LONG = "x" * 60
BOTH = ("INVITE", "BYE")
CDR_ROW = row(
    "acc_cdrs", 9, callid="c1", start_time="2026-11-24 06:00:00", end_time="2026-11-24 06:00:09", duration="9"
)
SESSIONS = [session(f"s{n}", n * 60 + late, status) for n in range(5) for late, status in ((0, START), (30, STOP))]


def test_sources_without_a_fault_give_no_finding() -> None:
    failed = [invite("busy", 10, FAILED, 486), packet(11, (40, FAILED), (204, 256), (205, 200), (44, "m"), (206, "f"))]
    boot = packet(0, (40, 7), (44, "boot"))
    rows = [acc(f"c{n}", method, n * 60 + late) for n in range(5) for late, method in ((0, "INVITE"), (30, "BYE"))]
    assert found((OPENSIPS, [*calls(6), *failed]), (GATEWAY, [boot, *SESSIONS]), (ACC, rows)) == []


def test_a_callees_bye_is_no_fault() -> None:
    reports = [r for n in range(6) for r in (invite(f"c{n}", n * 60), bye(f"c{n}", n * 60 + 9, _206="t", _207="f"))]
    assert found((OPENSIPS, reports)) == []


def many(*reports: Report) -> list[Report]:
    return [*calls(5), *reports]


HABITS: list[tuple[str, Source, list[Report], str]] = [
    ("no_stop", OPENSIPS, [invite(f"c{n}", n) for n in range(5)], 'do_accounting("aaa");'),
    ("no_stop", ACC, [acc(f"c{n}", "INVITE", n) for n in range(5)], 'do_accounting("db");'),
    ("stop_without_start", OPENSIPS, [bye(f"c{n}", n) for n in range(5)], "missed|failed"),
    ("no_tags", OPENSIPS, calls(5, without=(206, 207)), "Sip-From-Tag  206"),
    ("no_tags", CDRS, [CDR_ROW] * 3, "from_tag=$dlg_var(from_tag)"),
    ("no_source_ip", ACC, [acc(f"c{n}", m, n, src_ip=None) for n in range(5) for m in BOTH], "$acc_extra(src_ip)"),
    ("call_id_cut", ACC, [acc(f"{LONG}{n:04d}", m, n) for n in range(5) for m in BOTH], "callid VARCHAR(255)"),
    ("tag_cut", ACC, [acc(f"c{n}", m, n, from_tag=f"{LONG}{n:04d}") for n in range(5) for m in BOTH],
     "from_tag VARCHAR(255)"),
    ("duration_includes_ringing", CDRS, [CDR_ROW], '"cdr_start_on_confirmed", 1)'),
    ("no_event_timestamp", OPENSIPS, calls(5, without=(55,)), "Event-Timestamp  55  date"),
    ("bad_timestamp", OPENSIPS, many(invite("c9", 9, _55=1000)), "set-ntp true"),
    ("failed_twice", OPENSIPS, many(invite("b", 9, FAILED, 486), invite("b", 9, FAILED, 486)), '"failed");'),
    ("cdr_mode", OPENSIPS, [complete(f"c{n}", n * 60) for n in range(5)], "bye-on-timeout"),
    ("unknown_attributes", OPENSIPS, many(invite("c9", 9, _249="?")), "dictionary ="),
    ("wrong_dictionary", OPENSIPS._replace(dictionary="classic"), calls(5), 'dictionary = "opensips"'),
    ("wrong_dictionary", GATEWAY, calls(5), 'dictionary = "opensips"'),
    ("no_sip_attributes", KAMAILIO, [session("c1", 9, START)], "Sip-Method         101"),
    ("early_media", OPENSIPS, many(invite("c1", 9, FAILED, 183)), '"early_media", 0)'),
    ("no_source_ip", OPENSIPS, calls(5, without=(214,)), "src->Source-IP"),
    ("no_canonical_uri", OPENSIPS, calls(5, without=(216,)), "dialled->Canonical-URI"),
    ("no_called", OPENSIPS, calls(5, without=(30, 216)), "to->Called-Station-Id"),
    ("no_own_addresses", OPENSIPS._replace(own_addresses=()), calls(5), 'own_addresses = ["192.0.2.9"]'),
    ("nobody_identified", OPENSIPS, calls(5, without=(1, 214)), "user->User-Name"),
    ("user_from_caller", OPENSIPS, calls(5, _1="alice@lab.example"), "not $Au"),
    ("no_accounting_on", GATEWAY, SESSIONS, "Accounting-On"),
    ("absurd_duration", OPENSIPS, many(complete("c9", 9, _230=4_294_000_000)), "set-ntp true"),
    ("nonexistent_hour", ACC._replace(timezone="Europe/Berlin"),
     [row("acc", 9, method="BYE", callid="c1", time="2026-03-29 02:30:00")], 'timezone = "..."'),
    ("duration_lost", RADACCT,
     [row("radacct", 9, acctsessionid="c1", acctstarttime="2026-11-24 06:00:00", acctstoptime="2026-11-24 06:00:00")],
     "transaction mode"),
    ("stop_with_invite", OPENSIPS, many(bye("c0", 70, _204=1)), "leg_fields"),
    ("quarantined", OPENSIPS, many(packet(9, (40, 99), (44, "c9"))), "Failed  15"),
    ("quarantined", OPENSIPS, many(bye("", 70)), "Acct-Session-Id"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "source", "reports", "line"),
    HABITS,
    ids=[f"{code}-{source.name}-{n}" for n, (code, source, *_) in enumerate(HABITS)],
)
def test_a_habit_is_found_and_the_line_that_mends_it_told(
    code: str, source: Source, reports: list[Report], line: str
) -> None:
    finding = codes(source, reports)[code]
    assert line in finding.mend
    assert finding.count > 0
    assert finding.source == source.name
    assert not re.search(r"\{(name|table|address|family|ours|column)\}", finding.mend)


def test_calls_that_are_still_on_are_no_missing_stops() -> None:
    assert "no_stop" not in codes(OPENSIPS, [invite(f"c{n}", 12 * HOUR - 60 + n) for n in range(5)])


def test_calls_that_began_before_the_time_looked_at_are_no_orphans() -> None:
    assert found((OPENSIPS, [*[bye(f"old{n}", n) for n in range(5)], *calls(5)])) == []


def test_long_call_ids_are_not_cut_if_longer_ones_came() -> None:
    ids = [f"{LONG}{n:04d}" for n in range(5)] + ["x" * 65]
    assert "call_id_cut" not in codes(ACC, [acc(i, m, 9) for i in ids for m in BOTH])


def test_users_who_authenticated_are_not_taken_for_the_caller() -> None:
    reports = [*calls(5, _1="alice@lab.example"), invite("c9", 400, _1="bob"), bye("c9", 409)]
    assert "user_from_caller" not in codes(OPENSIPS, reports)


def test_an_own_address_counts_more_once_calls_were_forwarded() -> None:
    source = OPENSIPS._replace(own_addresses=())
    spiral = [invite("c0", 0, _214="192.0.2.9")]
    assert codes(source, [*calls(5), *spiral])["no_own_addresses"].severity == "problem"
    assert codes(source, calls(5))["no_own_addresses"].severity == "hint"


def test_cdr_mode_is_a_problem_once_others_saw_calls_that_it_did_not_report() -> None:
    mine = [complete(f"c{n}", n * 60) for n in range(5)]
    other = [invite(f"c{n}", n * 60 + 1) for n in range(5)]
    other += [bye(f"c{n}", n * 60 + 61) for n in range(5)] + [invite("lost", 100)]
    [finding] = [
        f for f in found((OPENSIPS, mine), (KAMAILIO._replace(dictionary="opensips"), other)) if f.code == "cdr_mode"
    ]
    assert (finding.severity, finding.count) == ("problem", 1)


def test_silent_clients_and_collectors_are_told() -> None:
    expected = [Expected(OPENSIPS, "client"), Expected(KAMAILIO, "client"), Expected(ACC, "collector")]
    told = found((OPENSIPS, calls(5)), expected=expected)
    assert [(f.source, f.code, f.severity) for f in told] == [
        ("acc-1", "silent", "problem"),
        ("proxy-2", "silent", "problem"),
    ]
    assert "collect --once" in told[0].mend
    assert "nothing came from it, while 10 reports came from others" in told[0].words
    [hint, _] = found((OPENSIPS, calls(5)), expected=expected, whole=False)
    assert hint.severity == "hint"


def test_a_silent_media_log_is_a_problem_only_while_calls_flow() -> None:
    expected = [Expected(RELAY, "media log")]
    [told] = found((OPENSIPS, calls(5)), expected=expected)
    assert (told.source, told.code, told.severity) == ("relay-1", "silent", "problem")
    assert "log-facility-cdr" in told.mend
    [quiet] = found((OPENSIPS, [invite("busy", 10, FAILED, 486)]), expected=expected)
    assert (quiet.code, quiet.severity) == ("silent", "hint")


def test_sources_that_were_never_seen_are_told_with_what_to_start() -> None:
    expected = [
        Expected(KAMAILIO, "client", False),
        Expected(ACC, "collector", False),
        Expected(RELAY, "media log", False),
    ]
    told = found((OPENSIPS, calls(5)), expected=expected, whole=False)
    assert [(f.source, f.code, f.severity) for f in told] == [
        (name, "never_seen", "problem") for name in ("acc-1", "proxy-2", "relay-1")
    ]
    words = {f.source: f.words for f in told}
    assert words["proxy-2"].endswith("nothing has ever come from it")
    assert words["acc-1"].endswith("no process has ever followed it")
    assert all(f.mend.startswith("systemctl restart tollbook") and "\n" in f.mend for f in told)


# ---- clocks


def clock_of(*late: int, source: Source = OPENSIPS, every: int = 60) -> dict[str, str]:
    """Return the clock's findings if reports arrive so many seconds after their own time, one a minute."""
    reports = [
        r for n, s in enumerate(late) for r in (invite(f"c{n}", n * every, late=s), bye(f"c{n}", n * every, late=s))
    ]
    return {code: f.words for code, f in codes(source, reports).items() if code in ("clock_off", "zone_off")}


def test_retransmission_is_no_wrong_clock() -> None:
    assert clock_of(0, 1, 6, 0, 2, 12, 0, 1) == {}


def test_a_clock_that_is_off_is_told_with_its_side() -> None:
    assert "6 min 40 s behind" in clock_of(*[400] * 8)["clock_off"]
    assert "1 min 10 s ahead" in clock_of(*[-70] * 8)["clock_off"]


def test_a_clock_on_another_zones_time_is_told() -> None:
    assert "5 h 30 min after they arrive" in clock_of(*[-19_800] * 8)["zone_off"]


def test_a_drifting_clock_is_told() -> None:
    assert "loses" in clock_of(*range(30), every=600)["clock_off"]


def test_a_collectors_wrong_time_zone_is_told() -> None:
    rows = [acc(f"c{n}", m, n * 60, late=-19_800) for n in range(6) for m in BOTH]
    finding = codes(ACC, rows)["zone_off"]
    assert "5 h 30 min east of the one in the settings" in finding.words
    assert "timezone" in finding.mend


def test_a_backlog_says_nothing_of_clocks() -> None:
    rows = [acc(f"c{n}", m, n * 60, late=40_000 - n * 60) for n in range(30) for m in BOTH]
    assert not {"zone_off", "clock_off"} & set(codes(ACC, rows))


def test_every_code_is_documented_and_tested() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    tested = {code for code, *_ in HABITS} | {"silent", "never_seen", "clock_off", "zone_off"}
    assert documented == tested
