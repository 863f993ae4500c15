"""Commands of stage 3: what people are told."""

import typer

app = typer.Typer()
