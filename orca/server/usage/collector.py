"""Asks hosts what they and their pods use. Answers are shared for some seconds, however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import aiohttp
import orjson
import structlog

from orca.api.errors import ApiError
from orca.client.clock import Clock
from orca.server.forwarding import Forwarder
from orca.server.hosts import Hosts
from orca.server.usage.samples import HostSample, Key, Use, read, uses

FRESH_SECONDS = 10.0
FAILED_SECONDS = 20.0
"""A host that does not answer is not waited for again so long."""
ANSWER_SECONDS = 5.0
PARALLEL = 32
_PATH = "/stats/summary?only_cpu_and_memory=true"

# The last four: a host that is broken, or no host, may answer anything, and must not spoil what others tell.
_NO_ANSWER = (ApiError, aiohttp.ClientError, OSError, TimeoutError, AttributeError, KeyError, TypeError, ValueError)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HostUse:
    """Of one host: uses by key, and the keys of each pod's containers by (namespace, name)."""

    uses: Mapping[Key, Use]
    pods: Mapping[tuple[str, str], tuple[Key, ...]]


@dataclass(slots=True)
class _Known:
    until: float
    use: HostUse | None
    sample: HostSample | None


class Collector:
    """One per server; ``close`` ends its connections."""

    def __init__(self, hosts: Hosts, clock: Clock) -> None:
        self._hosts = hosts
        self._clock = clock
        self._forwarder = Forwarder()
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[HostUse | None]] = {}
        self._gate = asyncio.Semaphore(PARALLEL)

    def __repr__(self) -> str:
        return f"<Collector of {len(self._known)} hosts>"

    async def close(self) -> None:
        """Close the connection pool."""
        for task in tuple(self._asking.values()):
            task.cancel()
        await self._forwarder.close()

    async def of(self, nodes: Iterable[str]) -> dict[str, HostUse]:
        """By node name; hosts that do not answer are left out."""
        names = list(dict.fromkeys(nodes))
        found = await asyncio.gather(*(self._of(name) for name in names))
        return {name: use for name, use in zip(names, found, strict=True) if use is not None}

    def forget(self, nodes: Iterable[str]) -> None:
        """Keep only these hosts."""
        present = set(nodes)
        for name in self._known.keys() - present:
            del self._known[name]

    async def _of(self, node: str) -> HostUse | None:
        known = self._known.get(node)
        if known is not None and self._clock.monotonic() < known.until:
            return known.use
        task = self._asking.get(node)
        if task is None:
            task = self._asking[node] = asyncio.create_task(self._ask(node), name=f"usage of {node}")
            task.add_done_callback(lambda _: self._asking.pop(node, None))
        return await asyncio.shield(task)

    async def _ask(self, node: str) -> HostUse | None:
        before = self._known.get(node)
        former = before.sample if before is not None else None
        try:
            async with self._gate:
                sample = read(await self._summary(node))
            use = HostUse(uses(sample, former), sample.pods)
        except _NO_ANSWER as error:
            log.info("what a host uses is not known", node=node, error=str(error) or repr(error))
            self._known[node] = _Known(self._clock.monotonic() + FAILED_SECONDS, None, former)
            return None
        self._known[node] = _Known(self._clock.monotonic() + FRESH_SECONDS, use, sample)
        return use

    async def _summary(self, node: str) -> dict[str, object]:
        agent = self._hosts.agent(node)
        async with self._forwarder.session().get(
            f"https://{agent.authority}{_PATH}",
            ssl=agent.tls if agent.tls is not None else True,
            server_hostname=agent.server_name or None,
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        ) as answer:
            if answer.status != 200:
                raise ValueError(f"the host answered {answer.status}")
            found: dict[str, object] = orjson.loads(await answer.read())
            return found
