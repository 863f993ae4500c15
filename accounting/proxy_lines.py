"""What an operator puts into his proxy's configuration, and grants, so that it writes what Tollbook reads. Pure.

The one place that names the columns beyond a proxy's own; docs/howto and `tollbook check sources` say the same.
"""

EXTRAS = {"from_uri": "$fu", "src_ip": "$si", "dialled": "$ou", "sent": "$ru", "auth_user": "$au"}
"""Columns and what goes into them: `sent` when the route is chosen, the others before anything is changed."""
COLUMNS = 'columns = { caller = "from_uri", called = "dialled", translated = "sent" }'
OPENSIPS_FIELDS = f'modparam("acc", "extra_fields", "db: {"; ".join(f"{name}->{name}" for name in EXTRAS)}")'
OPENSIPS_BEFORE = (
    "\n".join(f"$acc_extra({name}) = {value};" for name, value in EXTRAS.items() if name != "sent")
    + "        # only after the caller has been authenticated"
)
OPENSIPS_SENT = f"$acc_extra(sent) = {EXTRAS['sent']};"
KAMAILIO_EXTRA = f'modparam("acc", "db_extra", "{"; ".join(f"{name}={value}" for name, value in EXTRAS.items())}")'


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
    return f"""# In opensips.cfg
modparam("acc", "db_url", "mysql://proxy_acc:PASSWORD@{place}")
{OPENSIPS_FIELDS}

# On an initial INVITE, before its Request-URI is changed. bye-on-timeout (before 3.2: "B") ends calls that lost their
# BYE, which else leave no row at all. Transaction mode: without cdr, and do_accounting("db"); for every BYE
create_dialog("bye-on-timeout");
do_accounting("db", "cdr|missed|failed");
{OPENSIPS_BEFORE}

# When the route is chosen, just before t_relay()
{OPENSIPS_SENT}"""


def _kamailio(place: str) -> str:
    return f"""# In kamailio.cfg; flags as its default script has them
modparam("acc", "db_url", "mysql://proxy_acc:PASSWORD@{place}")
modparam("acc", "db_flag", FLT_ACC)
modparam("acc", "db_missed_flag", FLT_ACCMISSED)
modparam("acc", "failed_transaction_flag", FLT_ACCFAILED)
modparam("acc", "time_mode", 1)
modparam("acc", "time_attr", "time_attr")
modparam("acc", "time_exten", "time_exten")
{KAMAILIO_EXTRA}"""


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
