"""The line of configuration that mends what cdr.source_findings finds, as each kind of proxy writes it. Pure data.

The how-to pages say the same at greater length; where a page changes, this does.
"""

from accounting.event import Source
from accounting.proxy_lines import COLUMNS, EXTRAS, KAMAILIO_EXTRA, OPENSIPS_BEFORE, OPENSIPS_FIELDS, OPENSIPS_SENT

_ON_BYE = 'if (is_method("BYE"))\n    '
_ON_INVITE = 'if (is_method("INVITE") && !has_totag())\n    '
_RADIUS_FLAG = "setflag(1);        # the flag that radius_flag names"
_DB_FLAG = "setflag(1);        # the flag that db_flag names"
_CLOCK = "timedatectl set-ntp true        # on the host of {name}"
_ZONE = 'timezone = "..."        # in tollbook.toml, [[collectors]] {name}: that of the proxy\'s host'
_AU = "$acc_extra(user) = $au;        # after the caller has been authenticated"
_DIALLED = "$acc_extra(dialled) = $ru;        # before the script changes it"
_OPENSIPS_DB = f"{OPENSIPS_FIELDS}\n{OPENSIPS_BEFORE}\n{OPENSIPS_SENT}        # once the route is chosen"
_ADDED = ", ".join(f"ADD {name} VARCHAR(255)" for name in EXTRAS)
_COLUMNS = (
    f"\nALTER TABLE acc {_ADDED};\nALTER TABLE missed_calls {_ADDED};"
    f"\n{COLUMNS}        # in tollbook.toml, [[collectors]] {{name}}"
)
_CDR_EXTRA = (
    'modparam("acc", "cdr_extra", "callid=$dlg_var(callid); from_tag=$dlg_var(from_tag); to_tag=$dlg(to_tag); '
    + "; ".join(f"{name}=$dlg_var({name})" for name in EXTRAS)
    + '")        # docs/howto/kamailio.md tells how they are set'
)

_SILENT = (
    "acctserver  HOST:1813        # in its radiusclient.conf: the host of Tollbook;"
    " then docs/howto/generic-radius.md, Does the receiver answer?"
)
_OWN_TABLES = ("kamailio-cdrs", "radacct")

MENDS: dict[str, dict[str, str]] = {
    "no_stop": {
        "opensips": _ON_BYE + 'do_accounting("aaa");',
        "opensips-sql": _ON_BYE + 'do_accounting("db");',
        "kamailio": _ON_BYE + _RADIUS_FLAG,
        "kamailio-sql": _ON_BYE + _DB_FLAG,
        "": "let the device send Acct-Status-Type Stop when a session ends",
    },
    "stop_without_start": {
        "opensips": _ON_INVITE + 'do_accounting("aaa", "missed|failed");',
        "opensips-sql": _ON_INVITE + 'do_accounting("db", "missed|failed");',
        "kamailio": _ON_INVITE + _RADIUS_FLAG,
        "kamailio-sql": _ON_INVITE + _DB_FLAG,
        "": "let the device send Acct-Status-Type Start when a call is answered",
    },
    "no_tags": {
        "opensips": "ATTRIBUTE  Sip-From-Tag  206  string\nATTRIBUTE  Sip-To-Tag    207  string",
        "kamailio": "ATTRIBUTE  Sip-To-Tag    104  string\nATTRIBUTE  Sip-From-Tag  105  string",
        "kamailio-cdrs": _CDR_EXTRA,
        "sql": 'columns = { from_tag = "...", to_tag = "..." }        # the columns that hold them',
    },
    "call_id_cut": {
        "sql": "ALTER TABLE acc MODIFY callid VARCHAR(255) NOT NULL DEFAULT '';\n"
        "ALTER TABLE missed_calls MODIFY callid VARCHAR(255) NOT NULL DEFAULT '';",
        "kamailio-cdrs": "ALTER TABLE acc_cdrs MODIFY callid VARCHAR(255) NOT NULL;",
        "radacct": "ALTER TABLE radacct MODIFY acctsessionid VARCHAR(255) NOT NULL DEFAULT '';",
        "": "take away what shortens it on the way: FreeRADIUS' radacct keeps 64 characters",
    },
    "tag_cut": {
        "sql": "ALTER TABLE acc MODIFY from_tag VARCHAR(255), MODIFY to_tag VARCHAR(255);\n"
        "ALTER TABLE missed_calls MODIFY from_tag VARCHAR(255), MODIFY to_tag VARCHAR(255);",
        "kamailio-cdrs": "ALTER TABLE acc_cdrs MODIFY from_tag VARCHAR(255), MODIFY to_tag VARCHAR(255);",
        "": "take away what shortens it on the way",
    },
    "duration_includes_ringing": {
        "": 'modparam("acc", "cdr_start_on_confirmed", 1)\n'
        "start_on_confirmed = true        # in tollbook.toml, [[collectors]] {name}",
    },
    "early_media": {"": 'modparam("acc", "early_media", 0)'},
    "no_event_timestamp": {"": "ATTRIBUTE  Event-Timestamp  55  date        # in the proxy's RADIUS dictionary"},
    "bad_timestamp": {"": _CLOCK},
    "clock_off": {"": _CLOCK},
    "zone_off": {
        "sql": _ZONE,
        "": "timedatectl set-local-rtc 0; timedatectl set-ntp true        # on the host of {name}",
    },
    "nonexistent_hour": {"": _ZONE},
    "failed_twice": {
        "opensips": 'do_accounting("aaa", "failed");        # without missed',
        "opensips-sql": 'do_accounting("db", "failed");        # without missed',
        "kamailio": 'modparam("acc", "failed_transaction_flag", 3)        # and no radius_missed_flag',
        "kamailio-sql": 'modparam("acc", "failed_transaction_flag", 3)        # and no db_missed_flag',
        "": "nothing needs to be done",
    },
    "cdr_mode": {"": 'create_dialog("bye-on-timeout");\n$DLG_timeout = 14400;'},
    "unknown_attributes": {"": 'dictionary = "/etc/tollbook/dictionary"        # a copy of the one that {name} uses'},
    "wrong_dictionary": {"": 'dictionary = "{family}"        # in tollbook.toml, [[clients]] {name}'},
    "no_sip_attributes": {
        "opensips": "$INCLUDE /etc/opensips/dictionary.opensips        # in its radius-dictionary",
        "kamailio": "ATTRIBUTE  Sip-Method         101  integer\nATTRIBUTE  Sip-Response-Code  102  integer\n"
        "ATTRIBUTE  Sip-To-Tag         104  string\nATTRIBUTE  Sip-From-Tag       105  string",
    },
    "no_source_ip": {
        "opensips": 'modparam("acc", "extra_fields", "aaa: src->Source-IP")        # beside the others\n'
        "$acc_extra(src) = $si;",
        "opensips-sql": _OPENSIPS_DB + _COLUMNS,
        "kamailio": 'modparam("acc_radius", "radius_extra", "Source-IP=$si")        # beside the others',
        "kamailio-sql": KAMAILIO_EXTRA + _COLUMNS,
    },
    "no_canonical_uri": {
        "opensips": 'modparam("acc", "extra_fields", "aaa: dialled->Canonical-URI")        # beside the others\n'
        + _DIALLED,
        "kamailio": 'modparam("acc_radius", "radius_extra", "Canonical-URI=$ou")        # beside the others',
    },
    "no_called": {
        "opensips": 'modparam("acc", "extra_fields", "aaa: to->Called-Station-Id; dialled->Canonical-URI")\n'
        "$acc_extra(to) = $ru;\n" + _DIALLED,
        "opensips-sql": _OPENSIPS_DB + _COLUMNS,
        "kamailio": 'modparam("acc_radius", "radius_extra", "Called-Station-Id=$tu; Canonical-URI=$ou")',
        "kamailio-sql": KAMAILIO_EXTRA + _COLUMNS,
        "kamailio-cdrs": _CDR_EXTRA,
        "": "let the device send Called-Station-Id",
    },
    "no_own_addresses": {"": 'own_addresses = ["{address}"]        # in tollbook.toml, {table} {name}'},
    "nobody_identified": {
        "opensips": f'modparam("acc", "extra_fields", "aaa: user->User-Name; src->Source-IP")\n{_AU}\n'
        "$acc_extra(src) = $si;",
        "opensips-sql": _OPENSIPS_DB + _COLUMNS,
        "kamailio": 'modparam("acc_radius", "radius_extra", "User-Name=$au; Source-IP=$si")',
        "kamailio-sql": KAMAILIO_EXTRA + _COLUMNS,
        "kamailio-cdrs": _CDR_EXTRA,
        "": 'identify_by = ["auth_user"]        # or what the device does send; in tollbook.toml, {table} {name}',
    },
    "user_from_caller": {
        "opensips": _AU + "; not $Au",
        "opensips-sql": "$acc_extra(auth_user) = $au;        # after the caller has been authenticated; not $Au",
        "kamailio": 'modparam("acc_radius", "radius_extra", "User-Name=$au")        # not $Au',
        "kamailio-sql": KAMAILIO_EXTRA + "        # not $Au",
    },
    "no_accounting_on": {"": "let the device send Accounting-On when it starts"},
    "absurd_duration": {"": _CLOCK},
    "duration_lost": {"": "let the proxy send to Tollbook itself, or use its transaction mode beside FreeRADIUS"},
    "stop_with_invite": {"": 'modparam("acc", "leg_fields", "")        # they shift other attributes over RADIUS'},
    "silent": {
        "sql": "tollbook collect --once        # says what is wrong",
        "media": "journalctl --unit tollbook        # says what is wrong with its file or address\n"
        "log-facility-cdr = local6        # in rtpengine.conf; then docs/howto/rtpengine.md",
        "opensips": _SILENT,
        "kamailio": _SILENT,
        "": "docs/howto/generic-radius.md, Does the receiver answer?",
    },
    # why reports are in quarantine
    "dialect_unsupported": {"": 'dialect = ["..."]        # in tollbook.toml, [[clients]] {name}: what it really is'},
    "unknown_status_type": {"": "VALUE  Acct-Status-Type  Failed  15        # in the proxy's RADIUS dictionary"},
    "no_call_id": {
        "kamailio-cdrs": _CDR_EXTRA,
        "": "let the device send Acct-Session-Id",
    },
    "bad_dictionary": {"": "dictionary        # mend that file, then: tollbook quarantine retry"},
}


def flavour_of(source: Source) -> str:
    """Return opensips, kamailio or "" for others, with -sql behind it for a collector."""
    known = [name for dialect in source.dialects if (name := dialect.partition("-")[0]) in ("opensips", "kamailio")]
    return (known[0] if known else "") + ("-sql" if source.kind == "sql" else "")


def mend_of(code: str, source: Source, **words: str) -> str:
    """Return the lines that mend a finding in the configuration of this kind of source; `{name}` is put in place."""
    by_flavour = MENDS.get(code, {})
    flavour = flavour_of(source)
    order: tuple[str, ...] = (flavour or source.kind, source.kind, "")
    if source.kind == "sql":
        order = (*(dialect for dialect in source.dialects if dialect in _OWN_TABLES), *order)
    template = next((by_flavour[name] for name in order if name in by_flavour), "")
    table = "[[collectors]]" if source.kind == "sql" else "[[clients]]"
    for name, value in {"name": source.name, "table": table, **words}.items():
        template = template.replace(f"{{{name}}}", value)
    return template
