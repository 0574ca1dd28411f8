"""Sets of addresses and ports through the ``ipset`` program: a printable text for each change, and the one seam."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping

from agents.proxy.backend import BackendError

MAXIMUM = 1 << 20
"""Entries a set may hold."""


def program() -> str:
    """Path of ``ipset``, "" when it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))
    return shutil.which("ipset", path=path) or ""


def transaction(
    *,
    create: Mapping[str, str] | None = None,
    add: Iterable[tuple[str, str]] = (),
    remove: Iterable[tuple[str, str]] = (),
    destroy: Iterable[str] = (),
) -> str:
    """Input of ``ipset restore``. ``create``: set -> its type with its options; entries are (set, entry)."""
    lines = [f"create {name} {kind}" for name, kind in (create or {}).items()]
    lines += [f"add {name} {entry}" for name, entry in sorted(add)]
    lines += [f"del {name} {entry}" for name, entry in sorted(remove)]
    lines += [f"destroy {name}" for name in destroy]
    return "".join(f"{line}\n" for line in lines)


def options(kind: str, *, ipv6: bool) -> str:
    """A set's type with the options ours have."""
    if kind.startswith("bitmap:port"):
        return f"{kind} range 0-65535"
    return f"{kind} family {'inet6' if ipv6 else 'inet'} maxelem {MAXIMUM}"


def parse_save(text: str) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """``ipset save`` output as sets with their types, and all (set, entry)."""
    kinds: dict[str, str] = {}
    entries: set[tuple[str, str]] = set()
    for line in text.splitlines():
        verb, _, rest = line.partition(" ")
        name, _, what = rest.partition(" ")
        if verb == "create":
            kinds[name] = what.split(" ", 1)[0]
        elif verb == "add":
            entries.add((name, what.split(" ", 1)[0]))
    return kinds, entries


class Ipset:
    """Runs ``ipset`` of this host. Raises ``BackendError``, also when it is not installed."""

    def __init__(self) -> None:
        self._program = program()
        if not self._program:
            raise BackendError("ipset is not installed: apt-get install ipset")

    async def apply(self, text: str) -> None:
        """Load a transaction; entries that are there already, or gone already, are as they should be."""
        if text:
            await self._run("restore", "-exist", text=text)

    async def state(self) -> tuple[dict[str, str], set[tuple[str, str]]]:
        return parse_save(await self._run("save"))

    async def _run(self, *arguments: str, text: str = "") -> str:
        # Input as a file in memory: a pipe would break when the tool ends before it has read everything.
        with os.fdopen(os.memfd_create("ipset"), "w+") as source:
            source.write(text)
            source.seek(0)
            process = await asyncio.create_subprocess_exec(
                self._program, *arguments, stdin=source, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):  # ended just now
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise BackendError(f"ipset {' '.join(arguments)}: {errors.decode(errors='replace').strip()}")
        return output.decode(errors="replace")
