"""Ingresses, and the world around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orca.ingress.classes import Ours, ours
from orca.ingress.model import Certificate, Location, Match, Routing, Users
from orca.ingress.routing import World, route
from orca.ingress.settings import PREFIX

Obj = dict[str, Any]
CLASS: Obj = {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}
OURS: Ours = ours([CLASS])


def backend(name: str = "web", port: int | str = 80) -> Obj:
    return {"service": {"name": name, "port": {"name": port} if isinstance(port, str) else {"number": port}}}


def path(text: str, kind: str = "Prefix", to: Obj | None = None) -> Obj:
    return {"path": text, "pathType": kind, "backend": to or backend()}


def ingress(
    *paths: Obj,
    name: str = "site",
    host: str = "a.test",
    age: int = 0,
    ask: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> Obj:
    """``age`` in minutes: larger is older; ``ask`` are annotations without their prefix."""
    made = {"ingressClassName": "nginx", **spec}
    if paths:
        rule: Obj = {"http": {"paths": list(paths)}}
        made["rules"] = [{"host": host, **rule} if host else rule]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "generation": 1,
            "creationTimestamp": f"2026-01-01T10:{59 - age:02}:00Z",
            "annotations": {**{PREFIX + key: text for key, text in (ask or {}).items()}, **(annotations or {})},
        },
        "spec": made,
    }


def service(name: str = "web", *, ports: list[Obj] | None = None, **spec: Any) -> Obj:
    listed = ports or [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": listed, **spec},
    }


def endpoint(address: str, **conditions: bool) -> Obj:
    return {"addresses": [address], "conditions": conditions or {"ready": True}, "targetRef": {"uid": address}}


def piece(*endpoints: Obj, of: str = "web", port: str = "http", number: int = 8080, kind: str = "IPv4") -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{of}-{kind}", "namespace": "shop", "labels": {"kubernetes.io/service-name": of}},
        "addressType": kind,
        "ports": [{"name": port, "port": number, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def world(
    *services: Obj,
    pieces: Iterable[Obj] = (),
    certificates: Mapping[str, Certificate] | None = None,
    users: Mapping[str, Users] | None = None,
    refused: Mapping[str, str] | None = None,
) -> World:
    known = {f"shop/{one['metadata']['name']}": one for one in services or (service(),)}
    slices = list(pieces) or [piece(endpoint("10.244.1.5"), endpoint("10.244.2.6"))]
    return World(
        service=known.get,
        slices=lambda name: [
            one for one in slices if f"shop/{one['metadata']['labels']['kubernetes.io/service-name']}" == name
        ],
        certificate=lambda name: (certificates or {}).get(name, f"there is no Secret {name!r}"),
        users=lambda name, by_user: (users or {}).get(name, f"there is no Secret {name!r}"),
        refused=refused or {},
    )


def routed(*ingresses: Obj, around: World | None = None) -> Routing:
    return route(ingresses, OURS, around or world())


def locations(routing: Routing, host: str = "a.test") -> dict[tuple[Match, str], Location]:
    for server in routing.servers:
        if server.name == host:
            return {(one.match, one.path): one for one in server.locations}
    raise AssertionError(f"no server {host!r} in {[server.name for server in routing.servers]}")


def answers(routing: Routing, host: str, request: str) -> str:
    """Whose location takes a path, by nginx's rules for locations; "404" for nobody's."""
    import re

    found = locations(routing, host)
    exact = found.get((Match.EXACT, request))
    best = None
    for (match, text), location in found.items():  # they are in the order of the configuration
        if exact is None and match in (Match.REGEX, Match.REGEX_ANY_CASE):
            flags = re.IGNORECASE if match is Match.REGEX_ANY_CASE else 0
            if re.search(text, request, flags):
                best = location
                break
    else:
        starts = [text for match, text in found if match is Match.START and request.startswith(text)]
        best = exact or found[Match.START, max(starts, key=len)]
    return best.ingress or str(best.status)
