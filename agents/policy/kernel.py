"""nft itself: the one seam through which this room's rules reach the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog

from agents.network.generation import RuleGeneration
from agents.network.iptables import OwnCommits
from agents.network.nftables import Changes
from agents.policy.render import BRIDGE_TABLE, TABLE, removal

log = structlog.get_logger()

_NAME = TABLE.split()[1]
_PROBE = "add table inet orca-policy-probe\ndelete table inet orca-policy-probe\n"


class KernelError(Exception):
    """nft refused; the message has its words."""


class Kernel(Protocol):
    """What keeps the table: `Nft`, or in tests something that remembers it."""

    async def problem(self) -> str:
        """Why this host cannot have the table; "" when it can."""

    async def apply(self, commands: str) -> None:
        """Carry out all commands or none. Raises ``KernelError``."""

    async def shape(self) -> str:
        """The table as it is, without elements; "" when there is none. Raises ``KernelError``."""

    async def listing(self) -> str:
        """The table as it is. Raises ``KernelError``."""

    def changes(self) -> int | None:
        """A number that is another one after every change of any table; None where the kernel does not tell."""

    def listen(self, wake: Callable[[], None]) -> None:
        """From now on have ``wake`` called, in the event loop, whenever somebody may have changed the table. Harmless
        when called again."""

    def close(self) -> None:
        """Listen no more."""


class Nft:
    """The program ``nft`` of this host. ``own_commits`` tells others in this process what was committed, who would take
    it for a stranger's doing (``Iptables.own_commits``)."""

    def __init__(self, own_commits: Callable[[], AbstractAsyncContextManager[OwnCommits]] | None = None) -> None:
        path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))
        self._program = shutil.which("nft", path=path)
        self._own_commits = own_commits
        self._lock = asyncio.Lock()
        self._generation = RuleGeneration()
        self._heard: Changes | None = None
        self._problem: str | None = None if self._program else "nft is not installed: apt-get install nftables"

    def __repr__(self) -> str:
        return f"<Nft {self._program}>"

    async def problem(self) -> str:
        """Asked of the kernel once."""
        if self._problem is None:
            try:
                await self.apply(_PROBE)
                self._problem = ""
            except KernelError as error:
                self._problem = f"the kernel takes no nftables rules: {error}"
        return self._problem

    async def apply(self, commands: str) -> None:
        async with self._lock:
            if self._own_commits is None:
                await self._run("-f", "-", text=commands)
            else:
                async with self._own_commits() as own:
                    own.count = 1
                    await self._run("-f", "-", text=commands)
            if self._heard is not None:
                # What the kernel tells of this was told before the program ended.
                self._heard.touched(_NAME)

    async def shape(self) -> str:
        return await self._table("-s", "-t")

    async def listing(self) -> str:
        return await self._table("-s")

    def changes(self) -> int | None:
        return self._generation.read()

    def listen(self, wake: Callable[[], None]) -> None:
        if self._heard is not None:
            return
        try:
            self._heard = Changes()
        except OSError as error:
            log.warning("changes of policies' rules by others are not heard of at once", error=str(error))
            return
        self._heard.call(wake, _NAME)

    def close(self) -> None:
        if self._heard is not None:
            self._heard.close()
            self._heard = None

    async def _table(self, *options: str) -> str:
        try:
            return await self._run(*options, "list", "table", *TABLE.split())
        except KernelError as error:
            if "No such file" in str(error):
                return ""
            raise

    async def _run(self, *arguments: str, text: str = "") -> str:
        if not self._program:
            raise KernelError(self._problem or "nft is not installed")
        # Input as a file in memory: a pipe would break when the program ends before it has read everything.
        try:
            with os.fdopen(os.memfd_create("nft"), "w+") as source:
                source.write(text)
                source.seek(0)
                process = await asyncio.create_subprocess_exec(
                    self._program,
                    *arguments,
                    stdin=source,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
        except OSError as error:
            # No memory, no more processes, or somebody is just installing another version.
            raise KernelError(f"nft cannot be run: {error.strerror or error}") from error
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            # Commands that were half read must not be carried out later, by nobody's order.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise KernelError(" / ".join(errors.decode(errors="replace").split("\n")[:3]).strip(" /") or "nft failed")
        return output.decode(errors="replace")


async def remove_table() -> None:
    """Take the table away, whoever has left it; for uninstalling. Raises ``KernelError``."""
    nft = Nft()
    if not await nft.problem():
        await nft.apply(removal())
        with contextlib.suppress(KernelError):
            # Kernels without rules for bridges have none.
            await nft.apply(removal(BRIDGE_TABLE))
