"""A forwarded call: the caller pays for what he dialled, the forwarder for where it went."""

from cdr.rating.parties import ChargeWish
from tests.unit.parties.directory import ACME, ALPHA, BETA, BOBS, Charged, answered, decided, directory, identity

TO_MOBILE = {
    "called_uri": "sip:+4930111@lab.example",
    "translated_uri": "sip:+491711234567@lab.example",
    "forwarder_uri": "sip:+4930111@lab.example",
    "forwarded_to_uri": "sip:+491711234567@lab.example",
    "forwarded_via_uri": "sip:+491711234567@gw.beta.example",
}
FORWARDED = (ChargeWish("forwarder", BOBS, "+491711234567"), ChargeWish("carrier", BETA, "+491711234567"))


def test_on_net_forwarded_to_a_mobile_is_charged_to_the_forwarder_alone():
    decision = decided(answered(**TO_MOBILE))
    assert (decision.direction, decision.account_id, decision.carrier_id) == ("on_net", ACME, BETA)
    assert (decision.wishes, decision.not_billable) == (FORWARDED, "")
    assert (decision.forwarded_by, decision.destination_ip) == ("bobs", "gw.beta.example")
    assert (decision.called, decision.called_number) == ("+4930111", "+4930111")


def test_the_forwarder_may_be_known_as_a_user():
    by_name = {"called_uri": "sip:bob@lab.example", "forwarder_uri": "sip:bob@lab.example"}
    assert decided(answered(**TO_MOBILE | by_name)).wishes == FORWARDED


def test_inbound_forwarded_costs_the_incoming_and_the_outgoing_carrier():
    call = answered(**TO_MOBILE, source_ip="198.51.100.7", auth_user="")
    decision = decided(call)
    assert (decision.direction, decision.account_id, decision.carrier_id) == ("inbound", BOBS, ALPHA)
    assert decision.wishes == (ChargeWish("carrier", ALPHA, "+4930111"), *FORWARDED)


def test_forwarded_to_another_customer_costs_nothing():
    to_user = {"forwarded_to_uri": "sip:bob@lab.example", "forwarded_via_uri": "sip:bob@127.0.0.3:5060"}
    decision = decided(answered(**TO_MOBILE | to_user))
    assert (decision.wishes, decision.not_billable, decision.exceptions) == ((), "on_net", ())


def test_forwarded_to_a_mailbox_costs_nothing():
    to_mailbox = {"forwarded_to_uri": "sip:voicemail@lab.example", "forwarded_via_uri": "sip:vm@127.0.0.4"}
    decision = decided(answered(**TO_MOBILE | to_mailbox))
    assert (decision.wishes, decision.exceptions) == ((), ())


def test_forwarded_to_no_number_through_a_carrier_is_wished_for_so_that_it_becomes_an_alarm():
    odd = {"forwarded_to_uri": "sip:desk@lab.example", "forwarded_via_uri": "sip:desk@gw.beta.example"}
    assert decided(answered(**TO_MOBILE | odd)).wishes == (
        ChargeWish("forwarder", BOBS, ""),
        ChargeWish("carrier", BETA, ""),
    )


def test_an_unknown_forwarder_is_an_exception_and_the_caller_still_pays_for_what_he_dialled():
    unknown = {"called_uri": "sip:+4940555@lab.example", "forwarder_uri": "sip:+4940555@lab.example"}
    decision = decided(answered(**TO_MOBILE | unknown))
    assert decision.direction == "outbound"
    assert decision.wishes == (ChargeWish("account", ACME, "+4940555"), ChargeWish("carrier", BETA, "+491711234567"))
    assert (decision.exceptions, decision.forwarded_by) == (("forwarder_unknown",), "+4940555")


def test_an_unknown_forwarder_to_a_customer_is_no_exception():
    unknown = {"forwarder_uri": "sip:dave@lab.example", "forwarded_to_uri": "sip:bob@lab.example"}
    decision = decided(answered(**TO_MOBILE | unknown))
    assert (decision.exceptions, decision.forwarded_by) == ((), "dave")


def test_what_was_not_answered_or_has_no_end_raises_nothing():
    unknown = TO_MOBILE | {"forwarder_uri": "sip:dave@lab.example"}
    assert decided(answered(**unknown, disposition="busy")).exceptions == ()
    assert decided(answered(**unknown, exceptions=("no_stop",))).exceptions == ()


def test_the_forwarder_is_who_he_was_at_the_answer():
    known = directory(identity(ACME, "did", "+49301", valid_to_us=1), without=("+4930111",))
    assert decided(answered(**TO_MOBILE), known).exceptions == ("forwarder_unknown",)


def test_the_forwarded_leg_is_charged_as_the_settings_say_for_outbound_calls():
    decision = decided(answered(**TO_MOBILE), directions=Charged(outbound=("carrier",)))
    assert decision.wishes == FORWARDED[1:]
    decision = decided(answered(**TO_MOBILE), directions=Charged(outbound=("account",)))
    assert decision.wishes == FORWARDED[:1]


def test_an_egress_leg_of_a_forwarded_call_buys_where_it_went():
    decision = decided(answered(**TO_MOBILE, role="egress"))
    assert (decision.wishes, decision.exceptions) == (FORWARDED[1:], ())


def test_a_call_that_was_not_forwarded_has_no_forwarder():
    assert decided(answered()).forwarded_by == ""


def test_a_customer_dialled_and_sent_on_through_a_carrier_is_the_forwarder():
    rewritten = {"called_uri": "sip:bob@lab.example", "translated_uri": "sip:+491711234567@gw.beta.example"}
    decision = decided(answered(**rewritten))
    assert (decision.direction, decision.account_id) == ("on_net", ACME)
    assert (decision.wishes, decision.forwarded_by) == (FORWARDED, "bobs")


def test_a_customer_reached_at_his_own_number_through_a_carrier_forwards_nothing():
    own = {"called_uri": "sip:+4930111@lab.example", "translated_uri": "sip:+4930111@gw.beta.example"}
    assert decided(answered(**own)).forwarded_by == ""
