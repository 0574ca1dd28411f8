"""How this process shares the interpreter between the event loop and the threads beside it."""

from __future__ import annotations

import sys

SWITCH_SECONDS = 0.001
"""How long a thread that computes keeps the interpreter from the event loop. It does so each time the loop has let go
of it, as for each piece that is read from a connection: a fifth of Python's own choice is a fifth of the wait."""


def share_interpreter() -> None:
    """Call before the loop runs."""
    sys.setswitchinterval(SWITCH_SECONDS)
