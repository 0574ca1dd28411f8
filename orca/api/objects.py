"""Reading the plain JSON dicts that Kubernetes objects are.

Objects handed out by caches are frozen by convention: nobody mutates them, a change starts from ``copy.deepcopy``.
"""

from typing import Any

import orjson

Obj = dict[str, Any]

_NO_OBJECT: Obj = {}
_NO_STRINGS: dict[str, str] = {}
# The functions below are called some ten times for each write and by each controller that hears of it, so none of them
# calls another.


def meta(obj: Obj) -> Obj:
    """``metadata`` of an object, an empty dict (not attached to it) when missing."""
    return obj.get("metadata") or _NO_OBJECT


def ensure_meta(obj: Obj) -> Obj:
    """``metadata`` of a mutable object, created in place when missing."""
    found = obj.get("metadata")
    if found is None:
        found = obj["metadata"] = {}
    return found


def name(obj: Obj) -> str:
    """``metadata.name`` or ""."""
    return (obj.get("metadata") or _NO_OBJECT).get("name") or ""


def namespace(obj: Obj) -> str:
    """``metadata.namespace``; "" when cluster scoped."""
    return (obj.get("metadata") or _NO_OBJECT).get("namespace") or ""


def uid(obj: Obj) -> str:
    """``metadata.uid`` or ""."""
    return (obj.get("metadata") or _NO_OBJECT).get("uid") or ""


def resource_version(obj: Obj) -> str:
    """``metadata.resourceVersion`` or ""."""
    return (obj.get("metadata") or _NO_OBJECT).get("resourceVersion") or ""


def labels(obj: Obj) -> dict[str, str]:
    """``metadata.labels``, read only."""
    return (obj.get("metadata") or _NO_OBJECT).get("labels") or _NO_STRINGS


def annotations(obj: Obj) -> dict[str, str]:
    """``metadata.annotations``, read only."""
    return (obj.get("metadata") or _NO_OBJECT).get("annotations") or _NO_STRINGS


def finalizers(obj: Obj) -> list[str]:
    """``metadata.finalizers``, read only."""
    return (obj.get("metadata") or _NO_OBJECT).get("finalizers") or []


def is_terminating(obj: Obj) -> bool:
    """True once a deletion was requested."""
    return bool((obj.get("metadata") or _NO_OBJECT).get("deletionTimestamp"))


def owner_references(obj: Obj) -> list[Obj]:
    """``metadata.ownerReferences``, read only."""
    return (obj.get("metadata") or _NO_OBJECT).get("ownerReferences") or []


def controller_of(obj: Obj) -> Obj | None:
    """The one owner reference with ``controller: true``."""
    for reference in owner_references(obj):
        if reference.get("controller"):
            return reference
    return None


def key(obj: Obj) -> str:
    """``namespace/name``, or ``name`` when cluster scoped."""
    metadata = obj.get("metadata") or _NO_OBJECT
    space = metadata.get("namespace")
    return f"{space}/{metadata.get('name', '')}" if space else metadata.get("name", "")


def split_key(key: str) -> tuple[str, str]:
    """Inverse of :func:`key`: (namespace or "", name)."""
    space, slash, rest = key.partition("/")
    return (space, rest) if slash else ("", space)


def without_nulls(value: Any) -> Any:
    """A copy without null members of mappings, as Go decodes absent and null alike; list items are kept."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def same(left: Any, right: Any) -> bool:
    """Equal as JSON values, at any depth: ``true`` is not 1, as it is in Python."""
    return left is right or (bool(left == right) and same_if_equal(left, right))


def same_if_equal(left: Any, right: Any) -> bool:
    """:func:`same` of what is equal in Python."""
    if not isinstance(left, (dict, list)):
        return (left.__class__ is bool) == (right.__class__ is bool)
    # Mostly they are encoded alike, which is found out several times faster than by a walk.
    return orjson.dumps(left) == orjson.dumps(right) or _same_below(left, right)


def _same_below(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return all(_same_below(value, right[name]) for name, value in left.items())
    if isinstance(left, list):
        return all(map(_same_below, left, right))
    return (left.__class__ is bool) == (right.__class__ is bool)


def thaw(obj: Obj) -> Obj:
    """A deep copy that may be changed; several times faster than ``copy.deepcopy`` for JSON."""
    return orjson.loads(orjson.dumps(obj))
