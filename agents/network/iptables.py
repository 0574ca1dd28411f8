"""iptables as typed, printable transactions, and the one seam through which they reach the kernel.

A :class:`Transaction` collects what shall change in which table and prints as ``iptables-restore --noflush`` input; it
touches only chains it names. Rules are plain text in the form ``iptables-save`` prints them, without the leading
``-A CHAIN``, so that what is there can be compared with what should be.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from agents.network.generation import RuleGeneration
from agents.network.ranges import host_has_ipv6

Rules = tuple[str, ...]
Chains = Mapping[str, Rules]
State = Mapping[str, Chains]
"""table -> chain -> rules"""

LOCK_WAIT_SECONDS = 5


class IptablesError(Exception):
    """iptables refused; the message carries its words and the line of input it did not like."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A rule of ours in a chain of the kernel's, put first; ``rule`` as ``iptables-save`` prints it."""

    table: str
    chain: str
    rule: str


@dataclass(slots=True)
class _Changes:
    written: dict[str, Rules] = field(default_factory=dict)
    edits: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.written or self.edits or self.dropped)


@dataclass(slots=True)
class Transaction:
    """Changes to chains, by table. Within a table everything becomes visible in one step."""

    tables: dict[str, _Changes] = field(default_factory=dict)

    def write(self, table: str, chain: str, rules: Iterable[str]) -> None:
        """Give the chain exactly these rules; makes it when it does not exist."""
        self._of(table).written[chain] = tuple(rules)

    def drop(self, table: str, chain: str) -> None:
        """Remove a chain; nothing may refer to it any more when the transaction is done."""
        self._of(table).dropped.append(chain)

    def prepend(self, table: str, chain: str, rule: str) -> None:
        self._of(table).edits.append(f"-I {chain} 1 {rule}")

    def remove(self, table: str, chain: str, rule: str) -> None:
        """Take one rule out; the whole transaction fails when it is not there."""
        self._of(table).edits.append(f"-D {chain} {rule}")

    @property
    def chains_touched(self) -> int:
        return sum(len(c.written) + len(c.dropped) for c in self.tables.values())

    @property
    def commits(self) -> int:
        return sum(1 for changes in self.tables.values() if changes)

    def __bool__(self) -> bool:
        return any(self.tables.values())

    def __str__(self) -> str:
        lines: list[str] = []
        for table, changes in self.tables.items():
            if not changes:
                continue
            lines.append(f"*{table}")
            lines += [f":{chain} - [0:0]" for chain in (*changes.written, *changes.dropped)]
            lines += changes.edits
            for chain, rules in changes.written.items():
                lines += [f"-A {chain} {rule}" for rule in rules]
            lines += [f"-X {chain}" for chain in changes.dropped]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n" if lines else ""

    def _of(self, table: str) -> _Changes:
        return self.tables.setdefault(table, _Changes())


def difference(
    there: State, wanted: State, *, jumps: Iterable[Jump] = (), owned: Callable[[str], bool] = lambda chain: False
) -> Transaction:
    """What turns ``there`` into ``wanted``: chains that differ are written, ``owned`` ones nobody wants are dropped,
    jumps that are missing are put first and copies of them removed. The last of ``jumps`` ends up first in its chain.
    """
    transaction = Transaction()
    for jump in jumps:
        count = there.get(jump.table, {}).get(jump.chain, ()).count(jump.rule)
        if count == 0:
            transaction.prepend(jump.table, jump.chain, jump.rule)
        for _ in range(count - 1):
            transaction.remove(jump.table, jump.chain, jump.rule)
    for table, chains in wanted.items():
        present = there.get(table, {})
        for chain, rules in chains.items():
            if present.get(chain) != rules:
                transaction.write(table, chain, rules)
    for table, present in there.items():
        for chain in present:
            if chain not in wanted.get(table, {}) and owned(chain):
                transaction.drop(table, chain)
    return transaction


def parse_save(text: str) -> dict[str, dict[str, Rules]]:
    """``iptables-save`` output as table -> chain -> rules."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("-A "):
            chain, _, rule = line[3:].partition(" ")
            chains.setdefault(chain, []).append(rule)
        elif line.startswith(":"):
            chains.setdefault(line[1:].split(" ", 1)[0], [])
        elif line.startswith("*"):
            chains = tables.setdefault(line[1:], {})
    return {table: {chain: tuple(rules) for chain, rules in found.items()} for table, found in tables.items()}


class _Ledger:
    """What was written by us and what by others, for both families: the kernel counts their changes together."""

    def __init__(self, *, legacy: bool) -> None:
        self.lock = asyncio.Lock()
        self.legacy = legacy
        self._generation = RuleGeneration()
        self.expected = self.read()
        self.foreign = 0

    def observe(self) -> None:
        now = self.read()
        if now is None or now != self.expected:
            self.foreign += 1
            self.expected = now

    def read(self) -> int | None:
        return None if self.legacy else self._generation.read()


@dataclass(slots=True)
class OwnCommits:
    """How many transactions were committed meanwhile."""

    count: int = 0


class Iptables:
    """Runs ``iptables-restore`` and ``iptables-save`` of this host, one at a time.

    Share one between everything that writes rules in a process: it tells its own changes from those of others.
    ``ipv6`` is the same for ip6tables, None where the host has no IPv6 or no such tools.
    Raises ``IptablesError`` when the tools are missing.
    """

    def __init__(self) -> None:
        tools = _tools("iptables")
        if not tools:
            raise IptablesError("iptables-restore and iptables-save are not installed: apt-get install iptables")
        self._use(tools, 4, _Ledger(legacy="legacy" in os.path.realpath(tools[0])))
        self.ipv6: Iptables | None = None
        if host_has_ipv6() and (tools := _tools("ip6tables")):
            self.ipv6 = Iptables.__new__(Iptables)
            self.ipv6._use(tools, 6, self._ledger)
            self.ipv6.ipv6 = None

    def _use(self, tools: tuple[str, str], family: int, ledger: _Ledger) -> None:
        self._restore, self._save = tools
        self.family = family
        self._ledger = ledger

    @property
    def legacy(self) -> bool:
        """Whether these are the tools from before nf_tables."""
        return self._ledger.legacy

    async def apply(self, transaction: Transaction) -> None:
        """Load the transaction; nothing is run for an empty one. Raises ``IptablesError``."""
        if not transaction:
            return
        ledger = self._ledger
        async with ledger.lock:
            ledger.observe()
            before = ledger.expected
            try:
                await self._run((self._restore, "--noflush", "--wait", str(LOCK_WAIT_SECONDS)), str(transaction))
            finally:
                ledger.expected = ledger.read()
            if before is not None and ledger.expected is not None and ledger.expected - before > transaction.commits:
                ledger.foreign += 1

    @asynccontextmanager
    async def own_commits(self) -> AsyncIterator[OwnCommits]:
        """For what this process commits to nf_tables by another way than these tools: while it lasts they wait, and
        whoever commits says how often, so that it is not taken for somebody else's doing."""
        ledger, own = self._ledger, OwnCommits()
        async with ledger.lock:
            ledger.observe()
            before = ledger.expected
            try:
                yield own
            finally:
                ledger.expected = ledger.read()
                if before is not None and ledger.expected is not None and ledger.expected - before > own.count:
                    ledger.foreign += 1

    async def check(self, transaction: Transaction) -> None:
        """Have the real tool parse the transaction without loading it."""
        await self._run((self._restore, "--noflush", "--test", "--wait", str(LOCK_WAIT_SECONDS)), str(transaction))

    async def state(self, *tables: str) -> dict[str, dict[str, Rules]]:
        """What the kernel has, for the tables named."""
        # One process for all: it prints the tables there are, and one that is not there yet has no rules.
        only = ("-t", tables[0]) if len(tables) == 1 else ()
        found = parse_save(await self._run((self._save, *only), ""))
        return {table: found.get(table, {}) for table in tables}

    def foreign_changes(self) -> int:
        """A number that grows whenever somebody else may have changed rules; costs some microseconds.

        Where the kernel cannot tell (legacy iptables) it grows with every call.
        """
        # While a transaction of ours is on its way the generation says nothing; `apply` judges it at the end.
        if not self._ledger.lock.locked():
            self._ledger.observe()
        return self._ledger.foreign

    async def _run(self, argv: Sequence[str], text: str) -> str:
        # Input as a file in memory: a pipe would break when the tool ends before it has read everything.
        with os.fdopen(os.memfd_create("iptables"), "w+") as source:
            source.write(text)
            source.seek(0)
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=source, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            # A half-read transaction must not be left behind as an orphan that commits later.
            with suppress(ProcessLookupError):  # ended just now
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise IptablesError(_explain(errors.decode(errors="replace"), text) or f"{argv[0]} failed")
        return output.decode(errors="replace")


def _tools(name: str) -> tuple[str, str] | None:
    """Paths of ``<name>-restore`` and ``<name>-save``."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))
    restore, save = shutil.which(f"{name}-restore", path=path), shutil.which(f"{name}-save", path=path)
    return (restore, save) if restore and save else None


def _explain(errors: str, text: str) -> str:
    said = " / ".join(line for line in errors.strip().splitlines() if line and not line.startswith("Try "))
    lines = text.splitlines()
    for word in errors.replace(":", " ").split():
        if word.isdigit() and 0 < int(word) <= len(lines):
            return f"{said} (input: {lines[int(word) - 1]})"
    return said
