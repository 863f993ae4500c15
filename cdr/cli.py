"""Commands of stage 2: what it was, and what it cost."""

import typer

app = typer.Typer()
