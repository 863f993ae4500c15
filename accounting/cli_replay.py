"""`tollbook replay`: recovers lost requests from captures."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from accounting.base.cli import ConfigOption, JsonOption, as_json, print_table
from accounting.base.clock import now_us
from accounting.base.config import Settings, load_settings
from accounting.base.errors import TollbookError
from accounting.captures import WORDS, capture_ports, captured, known_clients, words_of
from accounting.db.engine import open_database
from accounting.db.spool_file import Depth, look_into
from accounting.replay import HELD, REPEATED, STORED, Replay

OUTCOMES = {
    STORED: "stored",
    HELD: "already in the journal",
    REPEATED: "sent again",
    "no_time": "refused: no time, or one that cannot be",
    "unknown_client": "refused: of no client in the settings",
    "bad_authenticator": "refused: made with another secret",
    "bad_message_authenticator": "refused: wrong Message-Authenticator",
    "no_message_authenticator": "refused: no Message-Authenticator",
    "malformed": "refused: malformed",
    "oversized": "refused: more than 4096 octets",
    "not_accounting": "no Accounting-Request",
}
LOSSES = frozenset({"no_time", "bad_authenticator", "bad_message_authenticator", "no_message_authenticator"})
"""Requests of known clients that may have been real and are not in the journal."""
UNREAD = ("cut", "fragments", "tcp", "unknown_link")

app = typer.Typer()


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Captures, pcap or pcapng; - is stdin.")],
    ports: Annotated[
        list[int] | None,
        typer.Option(
            "--port", min=1, max=65535, help="Ports of requests; default: those of [receiver] listen, listen_tcp."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be stored.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Put the Accounting-Requests of captures into the journal, those that it lacks. Safe to repeat; answers nobody.

    Each is verified by its client's secret, and counts as received when it was captured. Exit status 1 if requests
    could not be taken. See docs/howto/recover-lost.md.

    Example: tollbook replay /var/lib/tollbook/captures/radius.pcap0 --dry-run
    """
    settings = load_settings(config)
    _refuse_waiting(settings)
    known = known_clients(settings)
    wanted = capture_ports(settings, ports or ())
    counts: Counter[str] = Counter()
    with open_database(settings.database.url) as database, database.lease("replay"):
        replayed = Replay(database, known, now_us=now_us(), dry_run=dry_run)
        for path in files:
            replayed.take(path.name, captured(path, wanted, counts), wanted)
    rows = _rows(replayed.outcomes, dry_run=dry_run)
    if json:
        as_json({"requests": rows, "unread": {name: counts[name] for name in WORDS}})
    elif rows:
        print_table(tuple(rows[0]), rows)
    else:
        typer.echo("No requests to these ports.")
    if counts["torn"] and not json:
        typer.echo(f"tollbook: {words_of({'torn': counts['torn']})}", err=True)
    lost = {name: sum(n for (_, what), n in replayed.outcomes.items() if what == name) for name in sorted(LOSSES)}
    told = [f"{number} {OUTCOMES[name]}" for name, number in lost.items() if number]
    told += [words] if (words := words_of({name: counts[name] for name in UNREAD})) else []
    if told:
        raise TollbookError("not everything could be taken: " + ", ".join(told))


def _refuse_waiting(settings: Settings) -> None:
    """Raise while this machine's spool holds requests: the journal does not know yet that they are not lost."""
    for path, found in look_into(settings.spool.directory):
        if isinstance(found, Depth) and found.rows + found.doubtful:
            raise TollbookError(
                f"{found.rows + found.doubtful} requests wait in the spool {path}, and would be stored twice;"
                " run this again when `tollbook spool status` shows none"
            )


def _rows(outcomes: "Counter[tuple[str, str]]", *, dry_run: bool) -> list[dict[str, Any]]:
    words = OUTCOMES | ({STORED: "would be stored"} if dry_run else {})
    order = list(OUTCOMES)
    return [
        {"client": client, "outcome": what, "requests": number, "means": words.get(what, what)}
        for (client, what), number in sorted(outcomes.items(), key=lambda one: (one[0][0], order.index(one[0][1])))
    ]
