"""Who called whom, where a call is seen more than once."""

from cdr.call import CallState
from tests.unit.pairing.scenario import Paired


def test_inner_pass_of_a_spiral_tells_who_forwarded(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > cfubob via=bob ip=10.0.0.9 own
    10:00:00 start  c1  alice > dialled via=cfubob ip=192.0.2.1
    10:00:02 stop   c1  alice > x ip=10.0.0.9 own
    10:00:02 stop   c1  alice > x ip=192.0.2.1
    """
    [cdr] = paired.cdrs
    assert (cdr.called_uri, cdr.translated_uri, cdr.source_ip) == ("dialled", "cfubob", "192.0.2.1")
    assert (cdr.forwarder_uri, cdr.forwarded_to_uri, cdr.forwarded_via_uri) == ("dialled", "cfubob", "bob")
    assert (cdr.duration_ms, cdr.released_by, cdr.attempts, len(cdr.events)) == (2_000, "caller", 0, 4)


def test_passes_are_linked_where_the_own_addresses_are_not_known(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > +493 via=contact ip=10.0.0.9
    10:00:00 start  c1  alice > bob via=+493 ip=192.0.2.1
    10:00:02 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.called_uri, cdr.forwarder_uri, cdr.forwarded_to_uri) == ("bob", "bob", "+493")
    assert cdr.forwarded_via_uri == "contact"


def test_loop_through_the_proxy_is_not_a_forwarding(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > sip:bob@lab via=sip:bob@lab ip=192.0.2.1
    10:00:00 start  c1  alice > sip:bob@lab via=sip:bob@10.0.0.1 ip=10.0.0.9 own
    10:00:02 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.forwarder_uri, cdr.source_ip, cdr.translated_uri) == ("", "192.0.2.1", "sip:bob@lab")


def test_last_of_several_forwards_counts(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob via=carol ip=192.0.2.1
    10:00:00 start  c1  alice > carol via=dave ip=10.0.0.9 own
    10:00:00 start  c1  alice > dave via=contact ip=10.0.0.9 own
    10:00:02 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.called_uri, cdr.forwarder_uri, cdr.forwarded_to_uri) == ("bob", "carol", "dave")
    assert (cdr.forwarded_via_uri, cdr.flags) == ("contact", ("several_forwards",))


def test_passes_that_nothing_links_forward_nothing(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob via=x ip=192.0.2.1
    10:00:00 start  c1  alice > carol via=y ip=192.0.2.2
    10:00:02 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.forwarder_uri, cdr.flags) == ("", ("passes_unlinked",))


def test_inner_pass_alone_tells_that_it_was_forwarded_but_not_by_whom(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > +493 via=gw ip=10.0.0.9 own divert=unconditional
    10:00:02 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.forwarder_uri, cdr.forwarded_to_uri, cdr.forwarded_via_uri) == ("", "+493", "gw")
    assert cdr.flags == ("outer_pass_missing",)


def test_forwarded_call_that_fails_names_the_dialled_party(paired: Paired) -> None:
    """
    10:00:00 failed  c1  alice > +493 via=gw ip=10.0.0.9 own 486
    10:00:00 failed  c1  alice > bob via=+493 ip=192.0.2.1 486
    """
    [cdr] = paired.cdrs
    assert (cdr.called_uri, cdr.forwarder_uri, cdr.sip_code) == ("bob", "bob", 486)


def test_complete_records_of_a_spiral_are_passes_too(paired: Paired) -> None:
    """
    10:00:00 complete  c1  alice > +493 via=gw ip=10.0.0.9 own 2003ms
    10:00:00 complete  c1  alice > bob via=+493 ip=192.0.2.1 2004ms
    """
    [cdr] = paired.cdrs
    assert (cdr.called_uri, cdr.forwarder_uri, cdr.duration_ms) == ("bob", "bob", 2_004)


def test_best_ranked_source_gives_parties_and_duration(paired: Paired) -> None:
    """
    10:00:00 start     c1  alice > bob at=proxy rank=2
    10:01:00 stop      c1  at=proxy rank=2
    10:00:00 complete  c1  +491 > +492 at=sql rank=1 61500ms
    """
    [cdr] = paired.cdrs
    assert (cdr.caller_uri, cdr.duration_ms, cdr.stop_cause, cdr.source) == ("+491", 61_500, "complete", "sql")
    assert cdr.flags == ()


def test_two_proxies_that_see_one_call_are_not_passes(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob via=carol ip=192.0.2.1 at=edge rank=1
    10:00:00 start  c1  alice > carol via=dave ip=10.0.0.1 at=core rank=2
    10:01:00 stop   c1  at=edge rank=1
    10:01:01 stop   c1  at=core rank=2
    """
    [cdr] = paired.cdrs
    assert (cdr.called_uri, cdr.forwarder_uri, cdr.duration_ms, cdr.source) == ("bob", "", 60_000, "edge")


def test_two_hosts_behind_one_client_entry_are_not_passes(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob via=carol ip=192.0.2.1 nas=b
    10:00:00 start  c1  alice > carol via=dave ip=10.0.0.1 own nas=a
    10:01:00 stop   c1  nas=a
    10:01:01 stop   c1  nas=b
    """
    [cdr] = paired.cdrs
    assert (cdr.called_uri, cdr.forwarder_uri) == ("bob", "")


def test_answer_and_end_of_one_clock_come_before_a_better_rank(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob at=one rank=1
    10:00:05 start  c1  a > b at=two rank=2
    10:01:00 stop   c1  at=two rank=2
    """
    [cdr] = paired.cdrs
    assert (cdr.caller_uri, cdr.duration_ms, cdr.flags) == ("alice", 55_000, ())


def test_duration_across_two_clocks_is_flagged(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob at=one
    10:01:00 stop   c1  at=two
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.flags) == (60_000, ("two_clocks",))


def test_sources_that_disagree_are_told(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob at=one rank=1
    10:01:00 stop   c1  at=one rank=1
    10:00:00 start  c1  alice > bob at=two rank=2
    10:02:00 stop   c1  at=two rank=2
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.flags) == (60_000, ("sources_disagree",))


def test_egress_source_does_not_name_the_parties(paired: Paired) -> None:
    """
    10:00:00 start  c1  a > b at=outer egress rank=1
    10:00:00 start  c1  alice > bob at=inner rank=2
    10:01:00 stop   c1  at=inner rank=2
    """
    [cdr] = paired.cdrs
    assert (cdr.caller_uri, cdr.source, cdr.role) == ("alice", "inner", "access")


def test_later_evidence_of_a_weaker_source_changes_nothing_but_the_evidence(paired: Paired) -> None:
    """
    10:00:00 start     c1  alice > bob at=one rank=1
    10:01:00 stop      c1  at=one rank=1
    10:00:01 complete  c1  a > b at=two rank=2 60100ms
    """
    [cdr] = paired.cdrs
    assert (cdr.caller_uri, cdr.duration_ms, cdr.stop_cause, cdr.state) == ("alice", 60_000, "bye", CallState.CLOSED)
