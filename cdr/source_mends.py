"""The line of configuration that mends what cdr.source_findings finds, as each kind of proxy writes it. Pure data."""

from accounting.event import Source

_ON_BYE = 'if (is_method("BYE"))\n    '
_ON_INVITE = 'if (is_method("INVITE") && !has_totag())\n    '
_CLOCK = "timedatectl set-ntp true        # on the host of {name}"
_STAMP = "ATTRIBUTE  Event-Timestamp  55  date        # in the proxy's RADIUS dictionary"
_DICTIONARY = """dictionary = "{family}"        # in tollbook.toml, [[clients]] {name}"""
_WIDEN_ID = (
    "ALTER TABLE acc MODIFY callid VARCHAR(255) NOT NULL DEFAULT '';\n"
    "ALTER TABLE missed_calls MODIFY callid VARCHAR(255) NOT NULL DEFAULT '';"
)
_WIDEN_TAGS = (
    "ALTER TABLE acc MODIFY from_tag VARCHAR(255), MODIFY to_tag VARCHAR(255);\n"
    "ALTER TABLE missed_calls MODIFY from_tag VARCHAR(255), MODIFY to_tag VARCHAR(255);"
)
_COLUMN = '\ncolumns = { {ours} = "{column}" }        # in tollbook.toml, [[collectors]] {name}'

MENDS: dict[tuple[str, str], str] = {
    ("no_stop", "opensips"): _ON_BYE + 'do_accounting("aaa");',
    ("no_stop", "opensips-sql"): _ON_BYE + 'do_accounting("db");',
    ("no_stop", "kamailio"): _ON_BYE + "setflag(1);        # the flag that radius_flag names",
    ("no_stop", "kamailio-sql"): _ON_BYE + "setflag(1);        # the flag that db_flag names",
    ("no_stop", ""): "let the device send Acct-Status-Type Stop when a session ends",
    ("stop_without_start", "opensips"): _ON_INVITE + 'do_accounting("aaa", "missed|failed");',
    ("stop_without_start", "opensips-sql"): _ON_INVITE + 'do_accounting("db", "missed|failed");',
    ("stop_without_start", "kamailio"): _ON_INVITE + "setflag(1);        # the flag that radius_flag names",
    ("stop_without_start", "kamailio-sql"): _ON_INVITE + "setflag(1);        # the flag that db_flag names",
    ("stop_without_start", ""): "let the device send Acct-Status-Type Start when a call is answered",
    ("no_tags", "opensips"): "ATTRIBUTE  Sip-From-Tag  206  string\nATTRIBUTE  Sip-To-Tag    207  string",
    ("no_tags", "kamailio"): "ATTRIBUTE  Sip-To-Tag    104  string\nATTRIBUTE  Sip-From-Tag  105  string",
    ("no_tags", "sql"): 'columns = { from_tag = "...", to_tag = "..." }        # the columns that hold them',
    ("call_id_cut", "sql"): _WIDEN_ID,
    ("call_id_cut", ""): "take away what shortens it on the way: FreeRADIUS' radacct keeps 64 characters",
    ("tag_cut", "sql"): _WIDEN_TAGS,
    ("tag_cut", ""): "take away what shortens it on the way",
    ("duration_includes_ringing", ""): 'modparam("acc", "cdr_start_on_confirmed", 1)\n'
    "start_on_confirmed = true        # in tollbook.toml, [[collectors]] {name}",
    ("early_media", ""): 'modparam("acc", "early_media", 0)',
    ("no_event_timestamp", ""): _STAMP,
    ("bad_timestamp", ""): _CLOCK,
    ("clock_off", ""): _CLOCK,
    ("clock_off", "sql"): _CLOCK,
    ("zone_off", "sql"): 'timezone = "..."        # in tollbook.toml, [[collectors]] {name}: that of the proxy\'s host',
    ("zone_off", ""): "timedatectl set-local-rtc 0; timedatectl set-ntp true        # on the host of {name}",
    (
        "nonexistent_hour",
        "",
    ): 'timezone = "..."        # in tollbook.toml, [[collectors]] {name}: that of the proxy\'s host',
    ("failed_twice", "opensips"): 'do_accounting("aaa", "failed");        # without missed',
    ("failed_twice", "opensips-sql"): 'do_accounting("db", "failed");        # without missed',
    ("failed_twice", "kamailio"): 'modparam("acc", "failed_transaction_flag", 3)        # and no radius_missed_flag',
    ("failed_twice", "kamailio-sql"): 'modparam("acc", "failed_transaction_flag", 3)        # and no db_missed_flag',
    ("cdr_mode", ""): 'create_dialog("bye-on-timeout");\n$DLG_timeout = 14400;',
    ("unknown_attributes", ""): 'dictionary = "/etc/tollbook/dictionary"        # a copy of the one that {name} uses',
    ("wrong_dictionary", ""): _DICTIONARY,
    ("no_sip_attributes", "opensips"): "$INCLUDE /etc/opensips/dictionary.opensips        # in its radius-dictionary",
    ("no_sip_attributes", "kamailio"): "ATTRIBUTE  Sip-Method         101  integer\n"
    "ATTRIBUTE  Sip-Response-Code  102  integer\nATTRIBUTE  Sip-To-Tag         104  string\n"
    "ATTRIBUTE  Sip-From-Tag       105  string",
    ("no_source_ip", "opensips"): 'modparam("acc", "extra_fields", "aaa: src->Source-IP")        # beside the others\n'
    "$acc_extra(src) = $si;",
    (
        "no_source_ip",
        "opensips-sql",
    ): 'modparam("acc", "extra_fields", "db: src_ip->src_ip")        # beside the others\n'
    "$acc_extra(src_ip) = $si;" + _COLUMN.replace("{ours}", "source_ip").replace("{column}", "src_ip"),
    ("no_source_ip", "kamailio"): 'modparam("acc_radius", "radius_extra", "Source-IP=$si")        # beside the others',
    ("no_source_ip", "kamailio-sql"): 'modparam("acc", "db_extra", "src_ip=$si")        # beside the others'
    + _COLUMN.replace("{ours}", "source_ip").replace("{column}", "src_ip"),
    ("no_canonical_uri", "opensips"): 'modparam("acc", "extra_fields", "aaa: dialled->Canonical-URI")        # beside'
    " the others\n$acc_extra(dialled) = $ru;        # before the script changes $ru",
    ("no_canonical_uri", "kamailio"): 'modparam("acc_radius", "radius_extra", "Canonical-URI=$ou")        # beside the'
    " others",
    ("no_called", "opensips"): 'modparam("acc", "extra_fields", "aaa: to->Called-Station-Id; dialled->Canonical-URI")\n'
    "$acc_extra(to) = $ru;\n$acc_extra(dialled) = $ru;        # before the script changes $ru",
    ("no_called", "opensips-sql"): 'modparam("acc", "extra_fields", "db: dst_ouser->dst_ouser")        # beside the'
    " others\n$acc_extra(dst_ouser) = $rU;" + _COLUMN.replace("{ours}", "called").replace("{column}", "dst_ouser"),
    ("no_called", "kamailio"): 'modparam("acc_radius", "radius_extra", "Called-Station-Id=$tu; Canonical-URI=$ou")',
    (
        "no_called",
        "kamailio-sql",
    ): 'modparam("acc", "db_extra", "src_user=$fU; dst_ouser=$tU; dst_user=$rU; src_ip=$si")'
    + _COLUMN.replace("{ours}", "called").replace("{column}", "dst_ouser"),
    ("no_called", ""): "let the device send Called-Station-Id",
    ("no_own_addresses", ""): 'own_addresses = ["{address}"]        # in tollbook.toml, {table} {name}',
    ("nobody_identified", "opensips"): 'modparam("acc", "extra_fields", "aaa: user->User-Name; src->Source-IP")\n'
    "$acc_extra(user) = $au;        # after the caller has been authenticated\n$acc_extra(src) = $si;",
    ("nobody_identified", "kamailio"): 'modparam("acc_radius", "radius_extra", "User-Name=$au; Source-IP=$si")',
    ("nobody_identified", "sql"): 'columns = { source_ip = "src_ip", auth_user = "..." }        # in tollbook.toml,'
    " [[collectors]] {name}",
    ("nobody_identified", ""): 'identify_by = ["auth_user"]        # or what the device does send; in tollbook.toml',
    ("user_from_caller", "opensips"): "$acc_extra(user) = $au;        # not $Au, and only after authentication",
    ("user_from_caller", "kamailio"): 'modparam("acc_radius", "radius_extra", "User-Name=$au")        # not $Au',
    (
        "user_from_caller",
        "opensips-sql",
    ): "$acc_extra(auth_user) = $au;        # not $Au, and only after authentication",
    ("user_from_caller", "kamailio-sql"): 'modparam("acc", "db_extra", "auth_user=$au")        # not $Au',
    ("no_accounting_on", ""): "let the device send Accounting-On when it starts",
    ("absurd_duration", ""): _CLOCK,
    ("duration_lost", ""): "let the proxy send to Tollbook itself, or use its transaction mode beside FreeRADIUS",
    ("stop_with_invite", ""): 'modparam("acc", "extra_fields", "...")        # no leg_fields over RADIUS',
    ("silent", ""): "radius_retries and acctserver in its radiusclient.conf; then see"
    " docs/howto/generic-radius.md, Does the receiver answer?",
    ("silent", "sql"): "tollbook collect --once        # says what is wrong",
    ("dialect_unsupported", ""): 'dialect = ["..."]        # in tollbook.toml, [[clients]] {name}: what it really is',
    ("unknown_status_type", ""): "VALUE  Acct-Status-Type  Failed  15        # in the proxy's RADIUS dictionary",
    ("no_call_id", ""): "let the device send Acct-Session-Id; a table of calls needs its Call-ID column",
    (
        "bad_dictionary",
        "",
    ): 'dictionary = "/etc/tollbook/dictionary"        # mend the file, then: tollbook quarantine retry',
}


def flavour_of(source: Source) -> str:
    """Return opensips, kamailio or "" for others, with -sql behind it for a collector."""
    known = [name for dialect in source.dialects if (name := dialect.partition("-")[0]) in ("opensips", "kamailio")]
    return (known[0] if known else "") + ("-sql" if source.kind == "sql" else "")


def mend_of(code: str, source: Source, **words: str) -> str:
    """Return the lines that mend a finding in the configuration of this kind of source; `{name}` is put in place."""
    flavour = flavour_of(source)
    order = (flavour, "sql" if source.kind == "sql" else flavour, "")
    template = next((MENDS[code, name] for name in order if (code, name) in MENDS), "")
    table = "[[collectors]]" if source.kind == "sql" else "[[clients]]"
    for name, value in {"name": source.name, "table": table, **words}.items():
        template = template.replace(f"{{{name}}}", value)
    return template
