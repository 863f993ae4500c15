"""Which account a call is the caller's: what the proxy proved comes first, in the order of identify_by."""

import pytest

from cdr.rating.directory import FOREVER_US
from tests.unit.parties.directory import (
    ACME,
    ALPHA,
    BOBS,
    DAY_US,
    NOON_US,
    PBX,
    answered,
    decided,
    directory,
    failed,
    identity,
)

ALL = ("billing_party", "source_ip", "auth_user", "from_user", "caller_number")


def test_an_authenticated_user_pays():
    assert decided(answered()).account_id == ACME


def test_a_users_domain_has_no_case_but_his_name_has():
    assert decided(answered(auth_user="alice@LAB.Example")).account_id == ACME
    assert decided(answered(auth_user="Alice@lab.example")).account_id is None


def test_a_user_of_another_domain_is_somebody_else():
    assert decided(answered(auth_user="alice@other.example")).unrated == "account_unknown"


def test_a_user_without_a_domain_holds_in_any_and_an_exact_one_comes_first():
    assert decided(answered(auth_user="bob@anywhere.example")).account_id == BOBS
    both = directory(identity(ACME, "user", "bob@lab.example"))
    assert decided(answered(auth_user="bob@lab.example"), both).account_id == ACME
    assert decided(answered(auth_user="bob"), both).account_id == BOBS


def test_the_billing_party_comes_before_address_and_user():
    call = answered(billing_party="bob@lab.example", source_ip="192.0.2.5")
    assert decided(call).account_id == BOBS
    assert decided(call._replace(billing_party="")).account_id == PBX


def test_a_billing_party_may_be_an_accounts_name():
    assert decided(answered(billing_party="pbx")).account_id == PBX


def test_a_carriers_name_is_no_billing_party():
    assert decided(answered(billing_party="alpha", auth_user="")).account_id is None


def test_an_address_comes_before_the_user_unless_the_client_says_otherwise():
    call = answered(source_ip="192.0.2.5")
    assert decided(call).account_id == PBX
    assert decided(call, identify_by=("auth_user", "source_ip")).account_id == ACME


def test_the_callers_own_word_counts_only_where_it_is_listed():
    call = answered(auth_user="", from_user="alice@lab.example")
    assert decided(call).unrated == "account_unknown"
    assert decided(call, identify_by=ALL).account_id == ACME


def test_a_callers_number_counts_only_where_it_is_listed_and_the_longest_prefix_wins():
    known = directory(identity(ACME, "number", "+49"), identity(PBX, "number", "4930"))
    call = answered(auth_user="", caller_uri="sip:+4930999@lab.example")
    assert decided(call, known).account_id is None
    assert decided(call, known, identify_by=ALL).account_id == PBX
    assert decided(call._replace(caller_uri="tel:+4989"), known, identify_by=ALL).account_id == ACME


def test_the_longest_network_wins():
    known = directory(identity(ACME, "ip", "192.0.2.128/25"), identity(BOBS, "ip", "192.0.2.200"))
    found = [decided(answered(source_ip=f"192.0.2.{last}"), known).account_id for last in (1, 129, 200, 201)]
    assert found == [PBX, ACME, BOBS, ACME]


@pytest.mark.parametrize("source_ip", ["2001:db8:0:1::7", "2001:DB8::1:0:0:0:7", "[2001:db8:0:1::7]"])
def test_ipv6_networks_work_however_the_address_is_written(source_ip):
    known = directory(identity(PBX, "ip", "2001:db8::/32"), identity(BOBS, "ip", "2001:db8:0:1::/64"))
    assert decided(answered(source_ip=source_ip), known).account_id == BOBS


def test_an_ipv4_mapped_address_is_the_ipv4_one():
    assert decided(answered(source_ip="::ffff:192.0.2.5")).account_id == PBX
    mapped = directory(identity(BOBS, "ip", "::ffff:203.0.113.0/120"))
    assert decided(answered(source_ip="203.0.113.9"), mapped).account_id == BOBS


def test_the_whole_internet_may_be_somebodys():
    known = directory(identity(BOBS, "ip", "0.0.0.0/0"))
    assert decided(answered(source_ip="8.8.8.8", auth_user=""), known).account_id == BOBS


@pytest.mark.parametrize("source_ip", ["", "unknown", "300.1.1.1", "proxy.example"])
def test_what_is_no_address_tells_nothing(source_ip):
    assert decided(answered(source_ip=source_ip)).account_id == ACME


def test_a_carriers_address_beats_a_name_that_nobody_authenticated():
    """$Au of a call that was not authenticated is its From."""
    call = answered(source_ip="198.51.100.7", called_uri="sip:+4930111@lab.example")
    for order in (("billing_party", "source_ip", "auth_user"), ("auth_user",), ALL):
        decision = decided(call, identify_by=order)
        assert (decision.direction, decision.account_id, decision.carrier_id) == ("inbound", BOBS, ALPHA)


def test_between_a_customers_and_a_carriers_network_the_longer_one_says_who_calls():
    inside = directory(identity(ACME, "ip", "198.51.100.64/26"))
    assert decided(answered(source_ip="198.51.100.70"), inside).account_id == ACME
    around = directory(identity(ACME, "ip", "198.51.0.0/16"))
    assert decided(answered(source_ip="198.51.100.70"), around).direction == "transit"
    same = directory(identity(ACME, "ip", "198.51.100.0/24"))
    assert decided(answered(source_ip="198.51.100.70"), same).account_id == ACME


def test_identities_count_as_they_were_at_the_answer_in_a_half_open_interval():
    known = directory(
        identity(ACME, "user", "carol", valid_to_us=NOON_US),
        identity(BOBS, "user", "carol", NOON_US, NOON_US + DAY_US),
    )
    call = answered(auth_user="carol")
    found = [
        decided(call._replace(answered_us=NOON_US + shift, reported_us=NOON_US + 9 * DAY_US), known).account_id
        for shift in (-1, 0, DAY_US - 1, DAY_US)
    ]
    assert found == [ACME, BOBS, BOBS, None]


def test_a_failed_call_counts_by_its_report():
    known = directory(identity(BOBS, "user", "carol", NOON_US, FOREVER_US))
    call = failed(auth_user="carol")
    assert decided(call._replace(reported_us=NOON_US), known).account_id == BOBS
    assert decided(call._replace(reported_us=NOON_US - 1), known).account_id is None


def test_an_ended_longer_match_leaves_the_shorter_one():
    known = directory(identity(ACME, "ip", "192.0.2.5", valid_to_us=NOON_US - DAY_US))
    assert decided(answered(source_ip="192.0.2.5"), known).account_id == PBX
