"""The pages of the agent's server that tell what was measured. Whoever asks first pays for loading what writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson
import structlog
from aiohttp import web

from agents.probes.tally import Counts, Probed
from agents.stats.collector import Collector
from agents.stats.groups import Machine, device_names
from agents.stats.summary import summary_json

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class StatsPages:
    """``tally`` answers what probes came to; ``version`` has the labels of ``cadvisor_version_info``."""

    def __init__(
        self,
        collector: Collector,
        *,
        tally: Callable[[], Iterable[tuple[Probed, Counts]]],
        machine: Callable[[], Machine],
        version: Callable[[], Mapping[str, str]],
    ) -> None:
        self._collector = collector
        self._tally = tally
        self._machine = machine
        self._version = version

    def __repr__(self) -> str:
        return f"<StatsPages of {self._collector!r}>"

    def routes(self) -> dict[str, Page]:
        """Path -> what answers a GET."""
        return {
            "/stats/summary": self.summary,
            "/metrics/resource": self.resource,
            "/metrics/cadvisor": self.cadvisor,
            "/metrics/probes": self.probes,
        }

    async def summary(self, request: web.Request) -> web.Response:
        """``only_cpu_and_memory=true`` leaves out all that has to be counted."""
        brief = request.query.get("only_cpu_and_memory", "").lower() in ("1", "t", "true")
        summary = await self._collector.summary(only_cpu_and_memory=brief)
        body = orjson.dumps(summary_json(summary, only_cpu_and_memory=brief), option=orjson.OPT_INDENT_2)
        return web.Response(body=body, content_type="application/json")

    async def resource(self, request: web.Request) -> web.Response:
        from agents.stats.resource import resource_families  # not before somebody asks

        try:
            summary = await self._collector.summary(only_cpu_and_memory=True)
        except OSError as error:
            log.warning("cannot measure", error=str(error))
            return await _exposition(lambda: resource_families(None))
        return await _exposition(lambda: resource_families(summary))

    async def cadvisor(self, request: web.Request) -> web.Response:
        from agents.stats.cadvisor import cadvisor_families

        groups = await self._collector.groups()
        machine, version = self._machine(), self._version()

        def families() -> Iterator[Any]:
            return cadvisor_families(groups, machine, version=version, device_names=device_names(groups))

        return await _exposition(families)

    async def probes(self, request: web.Request) -> web.Response:
        from agents.stats.probes import probe_families

        tally = list(self._tally())
        return await _exposition(lambda: probe_families(tally))


class _Registry:
    """As much of a registry as the library's writer asks for."""

    def __init__(self, collect: Callable[[], Iterator[Any]]) -> None:
        self.collect = collect


async def _exposition(families: Callable[[], Iterator[Any]]) -> web.Response:
    """The text format; written in a thread, for a hundred pods take tens of milliseconds."""
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    body = await asyncio.to_thread(generate_latest, _Registry(families))  # type: ignore[arg-type]
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
