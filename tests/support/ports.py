"""Free ports on loopback, and who listens."""

from __future__ import annotations

import random
import socket
from pathlib import Path

# Below those the kernel gives to outgoing connections, one of which could else take the port before it is listened on.
_FIRST, _LAST = 12_000, 29_999


_chance = random.SystemRandom()  # whatever seed a test, or another run of tests beside this one, has set
_given: set[int] = set()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing uses now, and that was not given before: who got that may listen later."""
    while True:
        port = _chance.randint(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port


def listens(path: Path) -> bool:
    """Whether somebody takes connections at a Unix socket; its file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
