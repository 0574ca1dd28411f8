"""FlowSchemas and PriorityLevelConfigurations."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_GROUP = "flowcontrol.apiserver.k8s.io"
_VERBS = ("*", "connect", "create", "delete", "deletecollection", "get", "head", "list", "options", "patch", "post",
          "proxy", "put", "update", "watch")  # fmt: skip
_MANDATORY = ("catch-all", "exempt")


def _subject(subject: Obj, path: str, out: Errors) -> None:
    kind = subject.get("kind")
    fields = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}
    if kind not in fields:
        out.append(FieldError.not_supported(f"{path}.kind", kind or "", ("ServiceAccount", "Group", "User")))
        return
    for name, field in fields.items():
        value = subject.get(field)
        if name == kind and value is None:
            text = f"{field} is required when subject kind is '{kind}'"
            out.append(FieldError.required(f"{path}.{field}", text))
        elif name != kind and value is not None:
            text = f"{field} is forbidden when subject kind is not '{name}'"
            out.append(FieldError.forbidden(f"{path}.{field}", text))
    value = subject.get(fields[kind])
    if value is not None:
        common.required(value, "name", f"{path}.{fields[kind]}", out)
        if kind == "ServiceAccount":
            text = "must specify namespace for service account"
            common.required(value, "namespace", f"{path}.{fields[kind]}", out, text)


def _verbs(verbs: list[str], path: str, out: Errors) -> None:
    if not verbs:
        out.append(FieldError.required(f"{path}.verbs", "verbs must contain at least one value"))
    elif "*" in verbs and len(verbs) > 1:
        text = "if '*' is present, must not specify other verbs"
        out.append(FieldError.invalid(f"{path}.verbs", verbs, text))
    else:
        for verb in verbs:
            if verb not in _VERBS:
                out.append(FieldError.not_supported(f"{path}.verbs", verbs, sorted(_VERBS)))
                break


def _rule(rule: Obj, path: str, out: Errors) -> None:
    subjects = rule.get("subjects") or []
    if not subjects:
        out.append(FieldError.required(f"{path}.subjects", "subjects must contain at least one value"))
    for i, subject in enumerate(subjects):
        _subject(subject, f"{path}.subjects[{i}]", out)
    resource, plain = rule.get("resourceRules") or [], rule.get("nonResourceRules") or []
    if not resource and not plain:
        text = "at least one of resourceRules and nonResourceRules has to be non-empty"
        out.append(FieldError.required(path, text))
    for i, one in enumerate(resource):
        at = f"{path}.resourceRules[{i}]"
        _verbs(one.get("verbs") or [], at, out)
        for key, text in (
            ("apiGroups", "resource rules must supply at least one api group"),
            ("resources", "resource rules must supply at least one resource"),
        ):
            common.required(one, key, at, out, text)
        if not one.get("namespaces") and not one.get("clusterScope"):
            text = "resource rules that are not cluster scoped must supply at least one namespace"
            out.append(FieldError.required(f"{at}.namespaces", text))
    for i, one in enumerate(plain):
        at = f"{path}.nonResourceRules[{i}]"
        _verbs(one.get("verbs") or [], at, out)
        text = "nonResourceURLs must contain at least one value"
        common.required(one, "nonResourceURLs", at, out, text)


@on_create(_GROUP, "FlowSchema")
def flow_schema(obj: Obj) -> Errors:
    """A FlowSchema."""
    out: Errors = []
    spec = obj.get("spec") or {}
    precedence = spec.get("matchingPrecedence") or 0
    if precedence <= 0:
        text = "must be a positive value"
        out.append(FieldError.invalid("spec.matchingPrecedence", precedence, text))
    elif precedence > 10000:
        text = "must not be greater than 10000"
        out.append(FieldError.invalid("spec.matchingPrecedence", precedence, text))
    if precedence == 1 and obj["metadata"].get("name") != "exempt":
        text = "only the schema named 'exempt' may have matchingPrecedence 1"
        out.append(FieldError.invalid("spec.matchingPrecedence", precedence, text))
    method = spec.get("distinguisherMethod")
    if method is not None:
        allowed = ("ByNamespace", "ByUser")
        common.choice(method.get("type"), allowed, "spec.distinguisherMethod.type", out, required=True)
    level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    at = "spec.priorityLevelConfiguration.name"
    if not level:
        out.append(FieldError.required(at, "must reference a priority level"))
    else:
        common.messages(names.dns1123_subdomain(level), level, at, out)
    for i, rule in enumerate(spec.get("rules") or ()):
        _rule(rule, f"spec.rules[{i}]", out)
    return out


@on_update(_GROUP, "FlowSchema")
def flow_schema_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed FlowSchema."""
    return [] if subresource == "status" else flow_schema(new)


def _shares(part: Obj, path: str, out: Errors, *, least: int) -> None:
    shares, lend, borrow = (
        part.get(k) for k in ("nominalConcurrencyShares", "lendablePercent", "borrowingLimitPercent")
    )
    if shares is not None and shares < least:
        text = "must be a non-negative integer" if least == 0 else "must be positive"
        out.append(FieldError.invalid(f"{path}.nominalConcurrencyShares", shares, text))
    if lend is not None and not 0 <= lend <= 100:
        text = "must be between 0 and 100, inclusive"
        out.append(FieldError.invalid(f"{path}.lendablePercent", lend, text))
    if borrow is not None and borrow < 0:
        text = "if specified, must be a non-negative integer"
        out.append(FieldError.invalid(f"{path}.borrowingLimitPercent", borrow, text))


def _response(response: Obj, path: str, out: Errors) -> None:
    kind, queuing = response.get("type"), response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            text = "must be nil if limited.limitResponse.type is not Limited"
            out.append(FieldError.forbidden(f"{path}.queuing", text))
        return
    if kind != "Queue":
        out.append(FieldError.not_supported(f"{path}.type", kind or "", ("Queue", "Reject")))
        return
    if queuing is None:
        text = "must not be empty if limited.limitResponse.type is Limited"
        out.append(FieldError.required(f"{path}.queuing", text))
        return
    queues, hand, length = (queuing.get(key) or 0 for key in ("queues", "handSize", "queueLengthLimit"))
    if length <= 0:
        out.append(FieldError.invalid(f"{path}.queuing.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        out.append(FieldError.invalid(f"{path}.queuing.queues", queues, "must be positive"))
    if hand <= 0:
        out.append(FieldError.invalid(f"{path}.queuing.handSize", hand, "must be positive"))
    elif hand > queues:
        text = f"should not be greater than queues ({queues})"
        out.append(FieldError.invalid(f"{path}.queuing.handSize", hand, text))


@on_create(_GROUP, "PriorityLevelConfiguration")
def priority_level(obj: Obj) -> Errors:
    """A PriorityLevelConfiguration."""
    out: Errors = []
    spec = obj.get("spec") or {}
    kind, limited, exempt = spec.get("type"), spec.get("limited"), spec.get("exempt")
    name = obj["metadata"].get("name")
    if name in _MANDATORY and (kind == "Exempt") != (name == "exempt"):
        text = f"type must be '{'Exempt' if name == 'exempt' else 'Limited'}' if and only if name is 'exempt'"
        out.append(FieldError.invalid("spec.type", kind, text))
    if kind == "Exempt":
        if limited is not None:
            out.append(FieldError.forbidden("spec.limited", "must be nil if the type is not Limited"))
        if exempt is not None:
            _shares(exempt, "spec.exempt", out, least=0)
    elif kind == "Limited":
        if exempt is not None:
            out.append(FieldError.forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            out.append(FieldError.required("spec.limited", "must not be empty when type is Limited"))
        else:
            _shares(limited, "spec.limited", out, least=0)
            _response(limited.get("limitResponse") or {}, "spec.limited.limitResponse", out)
    else:
        out.append(FieldError.not_supported("spec.type", kind or "", ("Exempt", "Limited")))
    return out


@on_update(_GROUP, "PriorityLevelConfiguration")
def priority_level_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed PriorityLevelConfiguration."""
    return [] if subresource == "status" else priority_level(new)
