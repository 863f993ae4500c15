"""Which tables each flavour of SQL accounting has, what is needed of them, what to say where it is missing. Pure."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

CUT_COLUMNS = ("callid", "from_tag", "to_tag")


class TableSpec(NamedTuple):
    """One table to follow; columns by their own names, which the settings' `columns` may change."""

    name: str
    id: str
    time: str  # local time by which `start` counts; "" where there is none
    needed: tuple[str, ...]
    core: tuple[str, ...]  # what nobody changes in a row: tells it from another row of the same id
    may_be_cut: tuple[str, ...] = ()
    closed: str = ""  # of rows that are changed in place: what is NULL as long as the row is open
    state: tuple[str, ...] = ()  # and the columns whose changes are news
    optional: bool = False  # fine if it is not there


_ACC = ("id", "method", "from_tag", "to_tag", "callid", "sip_code", "time")
_ACC_CORE = _ACC[1:]
_CDRS = ("id", "start_time", "end_time", "duration", "callid")

TABLES: dict[str, tuple[TableSpec, ...]] = {
    flavour: (
        TableSpec("acc", "id", "time", _ACC, _ACC_CORE, CUT_COLUMNS),
        TableSpec("missed_calls", "id", "time", _ACC, _ACC_CORE, CUT_COLUMNS, optional=True),
    )
    for flavour in ("opensips", "kamailio")
}
TABLES["kamailio-cdrs"] = (TableSpec("acc_cdrs", "id", "end_time", _CDRS, _CDRS[1:], CUT_COLUMNS),)
TABLES["radacct"] = (
    TableSpec(
        "radacct",
        "radacctid",
        "acctstarttime",
        ("radacctid", "acctsessionid", "nasipaddress", "acctstarttime", "acctstoptime", "acctsessiontime"),
        ("acctsessionid", "nasipaddress"),
        ("acctsessionid",),
        closed="acctstoptime",
        state=("acctstarttime", "acctupdatetime", "acctstoptime", "acctsessiontime"),
    ),
)
_MEDIA = ("call_id", "from_tag", "to_tag")
TABLES["mediaproxy"] = (TableSpec("media_sessions", "id", "", ("id", *_MEDIA, "info"), _MEDIA, _MEDIA),)
NO_CALL_ID = (
    "has no column {callid}, and without the Call-ID a row belongs to no call; add to kamailio.cfg:"
    ' modparam("acc", "cdr_extra", "callid=$dlg_var(callid);from_tag=$dlg_var(from_tag);to_tag=$dlg(to_tag)"), kept'
    " after dlg_manage() by $dlg_var(callid) = $ci; $dlg_var(from_tag) = $ft; and add to the table:"
    " ALTER TABLE {table} ADD callid VARCHAR(255) NOT NULL DEFAULT '', ADD from_tag VARCHAR(128) NOT NULL DEFAULT '',"
    " ADD to_tag VARCHAR(128) NOT NULL DEFAULT ''"
)


def named(spec: TableSpec, columns: Mapping[str, str]) -> TableSpec:
    """Return the table as this database names its columns."""

    def of(name: str) -> str:
        return columns.get(name, name)

    return spec._replace(
        id=of(spec.id),
        time=of(spec.time),
        needed=tuple(map(of, spec.needed)),
        core=tuple(map(of, spec.core)),
        may_be_cut=tuple(map(of, spec.may_be_cut)),
        closed=of(spec.closed),
        state=tuple(map(of, spec.state)),
    )


def missing_words(flavour: str, spec: TableSpec, found: Collection[str], wanted: Collection[str]) -> str:
    """Return what is missing of a table in one line, '' if nothing is; `wanted` are the settings' own columns."""
    lower = {name.lower() for name in found}
    callid = spec.core[-1]
    if flavour == "kamailio-cdrs" and callid.lower() not in lower:
        return f"{spec.name} {NO_CALL_ID.format(callid=callid, table=spec.name)}"
    missing = [name for name in (*spec.needed, *sorted(wanted)) if name.lower() not in lower]
    if not missing:
        return ""
    return (
        f"table {spec.name} has no column {', '.join(missing)} that this user may read;"
        f" is {flavour} the right flavour, and are the collector's `columns` spelt as in the table?"
    )
