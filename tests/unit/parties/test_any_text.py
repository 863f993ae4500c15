"""Whatever sources say, a decision is made: who a call belongs to, why nobody is charged, or an alarm."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.parties.directory import answered, decided

words = st.sampled_from(
    ["", "alice", "bob", "alice@lab.example", "sip:bob@lab.example", "sip:+4930111@lab.example", "tel:+4930222",
     "sip:+44@gw.beta.example", "sip:+44@198.51.100.1:5060", "192.0.2.5", "198.51.100.7",
     "::ffff:192.0.2.5", "pbx", "%"]
)  # fmt: skip
texts = words | st.text(max_size=300)
fields = (
    "caller_uri", "called_uri", "translated_uri", "auth_user", "billing_party", "from_user", "source_ip",
    "forwarder_uri", "forwarded_to_uri", "forwarded_via_uri",
)  # fmt: skip
ALL = ("billing_party", "source_ip", "auth_user", "from_user", "caller_number")


@given(
    st.fixed_dictionaries(dict.fromkeys(fields, texts)),
    st.sampled_from(["access", "egress"]),
    st.sampled_from(["answered", "busy"]),
    st.permutations(ALL),
)
def test_an_answered_call_is_charged_or_says_why_it_is_not(texts, role, disposition, identify_by):
    decision = decided(
        answered(role=role, disposition=disposition, **texts), identify_by=tuple(identify_by), country="DE"
    )
    if disposition != "answered":
        assert (decision.wishes, decision.not_billable, decision.unrated) == ((), "not_answered", "")
    else:
        assert bool(decision.not_billable) == (not decision.wishes and not decision.unrated)
        assert bool(decision.unrated) == (decision.direction == "")
    assert (decision.direction in {"outbound", "on_net", "inbound"} and role == "access") == (
        decision.account_id is not None
    )
    assert role == "access" or {wish.party for wish in decision.wishes} <= {"carrier"}
    assert len(decision.destination_ip) <= 255
    assert len(decision.called_number) <= 32
