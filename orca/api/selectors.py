"""Label and field selectors: parsed once, matched often.

Reference: k8s.io/apimachinery ``labels``, ``fields`` and ``apis/meta/v1`` (LabelSelector); the supported fields are
those of upstream's field label conversions.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orca.api import label_syntax
from orca.api.errors import bad_request
from orca.api.objects import Obj, meta
from orca.api.resources import Resource

Judge = Callable[[Mapping[str, str]], bool]
"""Labels -> whether they are selected."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition. ``operator`` is one of ``in notin exists ! gt lt``; ``=`` is an ``in`` of one value."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it; a missing key meets ``notin`` and ``!``."""
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        try:
            left, right = int(value or ""), int(next(iter(self.values)))
        except ValueError:
            return False
        return left > right if self.operator == "gt" else left < right

    def judge(self) -> Judge:
        """``matches``, decided once for many."""
        key, values = self.key, self.values
        match self.operator:
            case "in":
                return lambda labels: labels.get(key) in values
            case "notin":
                return lambda labels: labels.get(key) not in values
            case "exists":
                return lambda labels: labels.get(key) is not None
            case "!":
                return lambda labels: labels.get(key) is None
        return self.matches

    def __str__(self) -> str:
        listed = ",".join(sorted(self.values))
        match self.operator:
            case "in" if len(self.values) == 1:
                return f"{self.key}={listed}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({listed})"
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
        return f"{self.key}{'>' if self.operator == 'gt' else '<'}{listed}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements hold. Without any it matches everything, unless ``nothing``."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a map of labels is selected."""
        if self.nothing:
            return False
        return all(requirement.matches(labels) for requirement in self.requirements)

    def judge(self) -> Judge:
        """``matches``, decided once for many."""
        if self.nothing or not self.requirements:
            return self.matches
        judges = [requirement.judge() for requirement in self.requirements]
        return judges[0] if len(judges) == 1 else _all(judges)

    @property
    def empty(self) -> bool:
        """Selects everything."""
        return not self.requirements and not self.nothing

    def exact(self) -> dict[str, str]:
        """The ``key=value`` part, for indexes."""
        return {r.key: next(iter(r.values)) for r in self.requirements if r.operator == "in" and len(r.values) == 1}

    def __str__(self) -> str:
        return "<nothing>" if self.nothing else ",".join(str(requirement) for requirement in self.requirements)


def _all(judges: list[Judge]) -> Judge:
    """Whether all say so. One after the other: a client may ask for any number, and calls nest only so deep."""

    def judge(labels: Mapping[str, str]) -> bool:
        for one in judges:  # noqa: SIM110 - all() takes a fifth longer
            if not one(labels):
                return False
        return True

    return judge


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def parse_label_selector(text: str) -> Selector:
    """``a=b,c!=d,e in (f,g),h,!i,j>1``. Raises ApiError 400."""
    try:
        found = label_syntax.parse(text)
    except ValueError as problem:
        raise bad_request(str(problem)) from None
    requirements = (Requirement(one.key, one.operator, frozenset(one.values)) for one in found)
    return Selector(tuple(sorted(requirements, key=lambda r: r.key)))


_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


def from_label_selector(selector: Obj | None) -> Selector:
    """From a ``metav1.LabelSelector``: None selects nothing, an empty one everything. Raises ValueError."""
    if selector is None:
        return NOTHING
    requirements = [
        Requirement(key, "in", frozenset((value or "",))) for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for expression in selector.get("matchExpressions") or ():
        operator = _OPERATORS.get(expression.get("operator") or "")
        if operator is None:
            raise ValueError(f'"{expression.get("operator")}" is not a valid label selector operator')
        requirements.append(
            Requirement(expression.get("key") or "", operator, frozenset(expression.get("values") or ()))
        )
    return Selector(tuple(sorted(requirements, key=lambda r: r.key)))


def from_map(labels: Mapping[str, str] | None) -> Selector:
    """From a plain map as Services and ReplicationControllers have: an empty one selects nothing there."""
    if not labels:
        return NOTHING
    return Selector(tuple(Requirement(key, "in", frozenset((labels[key],))) for key in sorted(labels)))


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """``path=value`` or ``path!=value``."""

    path: str
    value: str
    equal: bool


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All requirements hold."""

    requirements: tuple[FieldRequirement, ...] = ()

    @property
    def empty(self) -> bool:
        """Selects everything."""
        return not self.requirements

    def exact(self, path: str) -> str | None:
        """The one value ``path`` must have, for indexes and for names."""
        for requirement in self.requirements:
            if requirement.path == path and requirement.equal:
                return requirement.value
        return None

    def __str__(self) -> str:
        return ",".join(f"{r.path}{'=' if r.equal else '!='}{r.value}" for r in self.requirements)


ALL_FIELDS = FieldSelector()


def parse_field_selector(text: str, resource: Resource | None = None) -> FieldSelector:
    """``a=b,c!=d``, with ``\\`` escaping. With a resource, unsupported fields are refused. Raises ApiError 400."""
    requirements = []
    for term in _split_escaped(text):
        if not term:
            continue
        for operator in ("!=", "==", "="):
            path, found, value = term.partition(operator)
            if found:
                break
        else:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        requirements.append(FieldRequirement(path, _unescape(value), operator != "!="))
    if resource is not None:
        supported = supported_fields(resource)
        for requirement in requirements:
            if requirement.path not in supported:
                raise bad_request(f"field label not supported: {requirement.path}")
    return FieldSelector(tuple(requirements))


def _split_escaped(text: str) -> list[str]:
    terms, current, escaped = [], "", False
    for character in text:
        if escaped:
            current += character
            escaped = False
        elif character == "\\":
            current += character
            escaped = True
        elif character == ",":
            terms.append(current)
            current = ""
        else:
            current += character
    terms.append(current)
    return terms


def _unescape(value: str) -> str:
    return re.sub(r"\\([\\,=])", r"\1", value)


Getter = Callable[[Obj], str]


def _path(*steps: str, default: str = "") -> Getter:
    if len(steps) == 2:
        return _inner(*steps, default=default)

    def get(obj: Obj) -> str:
        value: Any = obj
        for step in steps:
            if not isinstance(value, dict):
                return default
            value = value.get(step)
        return text_of(value, default)

    return get


def _inner(outer: str, field: str, default: str) -> Getter:
    """Most fields that selectors know lie just inside of one."""

    def get(obj: Obj) -> str:
        holder = obj.get(outer)
        if not isinstance(holder, dict):
            return default
        value = holder.get(field)
        return value if value.__class__ is str else text_of(value, default)

    return get


def text_of(value: Any, default: str = "") -> str:
    """A field's value as selectors compare it."""
    if value is None:
        return default
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _named(paths: Iterable[str], **defaults: str) -> dict[str, Getter]:
    return {path: _path(*path.split("."), default=defaults.get(path.replace(".", "_"), "")) for path in paths}


def _pod_ip(obj: Obj) -> str:
    status = obj.get("status") or {}
    return status.get("podIP") or next((ip.get("ip", "") for ip in status.get("podIPs") or ()), "")


def _event_source(obj: Obj) -> str:
    return (obj.get("source") or {}).get("component") or obj.get("reportingComponent") or ""


_METADATA: dict[str, Getter] = {
    "metadata.name": lambda obj: meta(obj).get("name") or "",
    "metadata.namespace": lambda obj: meta(obj).get("namespace") or "",
}
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_EVENT_FIELDS: dict[str, Getter] = {
    **{f"involvedObject.{field}": _path("involvedObject", field) for field in _INVOLVED},
    **_named(("reason", "reportingComponent", "type")),
    "source": _event_source,
}
_FIELDS: dict[tuple[str, str], dict[str, Getter]] = {
    ("", "pods"): {
        **_named(
            (
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.nominatedNodeName",
            ),
            spec_hostNetwork="false",
        ),
        "spec.host": _path("spec", "nodeName"),  # the name it had before v1
        "status.podIP": _pod_ip,
        "status.podIPs": _pod_ip,
    },
    ("", "events"): _EVENT_FIELDS,
    ("events.k8s.io", "events"): {
        **{f"regarding.{field}": _path("involvedObject", field) for field in _INVOLVED},
        **_named(("reason", "type")),
        "reportingController": _path("reportingComponent"),
    },
    ("", "namespaces"): _named(("status.phase",)),
    ("", "nodes"): _named(("spec.unschedulable",), spec_unschedulable="false"),
    ("", "secrets"): _named(("type",)),
    ("", "services"): _named(("spec.clusterIP", "spec.type")),
    ("", "replicationcontrollers"): _named(("status.replicas",), status_replicas="0"),
    ("apps", "replicasets"): _named(("status.replicas",), status_replicas="0"),
    ("batch", "jobs"): _named(("status.successful",), status_successful="0"),
    ("certificates.k8s.io", "certificatesigningrequests"): _named(("spec.signerName",)),
    ("resource.k8s.io", "resourceslices"): _named(("spec.nodeName", "spec.driver")),
}
_OF_ROWS: dict[tuple[str, str, str], dict[str, Getter]] = {}
_NAME_ONLY = frozenset(
    {
        ("", "namespaces"),
        ("", "nodes"),
        ("certificates.k8s.io", "certificatesigningrequests"),
        ("resource.k8s.io", "resourceslices"),
    }
)
"""Cluster-scoped kinds whose own list of fields leaves ``metadata.namespace`` out; the general list has it."""
_SUPPORTED = {
    kind: {**({"metadata.name": _METADATA["metadata.name"]} if kind in _NAME_ONLY else _METADATA), **own}
    for kind, own in _FIELDS.items()
}


def supported_fields(resource: Resource) -> dict[str, Getter]:
    """Field path -> how to read it, of a kind; every kind has ``metadata.name``, most ``metadata.namespace``."""
    if resource.custom:
        return _OF_ROWS.get((resource.group, resource.version, resource.plural), _METADATA)
    return _SUPPORTED.get((resource.group, resource.plural), _METADATA)


def put_fields(resource: Resource, paths: Mapping[str, tuple[str, ...]]) -> None:
    """Set the fields of a custom kind that selectors know: field -> steps to it."""
    own = {field: _path(*steps) for field, steps in paths.items()}
    general = _METADATA if resource.namespaced else {"metadata.name": _METADATA["metadata.name"]}
    _OF_ROWS[resource.group, resource.version, resource.plural] = {**general, **own}


def drop_fields(resource: Resource) -> None:
    """Forget fields that were put."""
    _OF_ROWS.pop((resource.group, resource.version, resource.plural), None)


def field_matches(resource: Resource, obj: Obj, selector: FieldSelector) -> bool:
    """Whether an object's fields meet a selector made for its kind."""
    if not selector.requirements:
        return True
    fields = supported_fields(resource)
    for requirement in selector.requirements:
        getter = fields.get(requirement.path)
        if getter is None or (getter(obj) == requirement.value) != requirement.equal:
            return False
    return True


def field_judge(resource: Resource, selector: FieldSelector) -> Callable[[Obj], bool]:
    """``field_matches``, decided once for many objects."""
    fields = supported_fields(resource)
    known = [(fields.get(one.path), one.value, one.equal) for one in selector.requirements]
    if not resource.custom and len(known) == 1 and known[0][0] is not None:  # a custom kind's fields may change
        getter, value, equal = known[0][0], known[0][1], known[0][2]
        return (lambda obj: getter(obj) == value) if equal else (lambda obj: getter(obj) != value)
    return lambda obj: field_matches(resource, obj, selector)
