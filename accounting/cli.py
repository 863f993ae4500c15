"""Commands of stage 1: what happened."""

import typer

from accounting import cli_collect, cli_db, cli_media, cli_receive, cli_replay, cli_spool, cli_trace

app = typer.Typer()
app.add_typer(cli_receive.app)
app.add_typer(cli_collect.app)
app.add_typer(cli_media.app)
app.add_typer(cli_trace.app)
app.add_typer(cli_replay.app)
app.add_typer(cli_db.app, name="db")
app.add_typer(cli_spool.app, name="spool")
