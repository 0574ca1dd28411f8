"""Nine pods in three namespaces and policies about them, in the manner of upstream's e2e tests: for rules alone and
for real connections.

Namespaces x, y and z have the label ``ns``, their pods a, b and c the label ``pod``. Each serves TCP and UDP (and SCTP,
where there is) on ports 80 and 81, which have names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Obj = dict[str, Any]
Addresses = Mapping[str, str]
""""x/a" -> address"""

SPACES, NAMES = ("x", "y", "z"), ("a", "b", "c")
PODS = tuple(f"{space}/{name}" for space in SPACES for name in NAMES)
NUMBERS = (80, 81)


def namespaces() -> list[Obj]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "uid": name, "labels": {"ns": name, "kubernetes.io/metadata.name": name}},
        }
        for name in SPACES
    ]


def pod(key: str, node: str = "", *addresses: str, **labels: str) -> Obj:
    space, name = key.split("/")
    ports = [
        {"name": f"serve-{number}-{protocol.lower()}", "containerPort": number, "protocol": protocol}
        for number in NUMBERS
        for protocol in ("TCP", "UDP", "SCTP")
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "uid": f"uid-{space}-{name}", "labels": {"pod": name, **labels}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x", "ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": one} for one in addresses]},
    }


def policy(key: str, pods: Obj | None = None, *types: str, **rules: Any) -> Obj:
    space, name = key.split("/")
    spec = {"podSelector": pods or {}, "policyTypes": list(types) or [one.capitalize() for one in rules], **rules}
    metadata = {"name": name, "namespace": space, "uid": f"uid-{space}-{name}"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def only(**labels: str) -> Obj:
    return {"matchLabels": labels}


def among(key: str, operator: str, *values: str) -> Obj:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def port(number: int | str | None = None, protocol: str = "TCP", last: int = 0) -> Obj:
    found: Obj = {"protocol": protocol}
    if number is not None:
        found["port"] = number
    if last:
        found["endPort"] = last
    return found


def _block(cidr: str, *outside: str) -> Obj:
    return {"ipBlock": {"cidr": cidr, **({"except": list(outside)} if outside else {})}}


A = only(pod="a")
_Y_AND_B = {"namespaceSelector": only(ns="y"), "podSelector": only(pod="b")}

CASES: dict[str, Callable[[Addresses], list[Obj]]] = {
    "nothing gets in": lambda _: [policy("x/deny", ingress=[])],
    "nothing gets out": lambda _: [policy("x/deny", egress=[])],
    "nothing gets in or out": lambda _: [policy("x/deny", None, "Ingress", "Egress")],
    "types by default": lambda _: [policy("x/p", A, "Ingress")],
    "from the own namespace": lambda _: [policy("x/p", ingress=[{"from": [{"podSelector": {}}]}])],
    "from another namespace": lambda _: [policy("x/p", A, ingress=[{"from": [{"namespaceSelector": only(ns="y")}]}])],
    "from a namespace by its name": lambda _: [
        policy("x/p", A, ingress=[{"from": [{"namespaceSelector": only(**{"kubernetes.io/metadata.name": "z"})}]}])
    ],
    "from pods of a namespace": lambda _: [policy("x/p", A, ingress=[{"from": [_Y_AND_B]}])],
    "from pods or a namespace": lambda _: [
        policy("x/p", A, ingress=[{"from": [{"namespaceSelector": only(ns="y")}, {"podSelector": only(pod="b")}]}])
    ],
    "from pods of all namespaces": lambda _: [
        policy("y/p", A, ingress=[{"from": [{"namespaceSelector": {}, "podSelector": only(pod="c")}]}])
    ],
    "expressions": lambda _: [
        policy(
            "x/p",
            among("pod", "In", "a", "b"),
            ingress=[
                {"from": [{"namespaceSelector": among("ns", "NotIn", "z"), "podSelector": among("pod", "NotIn", "c")}]}
            ],
        )
    ],
    "nobody has that label": lambda _: [
        policy("x/p", among("pod", "Exists"), ingress=[{"from": [{"podSelector": among("pod", "DoesNotExist")}]}])
    ],
    "one port": lambda _: [policy("x/p", A, ingress=[{"ports": [port(80)]}])],
    "a port by name, in": lambda _: [policy("x/p", A, ingress=[{"ports": [port("serve-81-tcp")]}])],
    "a port by name, out": lambda _: [policy("x/p", A, egress=[{"ports": [port("serve-80-tcp")]}])],
    "a port by name, out to some": lambda _: [
        policy(
            "z/p",
            egress=[{"to": [{"namespaceSelector": only(ns="y")}], "ports": [port("serve-81-udp", "UDP"), port(80)]}],
        )
    ],
    "another protocol": lambda _: [policy("x/p", A, ingress=[{"ports": [port(80, "UDP")]}])],
    "all of a protocol": lambda _: [policy("x/p", A, ingress=[{"ports": [port()]}])],
    "a range of ports": lambda _: [policy("x/p", ingress=[{"ports": [port(81, last=90), port(1, "UDP", 80)]}])],
    "out to pods and ports": lambda _: [
        policy("x/p", A, egress=[{"to": [{"namespaceSelector": only(ns="y")}], "ports": [port(80)]}])
    ],
    "a block": lambda ips: [
        policy("x/p", A, ingress=[{"from": [_block(f"{ips['y/a']}/32"), _block(f"{ips['z/b']}/32")]}])
    ],
    "a block with exceptions, in": lambda ips: [
        policy("x/p", A, ingress=[{"from": [_block("0.0.0.0/0", f"{ips['y/a']}/32", "10.244.2.0/25")]}])
    ],
    "a block with exceptions, out": lambda ips: [
        policy("y/p", egress=[{"to": [_block("10.244.0.0/16", f"{ips['x/a']}/32", f"{ips['y/b']}/32")]}])
    ],
    "policies add up": lambda _: [
        policy("x/deny", None, "Ingress", "Egress"),
        policy("x/in", A, ingress=[{"from": [{"namespaceSelector": only(ns="y")}], "ports": [port(80)]}]),
        policy("x/in-too", A, ingress=[{"from": [{"podSelector": only(pod="b")}]}]),
        policy("x/out", only(pod="b"), egress=[{"to": [{"podSelector": A}]}]),
    ],
    "both ends have to agree": lambda _: [
        policy(
            "x/out", A, egress=[{"to": [{"namespaceSelector": only(ns="y"), "podSelector": among("pod", "Exists")}]}]
        ),
        policy(
            "y/in",
            only(pod="b"),
            ingress=[{"from": [{"namespaceSelector": only(ns="x"), "podSelector": only(pod="c")}]}],
        ),
    ],
    "everything is allowed again": lambda _: [
        policy("x/deny", ingress=[], egress=[]),
        policy("x/allow", A, ingress=[{}], egress=[{}]),
    ],
}
"""What a case is about -> its policies, for pods that have these addresses."""
