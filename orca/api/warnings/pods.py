"""Pods and pod templates.

Reference: k8s.io/kubernetes ``pkg/api/pod/warnings.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge

from orca.api.errors import quote
from orca.api.objects import Obj
from orca.api.quantity import Quantity
from orca.api.warnings import labels

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_NO_POD = "a null labelSelector results in matching no pod"
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_APPARMOR = 'deprecated since v1.30; use the "appArmorProfile" field instead'
_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_SELDOM = frozenset(
    {"nodeSelector", "affinity", "topologySpreadConstraints", "hostAliases", "imagePullSecrets", "overhead"}
)
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_WHOLE = ("memory", "ephemeral-storage")


def pod(meta: Obj, spec: Obj, at: str) -> Iterator[str]:
    """*meta* and *spec* of a pod (*at* is "") or of a template at *at*, which ends with a dot."""
    # Most pods have little of what is looked for, and every pod passes here.
    seldom = not _SELDOM.isdisjoint(spec)
    if seldom:
        yield from _placement(spec, f"{at}spec")
    annotations = meta.get("annotations") or {}
    if annotations:
        for key, text in _ANNOTATIONS.items():
            if key in annotations:
                yield f"{at}metadata.annotations[{key}]: {text}"
    if spec.get("volumes"):
        yield from _volumes(spec["volumes"], f"{at}spec.volumes")
    if seldom:
        yield from _repeated(spec, f"{at}spec")
        yield from _fractions(spec.get("overhead"), f"{at}spec.overhead")
    context = spec.get("securityContext") or {}
    if annotations and not context.get("seccompProfile") and "seccomp.security.alpha.kubernetes.io/pod" in annotations:
        yield f"{at}metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: {_SECCOMP}"
    listed = [
        (f"{at}spec.{key}[{i}]", container) for key in _CONTAINERS for i, container in enumerate(spec.get(key) or ())
    ]
    for path, container in listed:
        if annotations:
            yield from _profiles(container, annotations, context, at)
        resources = container.get("resources")
        if resources:
            for kind in ("limits", "requests"):
                yield from _fractions(resources.get(kind), f"{path}.resources.{kind}")
        if container.get("env"):
            yield from _variables(container["env"], f"{path}.env")
    yield from _ports(listed)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        yield (
            f"{at}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid "
            "and will be treated as 1"
        )
    if spec.get("affinity"):
        yield from _pod_affinity(spec["affinity"], f"{at}spec.affinity")


def _placement(spec: Obj, at: str) -> Iterator[str]:
    yield from labels.in_selector(spec.get("nodeSelector"), f"{at}.nodeSelector")
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    yield from labels.in_node_terms(node.get(_REQUIRED), f"{at}.affinity.nodeAffinity.{_REQUIRED}")
    for i, term in enumerate(node.get(_PREFERRED) or ()):
        path = f"{at}.affinity.nodeAffinity.{_PREFERRED}[{i}].preference"
        yield from labels.in_node_term(term.get("preference") or {}, path)
    for i, rule in enumerate(spec.get("topologySpreadConstraints") or ()):
        path = f"{at}.topologySpreadConstraints[{i}]"
        key = rule.get("topologyKey") or ""
        if text := labels.renamed(key):
            yield f"{path}.topologyKey: {key} is {text}"
        if rule.get("labelSelector") is None:
            yield f"{path}.labelSelector: {_NO_POD}"


def _volumes(volumes: list[Obj], at: str) -> Iterator[str]:
    tokens = set()
    for i, volume in enumerate(volumes):
        for kind, text in _VOLUMES.items():
            if volume.get(kind) is not None:
                yield f"{at}[{i}].{kind}: {text}"
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template:
            yield from claim(template.get("spec") or {}, f"{at}[{i}].ephemeral.volumeClaimTemplate.spec")
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken"):
                tokens.add(source["serviceAccountToken"].get("path"))
    if not tokens:
        return
    for i, volume in enumerate(volumes):
        for source in (volume.get("projected") or {}).get("sources") or ():
            for kind, shown in (("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")):
                for j, item in enumerate((source.get(kind) or {}).get("items") or ()):
                    if item.get("path") in tokens:
                        path = f"{at}[{i}].projected.sources.{shown}[{j}]"
                        yield f"{path}: has duplicated path with ServiceAccountToken {quote(item['path'])}"


def claim(spec: Obj, at: str) -> Iterator[str]:
    """The spec of a PersistentVolumeClaim."""
    for kind in ("requests", "limits"):
        values = (spec.get("resources") or {}).get(kind) or {}
        if "storage" in values and not _whole(values["storage"]):
            shown = quote(str(values["storage"]))
            yield f"{at}.resources.{kind}[storage]: fractional byte value {shown} is invalid, must be an integer"


def _repeated(spec: Obj, at: str) -> Iterator[str]:
    seen = set()
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        address = alias.get("ip") or ""
        if address in seen:
            yield f"{at}.hostAliases[{i}].ip: duplicate ip {quote(address)}"
        seen.add(address)
    seen = set()
    for i, secret in enumerate(spec.get("imagePullSecrets") or ()):
        name = secret.get("name") or ""
        if name in seen:
            yield f"{at}.imagePullSecrets[{i}].name: duplicate name {quote(name)}"
        seen.add(name)
        if not name:
            yield f'{at}.imagePullSecrets[{i}].name: invalid empty name ""'


def _whole(value: object) -> bool:
    try:
        amount = Quantity.parse(str(value)).value
    except ValueError:
        return True
    return bool(amount == amount.to_integral_value())


def _fractions(values: Obj | None, at: str) -> Iterator[str]:
    for name in _WHOLE:
        if values and name in values and not _whole(values[name]):
            shown = quote(str(values[name]))
            yield f"{at}[{name}]: fractional byte value {shown} is invalid, must be an integer"


def _profiles(container: Obj, annotations: Obj, pod_context: Obj, at: str) -> Iterator[str]:
    name, context = container.get("name") or "", container.get("securityContext") or {}
    key = f"container.seccomp.security.alpha.kubernetes.io/{name}"
    if key in annotations and not context.get("seccompProfile"):
        yield f"{at}metadata.annotations[{key}]: {_SECCOMP}"
    key = f"container.apparmor.security.beta.kubernetes.io/{name}"
    if key in annotations and not context.get("appArmorProfile") and not pod_context.get("appArmorProfile"):
        yield f"{at}metadata.annotations[{key}]: {_APPARMOR}"


def _variables(variables: list[Obj], at: str) -> Iterator[str]:
    seen = set()
    for i, variable in enumerate(variables):
        name, value = variable.get("name") or "", variable.get("value") or ""
        if name not in seen:
            seen.add(name)
            continue
        reference = f"$({name})"
        if variable.get("valueFrom") is not None or value == reference or reference not in value:
            text = f"hides previous definition of {quote(name)}, which may be dropped when using apply"
            yield f"{at}[{i}]: {text}"


def _ports(containers: list[tuple[str, Obj]]) -> Iterator[str]:
    seen: dict[tuple[int, str], _Ports] = {}
    for path, container in containers:
        for i, port in enumerate(container.get("ports") or ()):
            at = f"{path}.ports[{i}]"
            address, number = port.get("hostIP") or "", port.get("hostPort") or 0
            if address and not number:
                yield f"{at}: hostIP set without hostPort: {_shown(port)}"
            others = seen.setdefault((port.get("containerPort") or 0, port.get("protocol") or ""), _Ports())
            for _, where, other_address, other_number in others.near(number):
                if (address, number) == (other_address, other_number):
                    yield f"{at}: duplicate port definition with {where}"
                elif not number or not other_number:
                    yield f"{at}: overlapping port definition with {where}"
                elif number == other_number and bool(address) != bool(other_address):
                    yield f"{at}: dangerously ambiguous port definition with {where}"
            others.add(at, address, number)


class _Ports:
    """Ports of one number in containers: (count, where, address and port of the host)."""

    def __init__(self) -> None:
        self._all: list[tuple[int, str, str, int]] = []
        self._by_number: dict[int, list[tuple[int, str, str, int]]] = {}

    def add(self, where: str, address: str, number: int) -> None:
        one = (len(self._all), where, address, number)
        self._all.append(one)
        self._by_number.setdefault(number, []).append(one)

    def near(self, number: int) -> Iterable[tuple[int, str, str, int]]:
        """Those that may be in the way of one with this port of the host, in their order."""
        if not number:
            return self._all
        return merge(self._by_number.get(0, ()), self._by_number.get(number, ()))


def _shown(port: Obj) -> str:
    fields = ("name", "hostPort", "containerPort", "protocol", "hostIP")
    words = [
        f"{field[0].upper()}{field[1:]}:{port.get(field) or ('' if field != 'hostPort' else 0)}" for field in fields
    ]
    return "{" + " ".join(words) + "}"


def _pod_affinity(affinity: Obj, at: str) -> Iterator[str]:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        for i, term in enumerate(rules.get(_REQUIRED) or ()):
            if term.get("labelSelector") is None:
                yield f"{at}.{kind}.{_REQUIRED}[{i}].labelSelector: {_NO_POD}"
        for i, item in enumerate(rules.get(_PREFERRED) or ()):
            if (item.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{at}.{kind}.{_PREFERRED}[{i}].podAffinityTerm.labelSelector: {_NO_POD}"
