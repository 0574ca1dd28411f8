"""Which names a definition gets, and the conditions that tell.

Reference: k8s.io/apiextensions-apiserver ``pkg/controller/{status,establish,apiapproval}``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orca.api.customresources.definition import approval, is_protected
from orca.api.errors import quote
from orca.api.objects import Obj, thaw

FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
_WORDS = ("plural", "singular")
_KINDS = ("kind", "listKind")


def settle(obj: Obj, others: Iterable[Obj], now: str) -> Obj | None:
    """The status ``obj`` should have, None when it has it. ``others`` are the definitions of its group.

    Names that an other one was given are refused; who has all its names is established, and stays so.
    """
    status = thaw(obj.get("status") or {})
    accepted, condition = _names(obj, [one for one in others if one["metadata"]["uid"] != obj["metadata"]["uid"]])
    status["acceptedNames"] = accepted
    put_condition(status, condition, now)
    established = find_condition(status, "Established")
    if established is None or established.get("status") != "True":
        if condition["status"] == "True":
            made = _condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted")
        else:
            made = _condition("Established", "False", "NotAccepted", "not all names are accepted")
        put_condition(status, made, now)
    if is_protected(obj["spec"]["group"]):
        put_condition(status, _approval(obj), now)
    if find_condition(status, "NonStructuralSchema") is not None:
        status["conditions"] = [one for one in status["conditions"] if one.get("type") != "NonStructuralSchema"]
    return status if status != (obj.get("status") or {}) else None


def _names(obj: Obj, others: list[Obj]) -> tuple[Obj, Obj]:
    wanted = obj["spec"]["names"]
    accepted = (obj.get("status") or {}).get("acceptedNames") or {}
    names = {key: value for key, value in accepted.items() if value or key in ("plural", "kind")}
    taken = {"words": set[str](), "kinds": set[str]()}
    for other in others:
        given = (other.get("status") or {}).get("acceptedNames") or {}
        taken["words"] |= {given.get(key) or "" for key in _WORDS} | set(given.get("shortNames") or ())
        taken["kinds"] |= {given.get(key) or "" for key in _KINDS}
    problem: tuple[str, str] | None = None
    for key in (*_WORDS, "shortNames", *_KINDS):
        used = taken["kinds"] if key in _KINDS else taken["words"]
        if key == "shortNames":
            own = set(accepted.get(key) or ())
            clashes = [one for one in wanted.get(key) or () if one not in own and one in used]
        else:
            value = wanted.get(key) or ""
            clashes = [value] if value != (accepted.get(key) or "") and value in used else []
        if clashes:
            texts = [f"{quote(one)} is already in use" for one in clashes]
            text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
            problem = (f"{key[0].upper()}{key[1:]}Conflict", text)
        elif wanted.get(key):
            names[key] = wanted[key]
        else:
            names.pop(key, None)
    if wanted.get("categories"):
        names["categories"] = wanted["categories"]
    else:
        names.pop("categories", None)
    if problem:
        return {"plural": "", "kind": "", **names}, _condition("NamesAccepted", "False", *problem)
    return names, _condition("NamesAccepted", "True", "NoConflicts", "no conflicts found")


def _approval(obj: Obj) -> Obj:
    state, reason = approval(obj)
    status, word = {
        "approved": ("True", "ApprovedAnnotation"),
        "bypassed": ("False", "UnapprovedAnnotation"),
        "invalid": ("False", "InvalidAnnotation"),
        "missing": ("False", "MissingAnnotation"),
    }[state]
    return _condition("KubernetesAPIApprovalPolicyConformant", status, word, reason)


def terminating(obj: Obj, now: str, status: str, reason: str, message: str) -> Obj:
    """The definition's status with that Terminating condition."""
    made = thaw(obj.get("status") or {})
    put_condition(made, _condition("Terminating", status, reason, message), now)
    return made


def find_condition(status: Obj, kind: str) -> Obj | None:
    """One condition of a status."""
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), None)


def _condition(kind: str, status: str, reason: str, message: str) -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def put_condition(status: Obj, made: Obj, now: str) -> None:
    """Add or replace a condition in place; its time moves only when its status does."""
    conditions = status.setdefault("conditions", [])
    for one in conditions:
        if one.get("type") == made["type"]:
            if one.get("status") != made["status"]:
                one["lastTransitionTime"] = now
            one.update(made)
            return
    conditions.append({"lastTransitionTime": now, **made})
