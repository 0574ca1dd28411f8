"""Where a Service's port is answered: the addresses that nginx connects to."""

from __future__ import annotations

from collections.abc import Iterable

from orca.api.objects import Obj


class NoSuchPort(LookupError):
    """The Service has no port of that name or number."""


def service_port(service: Obj, wanted: Obj) -> Obj:
    """The port of a Service that an Ingress's ``{name}`` or ``{number}`` means."""
    name, number = wanted.get("name"), wanted.get("number")
    for port in (service.get("spec") or {}).get("ports") or ():
        if port.get("protocol", "TCP") == "TCP" and (port.get("name") == name if name else port["port"] == number):
            found: Obj = port
            return found
    raise NoSuchPort(name or str(number))


def joined(address: str, port: int) -> str:
    """``address:port``, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def peers(slices: Iterable[Obj], port_name: str) -> tuple[str, ...]:
    """Addresses of ready endpoints, sorted; when none is, those that end but still answer, as kube-proxy does.

    A pod with addresses of both families is there once, by the family that comes first.
    """
    ready: dict[str, str] = {}
    ending: dict[str, str] = {}
    for piece in sorted(slices, key=lambda one: (one.get("addressType") != "IPv4", one["metadata"]["name"])):
        ports = [port for port in piece.get("ports") or () if (port.get("name") or "") == port_name]
        if not ports or ports[0].get("port") is None or piece.get("addressType") == "FQDN":
            continue
        for endpoint in piece.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            target = endpoint.get("targetRef") or {}
            for address in (endpoint.get("addresses") or ())[:1]:
                found = joined(address, ports[0]["port"])
                who = target.get("uid") or found
                if conditions.get("ready") is not False and not conditions.get("terminating"):
                    ready.setdefault(who, found)
                elif conditions.get("serving") and conditions.get("terminating"):
                    ending.setdefault(who, found)
    return tuple(sorted(set((ready or ending).values())))
