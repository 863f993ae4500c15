"""Commands of stage 3: what people are told."""

import typer

from reports import cli_export, cli_reconcile, cli_report, demo

app = typer.Typer()
app.add_typer(cli_export.app, name="export")
app.add_typer(cli_report.app, name="report")
app.add_typer(cli_reconcile.app)
app.add_typer(demo.app)
