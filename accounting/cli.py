"""Commands of stage 1: what happened."""

import typer

from accounting import cli_db, cli_receive

app = typer.Typer()
app.add_typer(cli_receive.app)
app.add_typer(cli_db.app, name="db")
