"""Direction and charges of calls that were not forwarded."""

import pytest

from cdr.rating.parties import ChargeWish, build_directory
from tests.unit.parties.directory import (
    ACME,
    ALPHA,
    BETA,
    BOBS,
    PBX,
    Charged,
    answered,
    decided,
    directory,
    failed,
    identity,
)

INBOUND = {"source_ip": "198.51.100.7", "auth_user": "", "caller_uri": "sip:+1202555@alpha.example"}


def test_a_customers_call_to_elsewhere_is_outbound_sold_to_him_and_bought_from_the_carrier():
    decision = decided(answered())
    assert (decision.direction, decision.account_id, decision.carrier_id) == ("outbound", ACME, BETA)
    assert decision.wishes == (
        ChargeWish("account", ACME, "+442071234567"),
        ChargeWish("carrier", BETA, "+442071234567"),
    )
    assert (decision.not_billable, decision.unrated, decision.exceptions) == ("", "", ())


def test_the_ends_are_told_as_the_source_said_them():
    decision = decided(answered(caller_uri="sip:+4930123;x=1@lab.example", called_uri="tel:+44-20-7123"))
    assert (decision.caller, decision.caller_number) == ("+4930123;x=1", "+4930123")
    assert (decision.called, decision.called_number) == ("+44-20-7123", "+44207123")
    assert decision.destination_ip == "gw.beta.example"


def test_sold_as_dialled_and_bought_as_translated():
    decision = decided(answered(translated_uri="sip:+441632960000@gw.beta.example"))
    assert [wish.number for wish in decision.wishes] == ["+442071234567", "+441632960000"]


def test_bought_as_dialled_where_the_translation_is_no_number():
    decision = decided(answered(translated_uri="sip:gateway@gw.beta.example"))
    assert [wish.number for wish in decision.wishes] == ["+442071234567", "+442071234567"]


def test_a_carrier_is_known_by_its_host_exactly_and_by_its_network():
    assert decided(answered(translated_uri="sip:+44@GW.Beta.Example")).carrier_id == BETA
    assert decided(answered(translated_uri="sip:+44@sub.gw.beta.example")).carrier_id is None
    assert decided(answered(translated_uri="sip:+44@198.51.100.99:5080")).carrier_id == ALPHA
    longer = directory(identity(BETA, "ip", "198.51.100.99"))
    assert decided(answered(translated_uri="sip:+44@198.51.100.99:5080"), longer).carrier_id == BETA
    v6 = directory(identity(BETA, "ip", "2001:db8::/32"))
    assert decided(answered(translated_uri="sip:+44@[2001:db8::1]:5060"), v6).carrier_id == BETA


def test_an_outbound_call_through_no_known_carrier_is_sold_only():
    decision = decided(answered(translated_uri="sip:+44@10.0.0.1"))
    assert [wish.party for wish in decision.wishes] == ["account"]


def test_what_is_no_number_is_still_wished_for_so_that_it_becomes_an_alarm():
    decision = decided(answered(called_uri="sip:echo@lab.example", translated_uri="sip:echo@10.0.0.1"))
    assert decision.wishes == (ChargeWish("account", ACME, ""),)


@pytest.mark.parametrize(
    "called_uri", ["sip:bob@lab.example", "sip:+4930111@lab.example", "tel:+4930111", "sip:+49302277@lab.example"]
)
def test_between_customers_a_call_is_on_net_and_free(called_uri):
    decision = decided(answered(called_uri=called_uri, translated_uri="sip:bob@10.0.0.5:5062"))
    assert (decision.direction, decision.account_id, decision.wishes) == ("on_net", ACME, ())
    assert (decision.not_billable, decision.unrated) == ("on_net", "")


def test_on_net_is_charged_where_the_settings_say_so():
    call = answered(called_uri="sip:+4930111@lab.example", translated_uri="sip:bob@10.0.0.5")
    decision = decided(call, directions=Charged(on_net=("account",)))
    assert (decision.wishes, decision.not_billable) == ((ChargeWish("account", ACME, "+4930111"),), "")


def test_from_a_carrier_to_a_did_is_inbound_and_belongs_to_who_has_the_did():
    decision = decided(answered(called_uri="sip:+49302299@lab.example", translated_uri="sip:100@192.0.2.9", **INBOUND))
    assert (decision.direction, decision.account_id, decision.carrier_id) == ("inbound", PBX, ALPHA)
    assert decision.wishes == (ChargeWish("carrier", ALPHA, "+49302299"),)


def test_the_longest_did_wins():
    known = directory(identity(ACME, "did", "49302299"))
    decision = decided(answered(called_uri="sip:+49302299@lab.example", **INBOUND), known)
    assert decision.account_id == ACME


def test_inbound_from_nobody_known_is_not_billable():
    home = {"called_uri": "sip:bob@lab.example", "translated_uri": "sip:bob@10.0.0.5"}
    decision = decided(answered(**home, auth_user="", source_ip="8.8.8.8"))
    assert (decision.direction, decision.account_id, decision.carrier_id) == ("inbound", BOBS, None)
    assert decision.not_billable == "inbound"


def test_the_called_customer_pays_inbound_where_the_settings_say_so():
    """A freephone number."""
    call = answered(called_uri="sip:+4930111@lab.example", translated_uri="sip:bob@10.0.0.5", **INBOUND)
    decision = decided(call, directions=Charged(inbound=("account", "carrier")))
    assert decision.wishes == (ChargeWish("account", BOBS, "+4930111"), ChargeWish("carrier", ALPHA, "+4930111"))


def test_from_carrier_to_carrier_is_transit_and_bought_from_the_second():
    decision = decided(answered(**INBOUND))
    assert (decision.direction, decision.account_id, decision.carrier_id) == ("transit", None, BETA)
    assert decision.wishes == (ChargeWish("carrier", BETA, "+442071234567"),)


def test_where_neither_end_is_known_it_is_an_alarm():
    decision = decided(answered(auth_user="mallory", translated_uri="sip:+44@10.0.0.1"))
    assert (decision.direction, decision.account_id, decision.wishes) == ("", None, ())
    assert (decision.not_billable, decision.unrated) == ("", "account_unknown")


def test_without_any_account_all_answered_calls_are_alarms():
    empty = build_directory([], [])
    assert decided(answered(), empty).unrated == "account_unknown"
    assert decided(failed(), empty).not_billable == "not_answered"


def test_nobody_is_charged_for_what_was_not_answered_but_it_is_told_whose_it_was():
    decision = decided(failed())
    assert (decision.direction, decision.account_id, decision.carrier_id) == ("outbound", ACME, BETA)
    assert (decision.wishes, decision.not_billable, decision.unrated) == ((), "not_answered", "")


def test_an_unanswered_call_of_nobody_is_no_alarm():
    decision = decided(failed(auth_user=""))
    assert (decision.not_billable, decision.unrated) == ("not_answered", "")


def test_nobody_is_charged_while_the_end_is_unknown():
    decision = decided(answered(ended_us=None, duration_ms=0, stop_cause="max_age", exceptions=("no_stop",)))
    assert (decision.account_id, decision.wishes, decision.not_billable) == (ACME, (), "no_stop")


def test_a_call_of_no_length_is_rated_like_any_other():
    assert decided(answered(duration_ms=0)).wishes == decided(answered()).wishes


def test_an_egress_leg_only_buys():
    decision = decided(answered(role="egress"))
    assert (decision.direction, decision.account_id, decision.carrier_id) == ("outbound", None, BETA)
    assert decision.wishes == (ChargeWish("carrier", BETA, "+442071234567"),)


def test_an_egress_leg_to_no_known_carrier_is_not_billable():
    decision = decided(answered(role="egress", translated_uri="sip:+44@10.0.0.1", auth_user=""))
    assert (decision.wishes, decision.not_billable, decision.unrated) == ((), "carrier_unknown", "")


def test_who_is_not_to_be_charged_is_not():
    nobody = decided(answered(), directions=Charged(outbound=()))
    assert (nobody.wishes, nobody.not_billable) == ((), "outbound")
    bought = decided(answered(), directions=Charged(outbound=("carrier",)))
    assert [wish.party for wish in bought.wishes] == ["carrier"]
