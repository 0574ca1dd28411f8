"""FlowSchemas and PriorityLevelConfigurations.

Reference: k8s.io/kubernetes ``pkg/apis/flowcontrol/validation``.
"""

from __future__ import annotations

import math
from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.comparison import plain
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_GROUP = "flowcontrol.apiserver.k8s.io"
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_FIELDS = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}
_METHODS = ("ByNamespace", "ByUser")
_LAST = 10000
_MAX_QUEUES = 10_000_000
_HASH_BITS = 60
_EXEMPT, _CATCH_ALL = "exempt", "catch-all"
_ROUND_TRIP = "flowcontrol.k8s.io/preserve-zero-concurrency-shares"
_ALL = ["*"]


def _everything(level: str, precedence: int, *groups: str) -> Obj:
    return {
        "matchingPrecedence": precedence,
        "priorityLevelConfiguration": {"name": level},
        "rules": [
            {
                "subjects": [{"kind": "Group", "group": {"name": name}} for name in groups],
                "resourceRules": [
                    {"verbs": _ALL, "apiGroups": _ALL, "resources": _ALL, "namespaces": _ALL, "clusterScope": True}
                ],
                "nonResourceRules": [{"verbs": _ALL, "nonResourceURLs": _ALL}],
            }
        ],
    }


# Those that are as they are in every cluster.
_SCHEMAS: dict[str, Obj] = {
    _EXEMPT: _everything(_EXEMPT, 1, "system:masters"),
    _CATCH_ALL: {
        **_everything(_CATCH_ALL, _LAST, "system:unauthenticated", "system:authenticated"),
        "distinguisherMethod": {"type": "ByUser"},
    },
}
_LAST_RESORT: Obj = {
    "type": "Limited",
    "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}},
}


def _subject(subject: Obj, path: str, out: Errors) -> None:
    kind = subject.get("kind") or ""
    if kind not in _FIELDS:
        out.append(FieldError.not_supported(f"{path}.kind", kind, sorted(_FIELDS)))
        return
    field = _FIELDS[kind]
    value, at = subject.get(field), f"{path}.{field}"
    if value is None:
        out.append(FieldError.required(at, f"{field} is required when subject kind is '{kind}'"))
    elif common.required(value, "name", at, out) and kind == "ServiceAccount" and value["name"] != "*":
        common.messages(names.dns1123_subdomain(value["name"]), value["name"], f"{at}.name", out)
    if value is not None and kind == "ServiceAccount":
        space = value.get("namespace") or ""
        if space:
            common.messages(names.dns1123_label(space), space, f"{at}.namespace", out)
        else:
            out.append(FieldError.required(f"{at}.namespace", "must specify namespace for service account"))
    for other, key in _FIELDS.items():
        if other != kind and subject.get(key) is not None:
            text = f"{key} is forbidden when subject kind is not '{other}'"
            out.append(FieldError.forbidden(f"{path}.{key}", text))


def _any_alone(values: list[str], path: str, what: str, out: Errors) -> bool:
    """Whether ``*`` is among *values*, where it has to be alone."""
    if "*" not in values:
        return False
    if len(values) > 1:
        out.append(FieldError.invalid(path, values, f"if '*' is present, must not specify other {what}"))
    return True


def _verbs(verbs: list[str], path: str, out: Errors) -> None:
    at = f"{path}.verbs"
    if not verbs:
        out.append(FieldError.required(at, "verbs must contain at least one value"))
    elif not _any_alone(verbs, at, "verbs", out) and not set(verbs) <= set(_VERBS):
        out.append(FieldError.not_supported(at, verbs, _VERBS))


def _resource_rule(rule: Obj, path: str, out: Errors) -> None:
    _verbs(rule.get("verbs") or [], path, out)
    for key, one, many in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        if common.required(rule, key, path, out, f"resource rules must supply at least one {one}"):
            _any_alone(rule[key], f"{path}.{key}", many, out)
    spaces, at = rule.get("namespaces") or [], f"{path}.namespaces"
    if not spaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        out.append(FieldError.required(at, text))
    elif not _any_alone(spaces, at, "namespaces", out):
        for i, space in enumerate(spaces):
            for text in names.dns1123_label(space):
                text = f"each member of this list must be '*' or a DNS-1123 label; {text}"
                out.append(FieldError.invalid(f"{at}[{i}]", space, text))


def _url(path: str) -> str:
    """What is wrong with a path, or "". A wildcard ends it, if there is one."""
    if not path:
        return "must not be empty"
    if path == "/":
        return ""
    if not path.startswith("/"):
        return "must start with slash"
    if " " in path:
        return "must not contain white-space"
    if "//" in path:
        return "must not contain double slash"
    wildcards = path.count("*")
    if wildcards > 1 or (wildcards == 1 and not path.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""


def _other_rule(rule: Obj, path: str, out: Errors) -> None:
    _verbs(rule.get("verbs") or [], path, out)
    urls, at = rule.get("nonResourceURLs") or [], f"{path}.nonResourceURLs"
    if not urls:
        out.append(FieldError.required(at, "nonResourceURLs must contain at least one value"))
    elif not _any_alone(urls, at, "non-resource URLs", out):
        for i, url in enumerate(urls):
            if wrong := _url(url):
                out.append(FieldError.invalid(f"{at}[{i}]", url, wrong))


def _rule(rule: Obj, path: str, out: Errors) -> None:
    subjects = rule.get("subjects") or []
    if not subjects:
        out.append(FieldError.required(f"{path}.subjects", "subjects must contain at least one value"))
    for i, subject in enumerate(subjects):
        _subject(subject, f"{path}.subjects[{i}]", out)
    resource, other = rule.get("resourceRules") or [], rule.get("nonResourceRules") or []
    if not resource and not other:
        text = "at least one of resourceRules and nonResourceRules has to be non-empty"
        out.append(FieldError.required(path, text))
    for i, one in enumerate(resource):
        _resource_rule(one, f"{path}.resourceRules[{i}]", out)
    for i, one in enumerate(other):
        _other_rule(one, f"{path}.nonResourceRules[{i}]", out)


@on_create(_GROUP, "FlowSchema")
def flow_schema(obj: Obj) -> Errors:
    """A FlowSchema."""
    out: Errors = []
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name") or ""
    precedence, at = spec.get("matchingPrecedence") or 0, "spec.matchingPrecedence"
    if precedence <= 0:
        out.append(FieldError.invalid(at, precedence, "must be a positive value"))
    if precedence > _LAST:
        out.append(FieldError.invalid(at, precedence, f"must not be greater than {_LAST}"))
    if precedence == 1 and name != _EXEMPT:
        text = "only the schema named 'exempt' may have matchingPrecedence 1"
        out.append(FieldError.invalid(at, precedence, text))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in _METHODS:
        out.append(FieldError.not_supported("spec.distinguisherMethod.type", method, _METHODS))
    level, at = (spec.get("priorityLevelConfiguration") or {}).get("name"), "spec.priorityLevelConfiguration.name"
    if level:
        common.messages(names.dns1123_subdomain(level), level, at, out)
    else:
        out.append(FieldError.required(at, "must reference a priority level"))
    for i, rule in enumerate(spec.get("rules") or ()):
        _rule(rule, f"spec.rules[{i}]", out)
    if name in _SCHEMAS and plain(spec) != plain(_SCHEMAS[name]):
        out.append(FieldError.invalid("spec", spec, f"spec of '{name}' must equal the fixed value"))
    return out


def _state(obj: Obj) -> Errors:
    out: Errors = []
    seen: set[str] = set()
    for i, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        kind, at = condition.get("type") or "", f"status.conditions[{i}].type"
        if kind in seen:
            out.append(FieldError.duplicate(at, kind))
        seen.add(kind)
        if not kind:
            out.append(FieldError.required(at))
    return out


@on_update(_GROUP, "FlowSchema")
def flow_schema_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed FlowSchema."""
    del old
    return _state(new) if subresource == "status" else flow_schema(new)


def _shares(part: Obj, path: str, out: Errors) -> None:
    shares = part.get("nominalConcurrencyShares")
    if shares is not None and shares < 0:
        text = "must be a non-negative integer"
        out.append(FieldError.invalid(f"{path}.nominalConcurrencyShares", shares, text))


def _lending(part: Obj, path: str, out: Errors) -> None:
    lend = part.get("lendablePercent")
    if lend is not None and not 0 <= lend <= 100:
        text = "must be between 0 and 100, inclusive"
        out.append(FieldError.invalid(f"{path}.lendablePercent", lend, text))


def _response(response: Obj, path: str, out: Errors) -> None:
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            text = "must be nil if limited.limitResponse.type is not Limited"
            out.append(FieldError.forbidden(f"{path}.queuing", text))
    elif kind != "Queue":
        common.choice(kind, ("Queue", "Reject"), f"{path}.type", out, required=True)
    elif queuing is None:
        text = "must not be empty if limited.limitResponse.type is Limited"
        out.append(FieldError.required(f"{path}.queuing", text))
    else:
        _queuing(queuing, f"{path}.queuing", out)


def _queuing(queuing: Obj, path: str, out: Errors) -> None:
    queues, hand, length = (queuing.get(key) or 0 for key in ("queues", "handSize", "queueLengthLimit"))

    def wrong(key: str, value: Any, text: str) -> None:
        out.append(FieldError.invalid(f"{path}.{key}", value, text))

    if length <= 0:
        wrong("queueLengthLimit", length, "must be positive")
    if queues <= 0:
        wrong("queues", queues, "must be positive")
    elif queues > _MAX_QUEUES:
        wrong("queues", queues, f"must not be greater than {_MAX_QUEUES}")
    if hand <= 0:
        wrong("handSize", hand, "must be positive")
    elif hand > queues:
        wrong("handSize", hand, f"should not be greater than queues ({queues})")
    elif math.ceil(math.log2(queues) * hand) > _HASH_BITS:
        text = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_HASH_BITS}"
        wrong("handSize", hand, text)


def _mandatory(name: str, spec: Obj, out: Errors) -> None:
    if name == _EXEMPT and plain({**spec, "exempt": None}) != {"type": "Exempt"}:
        text = f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
        out.append(FieldError.invalid("spec", spec, text))
    if name == _CATCH_ALL and plain(spec) != plain(_LAST_RESORT):
        out.append(FieldError.invalid("spec", spec, f"spec of '{name}' must equal the fixed value"))


@on_create(_GROUP, "PriorityLevelConfiguration")
def priority_level(obj: Obj) -> Errors:
    """A PriorityLevelConfiguration."""
    out: Errors = []
    spec, meta = obj.get("spec") or {}, obj["metadata"]
    if _ROUND_TRIP in (meta.get("annotations") or {}):
        out.append(FieldError.forbidden("metadata.annotations", f"annotation '{_ROUND_TRIP}' is forbidden"))
    kind, limited, exempt = spec.get("type") or "", spec.get("limited"), spec.get("exempt")
    name = meta.get("name") or ""
    if (name == _EXEMPT) != (kind == "Exempt"):
        out.append(FieldError.invalid("spec.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'"))
    if kind == "Exempt":
        if limited is not None:
            out.append(FieldError.forbidden("spec.limited", "must be nil if the type is not Limited"))
        _shares(exempt or {}, "spec.exempt", out)
        _lending(exempt or {}, "spec.exempt", out)
    elif kind == "Limited":
        if exempt is not None:
            out.append(FieldError.forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            out.append(FieldError.required("spec.limited", "must not be empty when type is Limited"))
        else:
            _limited(limited, "spec.limited", out)
    else:
        common.choice(kind, ("Exempt", "Limited"), "spec.type", out, required=True)
    _mandatory(name, spec, out)
    return out


def _limited(limited: Obj, path: str, out: Errors) -> None:
    _shares(limited, path, out)
    _response(limited.get("limitResponse") or {}, f"{path}.limitResponse", out)
    _lending(limited, path, out)
    borrow = limited.get("borrowingLimitPercent")
    if borrow is not None and borrow < 0:
        text = "if specified, must be a non-negative integer"
        out.append(FieldError.invalid(f"{path}.borrowingLimitPercent", borrow, text))


@on_update(_GROUP, "PriorityLevelConfiguration")
def priority_level_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed PriorityLevelConfiguration."""
    del old
    return _state(new) if subresource == "status" else priority_level(new)
