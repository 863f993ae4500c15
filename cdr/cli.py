"""Commands of stage 2: what it was, and what it cost."""

import typer

from cdr import cli_accounts, cli_cdr, cli_check, cli_exceptions, cli_process, cli_rates

app = typer.Typer()
app.add_typer(cli_process.app)
app.add_typer(cli_rates.app, name="rates")
app.add_typer(cli_accounts.account_app, name="account")
app.add_typer(cli_accounts.carrier_app, name="carrier")
app.add_typer(cli_cdr.cdr_app, name="cdr")
app.add_typer(cli_exceptions.exceptions_app, name="exceptions")
app.add_typer(cli_exceptions.quarantine_app, name="quarantine")
app.add_typer(cli_check.check_app, name="check")
