"""JSON patch, RFC 6902."""

from typing import Any

import orjson

from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj, thaw
from orca.api.patching.failures import TestFailed, unappliable

MAX_OPERATIONS = 10_000
MAX_COPIED = 3 * 1024 * 1024  # bytes, by all copy operations of a patch
_WITH_VALUE = ("add", "replace", "test")
_WITH_FROM = ("move", "copy")


def json_patch(obj: Obj, operations: Any) -> Obj:
    """``obj`` after all operations, or nothing of them. Raises ApiError 400, 413 or 422."""
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        kind = "object" if isinstance(operations, dict) else type(operations).__name__
        raise bad_request(f"error decoding patch: json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", text)
    root = [thaw(obj)]
    copied = 0
    for operation in operations:
        copied = _apply(root, operation, copied)
    if not isinstance(root[0], dict):
        raise unappliable("the patched document is not an object")
    return root[0]


def _apply(root: list[Any], operation: Obj, copied: int) -> int:
    """``copied`` is how many bytes copy operations made so far: each may double what is there. The new count."""
    verb, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise unappliable(f"{verb} operation without a path")
    if verb in _WITH_VALUE:
        if verb != "test" and "value" not in operation:
            raise unappliable(f"{verb} operation on {path} without a value")
        value = operation.get("value")
        if verb == "add":
            _add(root, path, value, verb)
        elif verb == "replace":
            _replace(root, path, value)
        else:
            _test(root, path, value)
    elif verb == "remove":
        _remove(root, path, verb)
    elif verb in _WITH_FROM:
        source = operation.get("from")
        if not isinstance(source, str):
            raise unappliable(f"{verb} operation without from")
        if verb == "move":
            if path.startswith(source + "/"):
                raise unappliable(f"move operation of {source} into itself")
            moved = _remove(root, source, verb)
        else:
            encoded = orjson.dumps(_get(root, source, verb))
            copied += len(encoded)
            if copied > MAX_COPIED:
                text = (
                    "Unable to complete the copy, the accumulated size increase of copy is "
                    f"{copied}, exceeding the limit {MAX_COPIED}"
                )
                raise ApiError(413, "RequestEntityTooLarge", text)
            moved = orjson.loads(encoded)
        _add(root, path, moved, verb)
    else:
        raise unappliable(f"Unexpected kind: {verb}")
    return copied


def _steps(path: str) -> list[str]:
    if path == "":
        return []
    if not path.startswith("/"):
        raise unappliable(f"path {path} does not start with /")
    return [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]


def _parent(root: list[Any], path: str, verb: str) -> tuple[Any, str]:
    """The container that holds the last step; the document itself is item 0 of ``root``."""
    steps = ["0", *_steps(path)]
    holder: Any = root
    for step in steps[:-1]:
        holder = _child(holder, step, path, verb)
    return holder, steps[-1]


def _child(holder: Any, step: str, path: str, verb: str) -> Any:
    if isinstance(holder, dict):
        if step in holder:
            return holder[step]
    elif isinstance(holder, list):
        return holder[_index(step, path, verb, len(holder) - 1)]
    raise unappliable(f'{verb} operation does not apply: doc is missing path: "{path}": missing value')


def _index(step: str, path: str, verb: str, last: int) -> int:
    if not step.isascii() or not step.isdigit() or len(step) > 9 or (len(step) > 1 and step[0] == "0"):
        raise unappliable(f"{verb} operation does not apply: {path}: {step} is no index")
    index = int(step)
    if index > last:
        raise unappliable(
            f"{verb} operation does not apply: {path}: "
            f"Unable to access invalid index: {index}: invalid index referenced"
        )
    return index


def _get(root: list[Any], path: str, verb: str) -> Any:
    holder, step = _parent(root, path, verb)
    return _child(holder, step, path, verb)


def _add(root: list[Any], path: str, value: Any, verb: str) -> None:
    holder, step = _parent(root, path, verb)
    if holder is root:
        root[0] = value
    elif isinstance(holder, dict):
        holder[step] = value
    elif isinstance(holder, list):
        if step == "-":
            holder.append(value)
        else:
            holder.insert(_index(step, path, verb, len(holder)), value)
    else:
        raise unappliable(f'{verb} operation does not apply: doc is missing path: "{path}": missing value')


def _replace(root: list[Any], path: str, value: Any) -> None:
    holder, step = _parent(root, path, "replace")
    if isinstance(holder, dict):
        if step not in holder:
            raise unappliable(f"replace operation does not apply: doc is missing key: {path}: missing value")
        holder[step] = value
    elif isinstance(holder, list):
        holder[_index(step, path, "replace", len(holder) - 1)] = value
    else:
        raise unappliable(f"replace operation does not apply: doc is missing path: {path}: missing value")


def _remove(root: list[Any], path: str, verb: str) -> Any:
    holder, step = _parent(root, path, verb)
    if holder is root:
        raise unappliable("the whole document cannot be removed")
    if isinstance(holder, dict) and step in holder:
        return holder.pop(step)
    if isinstance(holder, list):
        return holder.pop(_index(step, path, verb, len(holder) - 1))
    raise unappliable(f"{verb} operation does not apply: unable to remove nonexistent key: {step}: missing value")


def _test(root: list[Any], path: str, value: Any) -> None:
    try:
        holder, step = _parent(root, path, "test")
        # As upstream: what is not there is null.
        found = holder.get(step) if isinstance(holder, dict) else _child(holder, step, path, "test")
    except ApiError:
        if value is None:
            return
        raise
    if not _same(found, value):
        raise TestFailed(f"testing value {path} failed: test failed")


def _same(left: Any, right: Any) -> bool:
    """Equality in JSON: unlike in Python, ``true`` is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right
