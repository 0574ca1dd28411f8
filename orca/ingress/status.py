"""Where Ingresses are reached, for their ``status.loadBalancer.ingress``; written by one of all controllers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

import structlog

from orca.api.builtin import INGRESSES, NODES
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, key, name, split_key
from orca.client.base import Client
from orca.client.clock import Clock

log = structlog.get_logger()

RETRY_SECONDS = 5.0


def service_addresses(service: Obj | None) -> list[Obj]:
    """Addresses under which the controller's own Service is reached from outside; none while it has none."""
    spec = (service or {}).get("spec") or {}
    found: list[Obj] = []
    if spec.get("type") == "LoadBalancer":
        balancer = ((service or {}).get("status") or {}).get("loadBalancer") or {}
        for point in balancer.get("ingress") or ():
            shown = {part: point[part] for part in ("ip", "hostname") if point.get(part)}
            if shown:
                found.append(shown)
    return _ordered(found + [{"ip": address} for address in spec.get("externalIPs") or ()])


def node_addresses(nodes: Iterable[Obj]) -> list[Obj]:
    """Addresses of the hosts whose ports lead to the controller: external ones, else internal ones."""
    found: list[Obj] = []
    for node in nodes:
        addresses = (node.get("status") or {}).get("addresses") or ()
        for kind in ("ExternalIP", "InternalIP"):
            of_kind = [{"ip": one["address"]} for one in addresses if one.get("type") == kind]
            if of_kind:
                found.append(of_kind[0])
                break
    return _ordered(found)


def hosts_of(pods: Iterable[Obj]) -> list[str]:
    """Hosts on which a pod serves through ports of the host, sorted."""
    return sorted({pod["spec"]["nodeName"] for pod in pods if is_serving(pod) and _has_host_ports(pod)})


def is_serving(pod: Obj) -> bool:
    """Whether a pod of the controller takes requests."""
    if not (pod.get("spec") or {}).get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _has_host_ports(pod: Obj) -> bool:
    spec = pod.get("spec") or {}
    ports = [port for container in spec.get("containers") or () for port in container.get("ports") or ()]
    return bool(spec.get("hostNetwork")) or any(port.get("hostPort") for port in ports)


def _ordered(points: list[Obj]) -> list[Obj]:
    unique = {tuple(sorted(point.items())): point for point in points}
    return [unique[known] for known in sorted(unique)]


def shown(ingress: Obj) -> list[Obj]:
    """What an Ingress's status says now."""
    points = ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [{part: point[part] for part in ("ip", "hostname") if point.get(part)} for point in points]


class StatusWriter:
    """Keeps the status of all served Ingresses as it should be while `run` runs; `poke` says that something changed."""

    def __init__(
        self,
        client: Client,
        *,
        served: Callable[[], Collection[Obj]],
        service: Callable[[], Obj | None],
        pods: Callable[[], Iterable[Obj]],
        clock: Clock,
    ) -> None:
        """``served``: all Ingresses of ours; ``pods``: those of the controller, this one and its like."""
        self._client = client
        self._served = served
        self._service = service
        self._pods = pods
        self._clock = clock
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Something changed that the status may depend on."""
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._poked.clear()
            try:
                await self._write(await self.addresses())
            except ApiError as error:
                log.warning("status of Ingresses not written", error=str(error))
                await self._clock.sleep(RETRY_SECONDS)
                continue
            await self._poked.wait()

    async def addresses(self) -> list[Obj]:
        """Of the Service when it has any, else of the hosts. Raises ApiError."""
        found = service_addresses(self._service())
        if found:
            return found
        nodes = []
        for host in hosts_of(self._pods()):
            with _IfThere():
                nodes.append(await self._client.get(NODES, host))
        return node_addresses(nodes)

    async def clear(self) -> None:
        """Nobody serves any more. Raises ApiError."""
        await self._write([])

    async def _write(self, points: list[Obj]) -> None:
        for ingress in self._served():
            if shown(ingress) == points:
                continue
            space, own = split_key(key(ingress))
            with _IfThere():
                await self._client.patch(
                    INGRESSES,
                    own,
                    {"status": {"loadBalancer": {"ingress": points or None}}},
                    space,
                    subresource="status",
                )
                log.info("status of Ingress written", ingress=key(ingress), addresses=points)


class _IfThere(suppress):
    """What is gone needs no status."""

    def __init__(self) -> None:
        super().__init__(ApiError)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        return isinstance(error, ApiError) and is_not_found(error)


def others(pods: Iterable[Obj], own: str) -> list[str]:
    """Names of the controller's other pods that serve."""
    return [name(pod) for pod in pods if name(pod) != own and is_serving(pod)]
