"""JSON patch, RFC 6902, as upstream's library takes it (evanphx/json-patch v4): where the two differ, clients know the
library. A member that is missing is null: it may be tested for, replaced and copied; what is below it is not there.
Indices may count from the end."""

import re
from typing import Any, NoReturn

import orjson

from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj, thaw
from orca.api.patching.failures import TestFailed, unappliable

MAX_OPERATIONS = 10_000
MAX_COPIED = 3 * 1024 * 1024  # bytes, by all copy operations of a patch
_INDEX = re.compile(r"[+-]?[0-9]{1,9}")
_ESCAPED = re.compile("~[01]")


def json_patch(obj: Obj, operations: Any) -> Obj:
    """``obj`` after all operations, or nothing of them. Raises ApiError 400, 413 or 422."""
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        kind = "object" if isinstance(operations, dict) else type(operations).__name__
        raise bad_request(f"error decoding patch: json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", text)
    patched = _Patched(thaw(obj))
    for operation in operations:
        patched.apply(operation)
    if not isinstance(patched.document, dict):
        raise unappliable("the patched document is not an object")
    return patched.document


class _Patched:
    """A document under its operations."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self._copied = 0
        """How many bytes copy operations made so far: each may double what is there."""

    def apply(self, operation: Obj) -> None:
        """Raises ApiError 422."""
        verb = operation.get("op")
        if verb == "add":
            path = _pointer(operation, "path")
            _add(*self._place(path, f'add operation does not apply: doc is missing path: "{path}"'), _value(operation))
        elif verb == "remove":
            path = _pointer(operation, "path")
            _remove(*self._place(path, f'remove operation does not apply: doc is missing path: "{path}"'))
        elif verb == "replace":
            self._replace(operation)
        elif verb == "move":
            self._move(operation)
        elif verb == "copy":
            self._copy(operation)
        elif verb == "test":
            self._test(operation)
        else:
            raise unappliable(f"Unexpected kind: {verb if isinstance(verb, str) else 'unknown'}")

    def _place(self, path: str, why: str) -> tuple[Any, str]:
        """The container of what ``path`` leads to, and the last step. Raises ApiError 422, that tells ``why``."""
        steps = path.split("/")[1:]
        if not steps:
            _missing(why)
        holder = self.document
        for step in steps[:-1]:
            try:
                holder = _get(holder, _unescaped(step))
            except ApiError:
                _missing(why)
            if not isinstance(holder, dict | list):
                _missing(why)
        return holder, _unescaped(steps[-1])

    def _replace(self, operation: Obj) -> None:
        path, value = _pointer(operation, "path"), _value(operation)
        if path == "":
            if not isinstance(value, dict | list):
                raise unappliable("replace operation value must be object or array")
            self.document = value
            return
        holder, step = self._place(path, f"replace operation does not apply: doc is missing path: {path}")
        if isinstance(holder, dict):
            holder[step] = value
            return
        try:
            holder[_index(step, len(holder))] = value
        except ApiError:
            _missing(f"replace operation does not apply: doc is missing key: {path}")

    def _move(self, operation: Obj) -> None:
        source = _pointer(operation, "from")
        moved = _remove(*self._place(source, f"move operation does not apply: doc is missing from path: {source}"))
        path = _pointer(operation, "path")  # read in the document without it: nothing is moved into itself
        _add(*self._place(path, f"move operation does not apply: doc is missing destination path: {path}"), moved)

    def _copy(self, operation: Obj) -> None:
        source = _pointer(operation, "from")
        holder, step = self._place(source, f"copy operation does not apply: doc is missing from path: {source}")
        found = _get(holder, step)
        path = _pointer(operation, "path")
        target, name = self._place(path, f"copy operation does not apply: doc is missing destination path: {path}")
        if found is not None:
            try:
                encoded = orjson.dumps(found)
            except orjson.JSONEncodeError:
                raise unappliable("error while performing deep copy: the value is nested too deep") from None
            self._copied += len(encoded)
            if self._copied > MAX_COPIED:
                raise unappliable(
                    "Unable to complete the copy, the accumulated size increase of copy is "
                    f"{self._copied}, exceeding the limit {MAX_COPIED}"
                )
            found = orjson.loads(encoded)
        _add(target, name, found)

    def _test(self, operation: Obj) -> None:
        path, value = _pointer(operation, "path"), _value(operation)
        if path == "":
            found = self.document
        else:
            found = _get(*self._place(path, f"test operation does not apply: is missing path: {path}"))
        if not _same(found, value):
            raise TestFailed(f"testing value {path} failed: test failed")


def _pointer(operation: Obj, name: str) -> str:
    path = operation.get(name)
    if not isinstance(path, str):
        raise unappliable(f"{operation['op']} operation failed to decode {name}: missing value")
    return path


def _value(operation: Obj) -> Any:
    """What the operation says; null when it says nothing."""
    return operation.get("value")


def _unescaped(step: str) -> str:
    return _ESCAPED.sub(lambda found: "/" if found[0] == "~1" else "~", step) if "~" in step else step


def _missing(why: str) -> NoReturn:
    raise unappliable(f"{why}: missing value") from None


def _index(step: str, length: int) -> int:
    """The place in a list of ``length`` items; a negative one counts from behind. Raises ApiError 422."""
    if _INDEX.fullmatch(step) is None:
        raise unappliable(f'strconv.Atoi: parsing "{step}": invalid syntax')
    index = int(step)
    if not -length <= index < length:
        raise unappliable(f"Unable to access invalid index: {index}: invalid index referenced")
    return index if index >= 0 else index + length


def _get(holder: Any, step: str) -> Any:
    return holder.get(step) if isinstance(holder, dict) else holder[_index(step, len(holder))]


def _add(holder: Any, step: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[step] = value
    elif step == "-":
        holder.append(value)
    else:
        holder.insert(_index(step, len(holder) + 1), value)


def _remove(holder: Any, step: str) -> Any:
    if isinstance(holder, list):
        return holder.pop(_index(step, len(holder)))
    if step not in holder:
        raise unappliable(f"Unable to remove nonexistent key: {step}: missing value")
    return holder.pop(step)


def _same(left: Any, right: Any) -> bool:
    """Equality in JSON: unlike in Python, ``true`` is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right
