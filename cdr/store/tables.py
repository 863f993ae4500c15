"""Tables of the main database: what calls were, what they cost, who paid.

One module writes each table; accounting.db.tables holds the journal's. Facts are added and never edited; what
changes in place is only what can be derived again (balances, open calls, offsets, the mark of the latest revision).
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    UniqueConstraint,
)

from accounting.db.tables import NAMING
from accounting.db.types import BigId, Bytes, Instant, LongText, Name

main_metadata = MetaData(naming_convention=NAMING)

URI = 1024  # 253 bytes of a RADIUS value, each perhaps written as \xNN
DISPOSITIONS = (
    "answered", "busy", "unavailable", "cancelled", "declined", "not_found", "no_answer", "failed", "void",
)  # fmt: skip


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(v) for v in values)})", name=f"{column}_known")


# ---- pipeline -------------------------------------------------------------------------------------------------

journal_offset = Table(
    "journal_offset",
    main_metadata,
    Column("writer", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),  # all up to here has been read
    mysql_engine="InnoDB",
)

batch = Table(  # one committed pipeline batch; its id is the previous one's + 1, so two workers cannot both commit
    "batch",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),
    Column("kind", Name(16), nullable=False),  # process | retry | rerate
    Column("committed_at", Instant, nullable=False),
    # where the events went; changes against the batch before, so that sums over all batches are the state of now
    Column("events_read", BigInteger, nullable=False),
    Column("events_used", BigInteger, nullable=False),
    Column("events_open", BigInteger, nullable=False),
    Column("events_attempts", BigInteger, nullable=False),
    Column("events_duplicate", BigInteger, nullable=False),
    Column("events_other", BigInteger, nullable=False),
    Column("events_exception", BigInteger, nullable=False),
    Column("events_quarantined", BigInteger, nullable=False),
    Column("cdrs", BigInteger, nullable=False),  # revisions written
    Column("charges", BigInteger, nullable=False),
    mysql_engine="InnoDB",
)

open_call = Table(
    "open_call",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),  # the CDR's id to be
    Column("call_hash", BigInteger, nullable=False, index=True),
    Column("call_key", Name(URI * 2), nullable=False),
    Column("call_id", Name(URI), nullable=False),
    Column("source", Name(255), nullable=False),
    Column("nas", Name(URI), nullable=False),
    Column("caller", Name(URI), nullable=False),
    Column("called", Name(URI), nullable=False),
    Column("answered_at", Instant),
    Column("reported_at", Instant, nullable=False),  # the latest event's own time
    Column("due_us", BigInteger, nullable=False, index=True),  # when to look again if nothing comes
    Column("events", Bytes(), nullable=False),  # journal positions, 8 bytes each, big-endian
    mysql_engine="InnoDB",
)

call_exception = Table(
    "call_exception",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),  # the journal position of its first event
    Column("call_hash", BigInteger, nullable=False, index=True),
    Column("call_key", Name(URI * 2), nullable=False),
    Column("call_id", Name(URI), nullable=False),
    Column("source", Name(255), nullable=False),
    Column("nas", Name(URI), nullable=False),
    Column("reason", Name(64), nullable=False),
    Column("detail", LongText(), nullable=False),
    Column("status", Name(16), nullable=False),  # open | dismissed
    Column("reported_at", Instant, nullable=False),
    Column("raised_at", Instant, nullable=False),
    Column("dismissed_at", Instant),
    Column("dismissed_by", Name(255)),
    Column("events", Bytes(), nullable=False),
    _one_of("status", ("open", "dismissed")),
    mysql_engine="InnoDB",
)

cdr_dismissal = Table(  # an operator has seen the exception codes of this CDR revision
    "cdr_dismissal",
    main_metadata,
    Column("cdr_id", BigInteger, nullable=False, autoincrement=False),
    Column("revision", Integer, nullable=False, autoincrement=False),
    Column("dismissed_at", Instant, nullable=False),
    Column("dismissed_by", Name(255), nullable=False),
    PrimaryKeyConstraint("cdr_id", "revision"),
    mysql_engine="InnoDB",
)

quarantine = Table(
    "quarantine",
    main_metadata,
    Column("ref", BigId, primary_key=True, autoincrement=False),  # journal position
    Column("source", Name(255), nullable=False),
    Column("reason", Name(64), nullable=False),
    Column("detail", LongText(), nullable=False),
    Column("received_us", BigInteger, nullable=False),
    mysql_engine="InnoDB",
)

source_override = Table(  # events that are read with a later source version than the one they came with (retry)
    "source_override",
    main_metadata,
    Column("ref", BigId, primary_key=True, autoincrement=False),  # journal position
    Column("source_id", BigInteger, nullable=False),
    mysql_engine="InnoDB",
)

nas_reboot = Table(
    "nas_reboot",
    main_metadata,
    Column("ref", BigId, primary_key=True, autoincrement=False),  # journal position
    Column("nas", Name(URI), nullable=False),  # NAS-Identifier, else its address
    Column("address", Name(64), nullable=False),  # NAS-IP-Address or NAS-IPv6-Address, where told
    Column("at_us", BigInteger, nullable=False),
    mysql_engine="InnoDB",
)

job_run = Table(
    "job_run",
    main_metadata,
    Column("job", Name(64), nullable=False),
    Column("scheduled_for", Name(32), nullable=False),  # a billing day as YYYY-MM-DD
    Column("status", Name(16), nullable=False),  # running | done | failed
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("detail", LongText(), nullable=False),
    PrimaryKeyConstraint("job", "scheduled_for"),
    mysql_engine="InnoDB",
)

# ---- who pays -------------------------------------------------------------------------------------------------

account = Table(
    "account",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("role", Name(16), nullable=False),  # customer | carrier | house (our own side of the ledger)
    Column("name", Name(255), nullable=False),
    Column("currency", Name(3), nullable=False),
    Column("payment", Name(16), nullable=False),  # prepaid | postpaid
    Column("credit_limit_micros", BigInteger, nullable=False),
    Column("timezone", Name(64), nullable=False),
    Column("balance_micros", BigInteger, nullable=False),  # credits - debits; derived, see `tollbook verify`
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("role", "name"),
    _one_of("role", ("customer", "carrier", "house")),
    _one_of("payment", ("prepaid", "postpaid")),
    mysql_engine="InnoDB",
)

identity = Table(
    "identity",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("kind", Name(16), nullable=False),  # user | ip | number | did | host
    Column("value", Name(255), nullable=False),  # canonical: lower case host, network/prefixlen, digits
    Column("valid_from", Instant),
    Column("valid_to", Instant),
    Column("created_at", Instant, nullable=False),
    _one_of("kind", ("user", "ip", "number", "did", "host")),
    Index("ix_identity_kind_value", "kind", "value"),
    mysql_engine="InnoDB",
)

deck = Table(
    "deck",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("name", Name(255), nullable=False, unique=True),
    Column("side", Name(8), nullable=False),  # sell | buy
    Column("currency", Name(3), nullable=False),
    Column("created_at", Instant, nullable=False),
    _one_of("side", ("sell", "buy")),
    mysql_engine="InnoDB",
)

deck_version = Table(
    "deck_version",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("deck_id", BigInteger, ForeignKey("deck.id"), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("effective_from", Instant),  # NULL: always
    Column("decimals", SmallInteger, nullable=False),
    Column("rounding", Name(16), nullable=False),  # up | half-up | half-even | down
    Column("timezone", Name(64), nullable=False),
    Column("file_name", Name(1024), nullable=False),
    Column("digest", Name(64), nullable=False),
    Column("loaded_at", Instant, nullable=False),
    Column("loaded_by", Name(255), nullable=False),
    UniqueConstraint("deck_id", "version"),
    CheckConstraint("decimals BETWEEN 0 AND 6", name="decimals_range"),
    _one_of("rounding", ("up", "half-up", "half-even", "down")),
    mysql_engine="InnoDB",
)

rate = Table(
    "rate",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("deck_version_id", BigInteger, ForeignKey("deck_version.id"), nullable=False, index=True),
    Column("prefix", Name(32), nullable=False),
    Column("destination", Name(255), nullable=False),
    Column("rate_nanos", BigInteger, nullable=False),  # per minute
    Column("connect_fee_nanos", BigInteger, nullable=False),
    Column("initial_s", Integer, nullable=False),
    Column("increment_s", Integer, nullable=False),
    Column("minimum_s", Integer, nullable=False),
    Column("grace_s", Integer, nullable=False),
    Column("max_price_nanos", BigInteger),
    Column("effective_from", Instant),
    Column("effective_to", Instant),
    Column("line", Integer, nullable=False),  # of the file it came from
    mysql_engine="InnoDB",
)

account_deck = Table(
    "account_deck",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False, index=True),
    Column("deck_id", BigInteger, ForeignKey("deck.id"), nullable=False),
    Column("valid_from", Instant),
    Column("valid_to", Instant),
    Column("created_at", Instant, nullable=False),
    mysql_engine="InnoDB",
)

# ---- what it was, what it cost ----------------------------------------------------------------------------------

cdr = Table(
    "cdr",
    main_metadata,
    Column("id", BigInteger, nullable=False, autoincrement=False),  # journal position of the call's first event
    Column("revision", Integer, nullable=False, autoincrement=False),
    Column("batch_id", BigInteger, nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("superseded_at", Instant),  # NULL: the latest revision
    Column("call_hash", BigInteger, nullable=False),
    Column("call_key", Name(URI * 2), nullable=False),
    Column("call_id", Name(URI), nullable=False),
    Column("from_tag", Name(URI), nullable=False),
    Column("to_tag", Name(URI), nullable=False),
    Column("source", Name(255), nullable=False),
    Column("source_id", BigInteger, nullable=False),
    Column("nas", Name(URI), nullable=False),
    Column("direction", Name(16), nullable=False),  # outbound | inbound | on_net | transit | ''
    Column("account_id", BigInteger),
    Column("carrier_id", BigInteger),
    Column("caller", Name(URI), nullable=False),
    Column("called", Name(URI), nullable=False),
    Column("caller_number", Name(32), nullable=False),
    Column("called_number", Name(32), nullable=False),
    Column("source_ip", Name(255), nullable=False),
    Column("destination_ip", Name(255), nullable=False),
    Column("started_at", Instant),
    Column("answered_at", Instant),
    Column("ended_at", Instant),
    Column("closed_at", Instant, nullable=False),  # end of the call; where that is unknown, its last report
    Column("setup_ms", BigInteger),
    Column("duration_ms", BigInteger, nullable=False),
    Column("billed_s", BigInteger),
    Column("disposition", Name(16), nullable=False),
    Column("sip_code", SmallInteger),
    Column("stop_cause", Name(16), nullable=False),
    Column("released_by", Name(16), nullable=False),
    Column("forwarded_by", Name(URI), nullable=False),
    Column("rating", Name(16), nullable=False),  # rated | unrated | not_billable
    Column("rating_reason", Name(64), nullable=False),  # why unrated or not billable
    Column("destination", Name(255), nullable=False),
    Column("prefix", Name(32), nullable=False),
    Column("price_micros", BigInteger),  # NULL: no charge to account_id
    Column("price_decimals", SmallInteger),
    Column("currency", Name(3), nullable=False),
    Column("cost_micros", BigInteger),
    Column("cost_decimals", SmallInteger),
    Column("cost_currency", Name(3), nullable=False),
    Column("exception", Name(255), nullable=False),  # reason codes joined by ;
    Column("flags", Name(255), nullable=False),
    Column("digest", BigInteger, nullable=False),  # of what pairing said; equal: new evidence changed nothing
    Column("attempts", Integer, nullable=False),  # how many of events belong to attempts
    Column("events", Bytes(), nullable=False),  # journal positions, 8 bytes each, big-endian
    PrimaryKeyConstraint("id", "revision"),
    _one_of("disposition", DISPOSITIONS),
    _one_of("rating", ("rated", "unrated", "not_billable")),
    Index("ix_cdr_call_hash", "call_hash"),
    Index("ix_cdr_closed_at", "closed_at"),
    Index("ix_cdr_made_at", "made_at"),
    mysql_engine="InnoDB",
)

charge = Table(
    "charge",
    main_metadata,
    Column("cdr_id", BigInteger, nullable=False, autoincrement=False),
    Column("revision", Integer, nullable=False, autoincrement=False),  # of the CDR that made it
    Column("line", SmallInteger, nullable=False, autoincrement=False),
    Column("kind", Name(16), nullable=False),  # charge | reversal (of an earlier revision's charge)
    Column("reverses_revision", Integer),  # with cdr_id and reverses_line: the charge it takes back
    Column("reverses_line", SmallInteger),
    Column("party", Name(16), nullable=False),  # account | forwarder | carrier
    Column("account_id", BigInteger, nullable=False),
    Column("number", Name(32), nullable=False),
    Column("deck_version_id", BigInteger, nullable=False),
    Column("rate_id", BigInteger, nullable=False),
    Column("prefix", Name(32), nullable=False),
    Column("destination", Name(255), nullable=False),
    Column("billed_s", BigInteger, nullable=False),
    Column("amount_micros", BigInteger, nullable=False),  # >= 0; a reversal's too
    Column("decimals", SmallInteger, nullable=False),
    Column("currency", Name(3), nullable=False),
    Column("service_at", Instant, nullable=False),  # answer time
    Column("period", Name(7), nullable=False),  # YYYY-MM it is posted to, in the account's time zone
    Column("entry_id", BigInteger),  # NULL: amount 0, nothing to post
    PrimaryKeyConstraint("cdr_id", "revision", "line"),
    _one_of("kind", ("charge", "reversal")),
    _one_of("party", ("account", "forwarder", "carrier")),
    CheckConstraint("amount_micros >= 0", name="amount_not_negative"),
    mysql_engine="InnoDB",
)

ledger_entry = Table(
    "ledger_entry",
    main_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("kind", Name(16), nullable=False),  # charge | reversal | topup | refund | adjustment
    Column("debit_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("credit_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("amount_micros", BigInteger, nullable=False),
    Column("currency", Name(3), nullable=False),
    Column("period", Name(7), nullable=False),
    Column("batch_id", BigInteger),  # of charges and reversals
    Column("reference", Name(255)),  # of what people post; with owner_id unique: posting it again changes nothing
    Column("owner_id", BigInteger),  # the customer or carrier a reference belongs to
    Column("actor", Name(255), nullable=False),
    Column("posted_at", Instant, nullable=False),
    UniqueConstraint("owner_id", "reference"),
    CheckConstraint("amount_micros > 0", name="amount_positive"),
    CheckConstraint("debit_id <> credit_id", name="two_sides"),
    _one_of("kind", ("charge", "reversal", "topup", "refund", "adjustment")),
    mysql_engine="InnoDB",
    sqlite_autoincrement=True,
)
