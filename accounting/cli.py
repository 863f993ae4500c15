"""Commands of stage 1: what happened."""

import typer

from accounting import cli_db

app = typer.Typer()
app.add_typer(cli_db.app, name="db")
