"""The Node object, purely: facts of the host in, the object or its status out.

Capacity is what the host has; allocatable leaves out what pods must not use: what is reserved for the system, and what
the hard eviction thresholds keep free (by default 100 MiB of memory and 10 % of the disk).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agents.node.facts import HostFacts
from agents.resources.amounts import Amounts
from agents.resources.reservations import Reservations
from orca.api.names import label_value, qualified_name
from orca.api.nodelabels import KUBELET_LABELS, KUBELET_PREFIXES, ROLE, is_foreign
from orca.api.objects import Obj
from orca.api.times import format_time

MAX_IMAGES = 50
MAX_IMAGE_NAMES = 5

Taint = dict[str, str]


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What the person who started the agent decided."""

    name: str
    addresses: tuple[str, ...]
    version: str
    port: int = 10250
    max_images: int = MAX_IMAGES
    """How many the status lists at most, the largest first; -1 for all."""
    max_pods: int = 110
    pods_per_core: int = 0
    """More than this times the cpus are not taken, 0 for no such limit."""
    provider_id: str = ""
    register: bool = True
    """Make the Node object when there is none; else somebody else does."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[tuple[str, str, str], ...] = ()
    """(key, value, effect)"""
    reservations: Reservations = field(default_factory=Reservations)
    local_storage: bool = True
    """Whether disk is something that pods are given a part of (localStorageCapacityIsolation)."""
    read_only_in_depth: bool = False
    """Mounts can be made read-only with all that is mounted below them."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this host: its names (digests and tags) and size in bytes."""

    names: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What is so at one moment. `pressure` names the conditions that hold (`MemoryPressure` …); `problems` are the
    reasons why pods cannot run here now; none means ready."""

    engine: str
    """`docker://<version>`, or "" while the engine is down."""
    runtimes: Sequence[str] = ()
    """Names of the runtimes that the engine was given; () while it is down."""
    images: Sequence[Image] = ()
    problems: Sequence[str] = ()
    pressure: Collection[str] = ()


def default_labels(options: NodeOptions, facts: HostFacts) -> dict[str, str]:
    """Labels that the agent owns."""
    return {
        "beta.kubernetes.io/arch": facts.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": facts.architecture,
        "kubernetes.io/hostname": options.name,
        "kubernetes.io/os": "linux",
        **options.labels,
    }


def node_reference(name: str) -> Obj:
    """This node as what an event is about; the kubelet gives its name as uid, and so do tools that look for them."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}


def new_node(options: NodeOptions, facts: HostFacts, observed: Observation, now: datetime) -> Obj:
    """The object with which a host registers."""
    node: Obj = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": options.name,
            "labels": default_labels(options, facts),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {"providerID": options.provider_id} if options.provider_id else {},
        "status": status(options, facts, observed, previous={}, now=now),
    }
    if options.taints:
        node["spec"]["taints"] = [_taint(*taint) for taint in options.taints]
    return node


def status(options: NodeOptions, facts: HostFacts, observed: Observation, *, previous: Obj, now: datetime) -> Obj:
    """The status that should be there; conditions of others and their transition times are taken over."""
    return {
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in options.addresses),
            {"type": "Hostname", "address": options.name},
        ],
        "capacity": {**_extended(previous), **capacity(options, facts)},
        # What somebody advertises as capacity can be asked for, and nothing else, as with the kubelet.
        "allocatable": {**_extended(previous), **allocatable(options, facts)},
        "conditions": conditions(previous.get("conditions") or [], observed, now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": options.port}},
        "images": [
            {"names": list(image.names[:MAX_IMAGE_NAMES]), "sizeBytes": image.size}
            for image in _listed(observed.images, options.max_images)
        ],
        "nodeInfo": {
            "architecture": facts.architecture,
            "bootID": facts.boot_id,
            # An engine that is down has not changed its version.
            "containerRuntimeVersion": observed.engine
            or (previous.get("nodeInfo") or {}).get("containerRuntimeVersion", "docker://unknown"),
            "kernelVersion": facts.kernel,
            "kubeProxyVersion": "",  # no node tells it any more
            "kubeletVersion": options.version,
            "machineID": facts.machine_id,
            "operatingSystem": "linux",
            "osImage": facts.os_image,
            "systemUUID": facts.system_uuid,
            **({"swap": {"capacity": facts.swap}} if facts.swap else {}),
        },
        "features": {"supplementalGroupsPolicy": True},
        "runtimeHandlers": _handlers(options, observed, previous),
    }


def _handlers(options: NodeOptions, observed: Observation, previous: Obj) -> list[Obj]:
    """What a RuntimeClass may name as its handler; "" is the engine's default. One that is down keeps its runtimes."""
    known = observed.runtimes or [one["name"] for one in previous.get("runtimeHandlers") or () if one.get("name")]
    features = {"recursiveReadOnlyMounts": options.read_only_in_depth, "userNamespaces": False}
    return [{"name": name, "features": features} for name in ("", *known)]


def _extended(previous: Obj) -> dict[str, str]:
    """Extended resources (``example.com/dongle``) that others have put into the capacity: theirs to change."""
    return {name: amount for name, amount in (previous.get("capacity") or {}).items() if "/" in name}


def capacity(options: NodeOptions, facts: HostFacts) -> dict[str, str]:
    """Everything the host has, as quantities in the units kubelet uses."""
    return {
        "cpu": str(facts.cpus),
        **({"ephemeral-storage": f"{facts.disk >> 10}Ki"} if options.local_storage else {}),
        **{name: str(size) for name, size in facts.huge_pages},
        "memory": f"{facts.memory >> 10}Ki",
        "pods": str(most_pods(options, facts)),
    }


def most_pods(options: NodeOptions, facts: HostFacts) -> int:
    """How many pods the host takes."""
    if not options.pods_per_core:
        return options.max_pods
    return min(options.max_pods, options.pods_per_core * facts.cpus)


def capacity_amounts(facts: HostFacts) -> Amounts:
    """What is reserved from: cpu in thousandths, the rest in bytes."""
    return {
        "cpu": facts.cpus * 1000,
        "memory": facts.memory,
        "ephemeral-storage": facts.disk,
        **dict(facts.huge_pages),
    }


def allocatable(options: NodeOptions, facts: HostFacts) -> dict[str, str]:
    """What pods may ask for, in the units kubelet uses."""
    left = options.reservations.allocatable(capacity_amounts(facts))
    if not options.local_storage:
        del left["ephemeral-storage"]
    cpu, memory = left["cpu"], left["memory"]
    return {
        **capacity(options, facts),
        **{name: str(size) for name, size in left.items()},
        "cpu": f"{cpu}m" if cpu % 1000 else str(cpu // 1000),
        "memory": str(memory) if memory % 1024 else f"{memory >> 10}Ki",
    }


def _listed(images: Sequence[Image], most: int) -> list[Image]:
    """The largest first, without those that lost their names."""
    largest = sorted((image for image in images if image.names), key=lambda image: (-image.size, image.names))
    return largest if most < 0 else largest[:most]


def conditions(previous: Sequence[Obj], observed: Observation, now: datetime) -> list[Obj]:
    """The four conditions a kubelet reports, each with the time it last changed, followed by those of others."""
    stamp = format_time(now)
    wanted = [
        _condition(
            "MemoryPressure",
            "MemoryPressure" in observed.pressure,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "kubelet has insufficient memory available",
            "kubelet has sufficient memory available",
        ),
        _condition(
            "DiskPressure",
            "DiskPressure" in observed.pressure,
            "KubeletHasDiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has disk pressure",
            "kubelet has no disk pressure",
        ),
        _condition(
            "PIDPressure",
            "PIDPressure" in observed.pressure,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "kubelet has insufficient PID available",
            "kubelet has sufficient PID available",
        ),
        _condition(
            "Ready",
            not observed.problems,
            "KubeletReady",
            "KubeletNotReady",
            "kubelet is posting ready status",
            _joined(observed.problems),
        ),
    ]
    before = {condition["type"]: condition for condition in previous}
    for condition in wanted:
        old = before.pop(condition["type"], None)
        same = old is not None and old.get("status") == condition["status"]
        condition["lastHeartbeatTime"] = stamp
        condition["lastTransitionTime"] = old.get("lastTransitionTime", stamp) if same and old else stamp
    return [*before.values(), *wanted]


def without_heartbeats(status_: Obj) -> Obj:
    """The status as compared for a change: heartbeat times alone are none."""
    return {
        **status_,
        "conditions": [
            {key: value for key, value in condition.items() if key != "lastHeartbeatTime"}
            for condition in status_.get("conditions") or []
        ],
    }


def parse_taint(text: str) -> tuple[str, str, str]:
    """`key[=value]:effect`; raises ValueError."""
    key_value, colon, effect = text.rpartition(":")
    key, _, value = key_value.partition("=")
    if not colon or not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise ValueError(f"invalid taint {text!r}: want <key>[=<value>]:NoSchedule|PreferNoSchedule|NoExecute")
    return key, value, effect


def parse_labels(text: str) -> dict[str, str]:
    """`key=value,key=value`; raises ValueError, as a kubelet for labels that are wrong or not for nodes to set."""
    labels = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid label {part!r}: want <key>=<value>")
        if problems := qualified_name(key) + label_value(value):
            raise ValueError(f"invalid label {part!r}: {problems[0]}")
        labels[key] = value
    if foreign := sorted(key for key in labels if is_foreign(key) and not key.startswith(ROLE)):
        raise ValueError(
            f"unknown 'kubernetes.io' or 'k8s.io' labels: {', '.join(foreign)}; nodes may have those below "
            f"{', '.join(KUBELET_PREFIXES)} and {', '.join(sorted(KUBELET_LABELS))}"
        )
    return labels


def _taint(key: str, value: str, effect: str) -> Taint:
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def _joined(problems: Sequence[str]) -> str:
    return problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"


def _condition(kind: str, holds: bool, reason: str, other_reason: str, message: str, other_message: str) -> Obj:
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason if holds else other_reason,
        "message": message if holds else other_message,
    }
