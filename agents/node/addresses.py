"""This host's addresses, as its Node tells them: those of ``--node-ip`` for good, else the one from which the host
reaches the server, whichever that is now. A host may get another one while pods run, or its first one after a boot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from agents.node import facts

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"


class OwnAddresses:
    """``node_ip``: the flag, one address of each family at most; ``server`` answers the API server's host, "" when
    nobody says. ``find`` answers the address that packets to a host leave from, "" when none can."""

    def __init__(
        self, node_ip: str, server: Callable[[], str], *, find: Callable[[str], str] = facts.default_address
    ) -> None:
        self._fixed = bool(node_ip)
        self._server = server
        self._find = find
        self._heard: list[Callable[[tuple[str, ...]], None]] = []
        self.current = tuple(node_ip.split(",")) if node_ip else (self._look() or LOOPBACK,)
        """The primary one first; never empty."""

    def __repr__(self) -> str:
        return f"<OwnAddresses {', '.join(self.current)}>"

    def on_change(self, heard: Callable[[tuple[str, ...]], None]) -> None:
        """Have it called with what is `current` from then on."""
        self._heard.append(heard)

    async def look(self) -> tuple[str, ...]:
        """What is `current`, after another look at the host. One that reaches nobody keeps what it had."""
        found = "" if self._fixed else await asyncio.to_thread(self._look)
        if found and (found,) != self.current:
            log.warning("this host has another address", address=found, before=", ".join(self.current))
            self.current = (found,)
            for heard in self._heard:
                heard(self.current)
        return self.current

    def _look(self) -> str:
        return self._find(self._server() or LOOPBACK)
