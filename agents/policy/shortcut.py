"""Pods of one host are ports of one bridge: the way between them that leads past IP rules, kept closed.

With ``br_netfilter`` on, the kernel shows bridged packets to IP rules, which judge them as all others; without it
nothing has to be bridged between pods, and nothing is. Somebody may change that at any time.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from agents.policy.kernel import Kernel, KernelError
from agents.policy.render import BRIDGE_TABLE, removal, shortcut_closed

_SETTINGS = Path("/proc/sys/net/bridge")

log = structlog.get_logger()


class Shortcut:
    """Between ports whose names begin with ``ports``; "" for a host whose pods are wired in another way."""

    def __init__(self, kernel: Kernel, ports: str, settings: Path = _SETTINGS) -> None:
        self._kernel = kernel
        self._ports = ports
        self._settings = settings
        self._closed: tuple[int, ...] | None = ()
        """Families for which it is closed; () without the table, None when that is not known."""

    async def close(self, *, anew: bool) -> None:
        """Closed from here on, for as long as there are policies; ``anew``: whatever was done before."""
        wanted = self._open_families()
        if not self._ports or (wanted == self._closed and not anew):
            return
        await self._apply(shortcut_closed(self._ports, wanted) if wanted else removal(BRIDGE_TABLE))
        self._closed = wanted

    async def leave(self, *, anew: bool) -> None:
        """No policy concerns a pod here."""
        if self._ports and (self._closed != () or anew):
            await self._apply(removal(BRIDGE_TABLE))
            self._closed = ()

    def _open_families(self) -> tuple[int, ...]:
        shown = {4: "bridge-nf-call-iptables", 6: "bridge-nf-call-ip6tables"}
        return tuple(family for family, name in shown.items() if not self._is_on(name))

    def _is_on(self, name: str) -> bool:
        try:
            return (self._settings / name).read_text().strip() == "1"
        except OSError:
            return False

    async def _apply(self, commands: str) -> None:
        try:
            await self._kernel.apply(commands)
        except KernelError as error:
            # A kernel without rules for bridges: pods that may not send raw frames are held by the others.
            log.warning("pods of this host might send frames to each other past policies", error=str(error))
