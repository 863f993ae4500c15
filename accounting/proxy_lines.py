"""What an operator puts into his proxy's configuration, and grants, so that it writes into Tollbook's tables. Pure."""

EXTRAS = {
    "from_uri": "$fu", "orig_ruri": "$ou", "ruri": "$ru", "src_ip": "$si", "acc_user": "$Au",
}  # fmt: skip
COLUMNS = 'columns = { caller = "from_uri", called = "orig_ruri", translated = "ruri", auth_user = "acc_user" }'


def lines_for(flavour: str, database: str, host: str) -> str:
    """Return grants, the proxy's lines and the collector's, for Tollbook's database of this name on this host."""
    return "\n\n".join([_grants(flavour, database), _PROXIES[flavour](f"{host}/{database}"), _collector(flavour)])


def _grants(flavour: str, database: str) -> str:
    user = "proxy_acc@'192.0.2.10'"
    lines = [
        "-- In MariaDB: a user for the proxy (put in its address), who may insert and do nothing else",
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY 'PASSWORD';",
        f"GRANT INSERT ON `{database}`.`acc` TO {user};",
        f"GRANT INSERT ON `{database}`.`missed_calls` TO {user};",
    ]
    if flavour == "opensips":
        lines.append(
            f"GRANT SELECT ON `{database}`.`version` TO {user};  -- two rows that OpenSIPS asks for at its start"
        )
    return "\n".join(lines)


def _opensips(place: str) -> str:
    fields = ";".join(f"{name}->{name}" for name in EXTRAS)
    assigned = "\n".join(f"    $acc_extra({name}) = {variable};" for name, variable in EXTRAS.items())
    return f"""# In opensips.cfg
modparam("acc", "db_url", "mysql://proxy_acc:PASSWORD@{place}")
modparam("acc", "extra_fields", "db: {fields}")
# and in the route, for an initial INVITE; "B" sends the BYE of a call that timed out, else it leaves no row at all
    create_dialog("B");
    do_accounting("db", "cdr|missed|failed");
{assigned}"""


def _kamailio(place: str) -> str:
    extra = ";".join(f"{name}={variable}" for name, variable in EXTRAS.items())
    return f"""# In kamailio.cfg; flags as its default script has them
modparam("acc", "db_url", "mysql://proxy_acc:PASSWORD@{place}")
modparam("acc", "db_flag", FLT_ACC)
modparam("acc", "db_missed_flag", FLT_ACCMISSED)
modparam("acc", "failed_transaction_flag", FLT_ACCFAILED)
modparam("acc", "time_mode", 1)
modparam("acc", "time_attr", "time_attr")
modparam("acc", "time_exten", "time_exten")
modparam("acc", "db_extra", "{extra}")"""


def _collector(flavour: str) -> str:
    return f"""# In tollbook.toml; timezone is the proxy host's
[[collectors]]
name = "{flavour}-acc"
url_file = "..."        # of this same database, as in [database]
flavour = "{flavour}"
start = "all"
timezone = "UTC"
{COLUMNS}"""


_PROXIES = {"opensips": _opensips, "kamailio": _kamailio}
