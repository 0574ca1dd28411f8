"""From a Service's name and port to an address that can be dialled, without the Service's own address.

A server may stand where no proxy rules are, so ClusterIPs are never used: the ready endpoints are, as the cache shows
them. Reference: k8s.io/apiserver ``pkg/util/proxy`` ResolveEndpoint and ResolveCluster.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

from orca.api.builtin import ENDPOINTSLICES, SERVICES
from orca.api.errors import not_found, service_unavailable
from orca.api.objects import Obj, labels
from orca.api.resources import Resource

SERVICE_LABEL = "kubernetes.io/service-name"
SERVICE_INDEX = "service"
"""Name of the cache's index of EndpointSlices by the Service they belong to."""


class Reader(Protocol):
    """The cached side of the store."""

    def peek(self, resource: Resource, namespace: str, name: str, /) -> Obj | None:
        """One object as the cache shows it."""

    def peek_list(
        self, resource: Resource, namespace: str = "", /, *, hint: tuple[str, str] | None = None
    ) -> list[Obj]:
        """All objects of a namespace, or of the cluster."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect: an IP address, or the name an ExternalName Service stands for."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def server_name(namespace: str, name: str) -> str:
    """What the certificate behind a Service must say."""
    return f"{name}.{namespace}.svc"


class ServiceResolver:
    """Chooses endpoints, each ready one in turn."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._turn = itertools.count()

    def service(self, namespace: str, name: str) -> Obj:
        """Raises ApiError 404."""
        found = self._reader.peek(SERVICES, namespace, name)
        if found is None:
            raise not_found(SERVICES, name)
        return found

    def resolve(self, namespace: str, name: str, port: int) -> Address:
        """An address behind ``port`` of a Service.

        Raises ApiError 404 without such a Service, 503 for an unknown port or when no endpoint is ready.
        """
        service = self.service(namespace, name)
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return Address(spec.get("externalName") or "", port)
        wanted = service_port(service, port)
        if wanted is None:
            raise service_unavailable(f'no service port {port} found for service "{name}"')
        ready = self.ready(namespace, name, wanted.get("name") or "")
        if not ready:
            raise service_unavailable(f'no endpoints available for service "{name}"')
        return ready[next(self._turn) % len(ready)]

    def slices(self, namespace: str, name: str) -> list[Obj]:
        """The EndpointSlices of a Service."""
        found = self._reader.peek_list(ENDPOINTSLICES, namespace, hint=(SERVICE_INDEX, name))
        return [one for one in found if labels(one).get(SERVICE_LABEL) == name]

    def ready(self, namespace: str, name: str, port_name: str) -> list[Address]:
        """All ready addresses behind a port of a Service, by the port's name ("" for the unnamed one)."""
        found = []
        for piece in self.slices(namespace, name):
            if piece.get("addressType") == "FQDN":
                continue
            number = next((p.get("port") for p in piece.get("ports") or () if (p.get("name") or "") == port_name), None)
            if number is None:
                continue
            for endpoint in piece.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses"):
                    found.append(Address(endpoint["addresses"][0], number))
        return found


def service_port(service: Obj, port: int) -> Obj | None:
    """The entry of ``spec.ports`` with that number."""
    return next((one for one in (service.get("spec") or {}).get("ports") or () if one.get("port") == port), None)
