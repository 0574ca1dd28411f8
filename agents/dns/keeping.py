"""Names as the API told them last, in a file: an agent that starts while the API is away answers by them.

Only what answers are made of is kept. It is written some seconds after a change, in pieces, so that a rollout costs one
file now and then; what the API says replaces it as soon as it says anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog

from agents.durable import read_object, write_file
from orca.api.objects import Obj, meta
from orca.client.clock import Clock

log = structlog.get_logger()

FILE = "names.json"
SETTLE_SECONDS = 5.0

Known = tuple[Obj, tuple[Obj, ...]]
"""A Service and its EndpointSlices."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file had."""

    services: tuple[Known, ...] = ()
    namespaces: tuple[str, ...] = ()


class KeptNames:
    """``directory`` is the room's own below the agent's."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._changed = asyncio.Event()
        self._written = 0

    async def read(self) -> Kept:
        """Nothing when there is none, or none that can be read."""
        try:
            found = await asyncio.to_thread(read_object, self._directory / FILE)
            services = tuple((dict(each["service"]), tuple(map(dict, each["slices"]))) for each in found["services"])
            return Kept(services, tuple(map(str, found["namespaces"])))
        except FileNotFoundError:
            return Kept()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("names of before are not known", error=repr(error))
            return Kept()

    def changed(self) -> None:
        self._changed.set()

    async def run(self, services: Callable[[], Iterable[Known]], namespaces: Callable[[], Iterable[str]]) -> None:
        """Writes what is known some time after it has changed, until cancelled."""
        while True:
            await self._changed.wait()
            await self._clock.sleep(SETTLE_SECONDS)
            self._changed.clear()
            known, spaces = list(services()), sorted(namespaces())
            if not known:
                continue  # The API has not told yet: a cluster without any Service there is none.
            try:
                await asyncio.to_thread(self._write, known, spaces)
            except OSError as error:
                log.warning("names cannot be kept for the agent that comes next", error=str(error))

    def _write(self, known: list[Known], spaces: list[str]) -> None:
        lines = ",\n".join(_lines(known))
        text = f'{{"namespaces": {orjson.dumps(spaces).decode()}, "services": [\n{lines}\n]}}\n'
        if hash(text) != self._written:
            write_file(self._directory, FILE, text)
            self._written = hash(text)


def _lines(known: Iterable[Known]) -> Iterator[str]:
    """One object a Service: other threads have their turn in between."""
    for service, slices in known:
        kept = {
            "service": slim_service(service),
            "slices": [slim_slice(each) for each in slices if _matters(service, each)],
        }
        yield orjson.dumps(kept).decode()


def slim_service(service: Obj) -> Obj:
    spec = service.get("spec") or {}
    kept = {part: spec[part] for part in ("type", "clusterIP", "clusterIPs", "externalName") if part in spec}
    kept["ports"] = [_port(port) for port in spec.get("ports") or ()]
    return {"metadata": {part: meta(service).get(part) for part in ("name", "namespace")}, "spec": kept}


def slim_slice(endpoint_slice: Obj) -> Obj:
    endpoints = [
        {
            "addresses": endpoint.get("addresses") or [],
            "conditions": {"ready": (endpoint.get("conditions") or {}).get("ready") is not False},
            **({"hostname": endpoint["hostname"]} if endpoint.get("hostname") else {}),
        }
        for endpoint in endpoint_slice.get("endpoints") or ()
    ]
    ports = [_port(port) for port in endpoint_slice.get("ports") or ()]
    return {"addressType": endpoint_slice.get("addressType"), "endpoints": endpoints, "ports": ports}


def _matters(service: Obj, endpoint_slice: Obj) -> bool:
    """Endpoints behind a cluster IP have names that nobody uses, unless they were given some."""
    headless = (service.get("spec") or {}).get("clusterIP") == "None"
    return headless or any(endpoint.get("hostname") for endpoint in endpoint_slice.get("endpoints") or ())


def _port(port: Obj) -> Obj:
    return {part: port[part] for part in ("name", "port", "protocol") if port.get(part)}
