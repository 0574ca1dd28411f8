"""The SubjectAccessReview of a question, and what its answer means. Pure.

Reference: k8s.io/api ``authorization/v1``; fields that are empty are left out, as Go leaves them out.
"""

from __future__ import annotations

from typing import Any

from orca.api.objects import Obj
from orca.api.selectors import FieldSelector, Selector
from orca.auth.identity import Action, Decision, UserInfo

GROUP = "authorization.k8s.io"
KIND = "SubjectAccessReview"
VERSIONS = ("v1", "v1beta1")
_LABEL_OPERATORS = {"in": "In", "notin": "NotIn", "exists": "Exists", "!": "DoesNotExist"}
_MOST_CONTROLLED = 10_000
_BOTH = "webhook subject access review returned both allow and deny response"


class BadAnswer(ValueError):
    """An answer that is no review; the text says what is wrong with it."""


def spec_of(user: UserInfo, action: Action) -> Obj:
    """``spec`` as v1 has it."""
    spec: Obj = {}
    if action.path:
        spec["nonResourceAttributes"] = _present(path=action.path, verb=action.verb)
    else:
        spec["resourceAttributes"] = _resource(action)
    if user.name:
        spec["user"] = user.name
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    if user.uid:
        spec["uid"] = user.uid
    return spec


def _resource(action: Action) -> Obj:
    found = _present(
        namespace=action.namespace,
        verb=action.verb,
        group=action.group,
        version=action.version,
        resource=action.resource,
        subresource=action.subresource,
        name=action.name,
    )
    fields, labels = _fields(action.fields), _labels(action.labels)
    if fields:
        found["fieldSelector"] = {"requirements": fields}
    if labels:
        found["labelSelector"] = {"requirements": labels}
    return found


def _present(**fields: str) -> Obj:
    return {key: value for key, value in fields.items() if value}


def _fields(selector: FieldSelector) -> list[Obj]:
    return [
        {"key": one.path, "operator": "In" if one.equal else "NotIn", "values": [one.value]}
        for one in selector.requirements
    ]


def _labels(selector: Selector) -> list[Obj]:
    """Requirements that the API has no operator for are left out: they would only narrow what is asked."""
    found: list[Obj] = []
    for one in selector.requirements:
        operator = _LABEL_OPERATORS.get(one.operator)
        if operator is not None:
            found.append(
                {"key": one.key, "operator": operator} | ({"values": sorted(one.values)} if one.values else {})
            )
    return found


def body_of(spec: Obj, version: str) -> Obj:
    """The whole review as it is sent. v1beta1 calls the groups ``group``."""
    if version == "v1beta1" and "groups" in spec:
        spec = {"group" if key == "groups" else key: value for key, value in spec.items()}
    return {
        "kind": KIND,
        "apiVersion": f"{GROUP}/{version}",
        "metadata": {},
        "spec": spec,
        "status": {"allowed": False},
    }


def status_of(answer: Obj, version: str) -> Obj:
    """The answer's ``status``: allowed, denied, reason. Raises BadAnswer."""
    kind, api_version = answer.get("kind") or KIND, answer.get("apiVersion") or f"{GROUP}/{version}"
    if (kind, api_version) != (KIND, f"{GROUP}/{version}"):
        raise BadAnswer(f"expected webhook response of {GROUP}/{version}, Kind={KIND}, got {api_version}, Kind={kind}")
    status = answer.get("status")
    status = {} if status is None else status
    if not isinstance(status, dict):
        raise BadAnswer(f"json: cannot unmarshal {_kind(status)} into Go struct field {KIND}.status")
    for field, type_, spoken in (("allowed", bool, "bool"), ("denied", bool, "bool"), ("reason", str, "string")):
        value = status.get(field)
        if value is not None and not isinstance(value, type_):
            where = f"{KIND}Status.status.{field} of type {spoken}"
            raise BadAnswer(f"json: cannot unmarshal {_kind(value)} into Go struct field {where}")
    return status


def decision_of(status: Obj) -> Decision:
    """What a status means."""
    allowed, denied, reason = bool(status.get("allowed")), bool(status.get("denied")), status.get("reason") or ""
    if allowed and denied:
        return Decision(False, reason, denied=True, error=_BOTH)
    return Decision(allowed, reason, denied=denied)


def may_be_kept(action: Action) -> bool:
    """Whether what the client chose is short enough to be remembered: many long ones would fill the memory."""
    chosen = (
        action.namespace,
        action.verb,
        action.group,
        action.version,
        action.resource,
        action.subresource,
        action.name,
        action.path,
    )
    return sum(map(len, chosen)) < _MOST_CONTROLLED


def _kind(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}
    return names.get(type(value), "number")
