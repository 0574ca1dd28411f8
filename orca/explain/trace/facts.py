"""What is known about a pod's way to a Service. Everything optional was asked for and may have stayed unanswered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orca.api.objects import Obj


@dataclass(frozen=True, slots=True)
class Wish:
    """What was typed: ``SERVICE[:PORT[/PROTOCOL]]``. ``port`` is a number, a name, or "" for the only one."""

    host: str
    port: str = ""
    protocol: str = ""

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"{self.host}{port}" + (f"/{self.protocol}" if self.protocol else "")


@dataclass(frozen=True, slots=True)
class Resolver:
    """The pod's resolv.conf."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def ndots(self) -> int:
        for option in self.options:
            head, _, value = option.partition(":")
            if head == "ndots" and value.isdigit():
                return min(int(value), 15)
        return 1


@dataclass(frozen=True, slots=True)
class Lookup:
    """One question the pod's nameserver was asked, in the pod's place. ``error`` "" when it answered."""

    name: str
    type: str
    nameserver: str
    rcode: str = ""
    records: tuple[tuple[str, str], ...] = ()
    """(type, data)"""
    error: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(data for kind, data in self.records if kind in ("A", "AAAA"))


@dataclass(frozen=True, slots=True)
class RuleEndpoint:
    ip: str
    port: int
    packets: int | None = None
    connections: int | None = None

    def __str__(self) -> str:
        return address_text(self.ip, self.port)


@dataclass(frozen=True, slots=True)
class HostRules:
    """What the kernel of the pod's host has for one cluster IP and port."""

    ip: str
    port: int
    protocol: str
    mode: str = ""
    present: bool = False
    packets: int | None = None
    refuses: bool = False
    endpoints: tuple[RuleEndpoint, ...] = ()
    text: tuple[str, ...] = ()
    error: str = ""
    """Why it is not known; the rest means nothing then."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket in an endpoint pod that takes connections; ``address`` "" is every address of ``family``."""

    protocol: str
    port: int
    address: str = ""
    family: int = 4


@dataclass(frozen=True, slots=True)
class Judgement:
    """What NetworkPolicies say of one direction of one connection."""

    direction: str
    allowed: bool
    reason: str = ""
    isolating: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    destination: str
    device: str
    gateway: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One endpoint of the Service as its slices tell it, with what was found out about it."""

    ip: str
    port: int
    ready: bool
    serving: bool
    terminating: bool
    node: str = ""
    pod: Obj | None = None
    pod_key: str = ""
    """namespace/name when the slice names a pod, also when that is gone."""
    judgements: tuple[Judgement, ...] | None = None
    listeners: tuple[Listener, ...] | None = None
    route_back: Route | None = None
    route_known: bool = False
    connection: str = ""
    """"connected", "refused", "timeout" or what the system says; "" when it was not tried."""

    def __str__(self) -> str:
        who = f"pod {self.pod_key}" if self.pod_key else "no pod"
        return f"{address_text(self.ip, self.port)} ({who}{' on ' + self.node if self.node else ''})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it. Maps of Nodes are by name; ``problems`` say which agents could not be asked, and why."""

    wish: Wish
    pod: Obj
    node: Obj | None
    domain: str = "cluster.local"
    cluster_dns: tuple[str, ...] = ()
    resolver: Resolver | None = None
    lookups: tuple[Lookup, ...] = ()
    namespace: str = ""
    """Of the Service that is meant, whether or not it is there; with ``name``, "" for a name of the outside."""
    name: str = ""
    service: Obj | None = None
    elsewhere: tuple[str, ...] = ()
    """Namespaces with a Service of that name, when it is not where it was looked for."""
    port: Obj | None = None
    """The entry of the Service's ports that is meant."""
    selected: tuple[Obj, ...] = ()
    """Pods that the Service's selector means."""
    slices: tuple[Obj, ...] = ()
    targets: tuple[Target, ...] = ()
    nodes: Mapping[str, Obj] = field(default_factory=dict)
    rules: tuple[HostRules, ...] = ()
    connections: Mapping[str, str] = field(default_factory=dict)
    """Cluster IP and port as text -> how a connection to it went."""
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def pod_node(self) -> str:
        return str((self.pod.get("spec") or {}).get("nodeName") or "")

    @property
    def pod_ips(self) -> tuple[str, ...]:
        status = self.pod.get("status") or {}
        listed = tuple(entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip"))
        return listed or ((status["podIP"],) if status.get("podIP") else ())

    @property
    def host_network(self) -> bool:
        return bool((self.pod.get("spec") or {}).get("hostNetwork"))

    @property
    def service_key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def cluster_ips(self) -> tuple[str, ...]:
        """None for headless Services and ExternalNames."""
        spec = (self.service or {}).get("spec") or {}
        if spec.get("type") == "ExternalName":
            return ()
        return tuple(ip for ip in spec.get("clusterIPs") or (spec.get("clusterIP"),) if ip and ip != "None")

    @property
    def kind(self) -> str:
        """ "ClusterIP", "NodePort", "LoadBalancer", "Headless" or "ExternalName"; "" without a Service."""
        spec = (self.service or {}).get("spec") or {}
        if self.service is None or spec.get("type") == "ExternalName":
            return "ExternalName" if self.service is not None else ""
        return str(spec.get("type") or "ClusterIP") if self.cluster_ips else "Headless"

    @property
    def protocol(self) -> str:
        return str((self.port or {}).get("protocol") or self.wish.protocol or "TCP")


def address_text(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def ready_condition(obj: Obj) -> tuple[bool, str]:
    """(Ready, why not) of a Pod or Node."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            why = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
            return condition.get("status") == "True", why
    return False, "it has not said so yet"
