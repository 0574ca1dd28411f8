"""JSON merge patch, RFC 7386."""

from typing import Any

from orca.api.errors import bad_request
from orca.api.objects import Obj, thaw


def merge_patch(obj: Obj, patch: Any) -> Obj:
    """``obj`` with ``patch`` merged in: maps merge, null removes, everything else replaces. Raises ApiError 400."""
    if not isinstance(patch, dict):
        raise bad_request("invalid merge patch: must be a JSON object")
    return _merge(thaw(obj), thaw(patch))


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = _merge(target.get(key), value)
    return target
