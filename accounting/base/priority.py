"""Who goes first where there are not cores enough."""

import os
from contextlib import suppress

NICENESS = 10
"""Of what can wait: a tenth of a core beside one that is busy (sched(7))."""


def give_way() -> None:
    """Let those that answer the network go before this process; to be called before it starts threads."""
    with suppress(PermissionError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
