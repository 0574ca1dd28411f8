"""What is wrong with the values of a custom object, in upstream's words.

Walks only what the compiled schema (``gate``) refused. With ``old``, what did not change is not judged again
(ratcheting). Reference: k8s.io/kube-openapi ``pkg/validation/validate``, k8s.io/apiextensions-apiserver
``pkg/apiserver/validation``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from orca.api import patterns
from orca.api.customresources import formats
from orca.api.customresources.places import Path, member, told
from orca.api.customresources.places import item as item_at
from orca.api.customresources.structural import INT_OR_STRING, LIST_KEYS, LIST_TYPE, MAP_TYPE
from orca.api.errors import FieldError
from orca.api.objects import Obj, same

ABSENT: Final = object()
"""No old value to compare with."""
NO_PATH = "<nil>"
"""How upstream shows errors that belong to no field."""


def check(value: Any, schema: Obj, path: Path = "", old: Any = ABSENT) -> list[FieldError]:
    """Errors of ``value`` and of everything below it: the first, where they are more than anybody should be told."""
    return told(_check(value, schema, path, old))


def _check(value: Any, schema: Obj, path: Path, old: Any) -> Iterator[FieldError]:
    if old is not ABSENT and unchanged(value, old, schema):
        return
    yield from _type(value, schema, path)
    if value is None:
        if schema.get("enum") and None not in schema["enum"]:
            yield _enum(value, schema, path)
        return
    yield from _junctors(value, schema, path)
    if isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(value, schema, path)
    elif isinstance(value, list):
        yield from _list(value, schema, path, old)
    if schema.get("enum") and not any(same(value, one) for one in schema["enum"]):
        yield _enum(value, schema, path)
    if isinstance(value, dict):
        yield from _object(value, schema, path, old)


def unchanged(value: Any, old: Any, schema: Obj) -> bool:
    """Whether this part of an object is as it was; items of lists of type map are recognized by their keys, in
    whatever order they stand."""
    if same(value, old):
        return True
    if isinstance(value, dict) and isinstance(old, dict):
        if value.keys() != old.keys() or schema.get(MAP_TYPE) == "atomic":
            return False
        members, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        return all(_unchanged_below(one, old[name], members.get(name, additional)) for name, one in value.items())
    if not isinstance(value, list) or not isinstance(old, list) or len(value) != len(old):
        return False
    before = _by_keys(old, schema)
    return bool(before) and all(
        _unchanged_below(one, before.get(_keys(one, schema), ABSENT), schema.get("items")) for one in value
    )


def _unchanged_below(value: Any, old: Any, schema: Any) -> bool:
    return unchanged(value, old, schema) if isinstance(schema, dict) else same(value, old)


def _types(schema: Obj) -> list[str]:
    if schema.get(INT_OR_STRING):
        return ["integer", "string"]
    return [schema["type"]] if schema.get("type") else []


def _kind(value: Any) -> tuple[str, str]:
    """OpenAPI's type and format of a value."""
    if value is None:
        return "null", ""
    if isinstance(value, bool):
        return "boolean", ""
    if isinstance(value, int):
        return "integer", "int64"
    if isinstance(value, float):
        return "number", "double"
    if isinstance(value, str):
        return "string", ""
    return ("array", "") if isinstance(value, list) else ("object", "")


def _type(value: Any, schema: Obj, path: Path) -> Iterator[FieldError]:
    kinds = _types(schema)
    if value is None:
        if kinds and not schema.get("nullable"):
            yield _type_error(path, ",".join(kinds), "null")
        return
    if not kinds:
        return
    kind, shape = _kind(value)
    told = schema.get("format") or ""
    fits = kind in kinds or (kind == "integer" and "number" in kinds)
    fits = fits or (kind == "number" and "integer" in kinds and float(value).is_integer())
    if fits:
        return
    if told and not isinstance(value, (str, list)):
        yield _type_error(path, told, shape)
    elif told and not {"number", "integer"} & set(kinds):
        return  # the format speaks for itself
    else:
        yield _type_error(path, ",".join(kinds), kind)


def _type_error(path: Path, wanted: str, got: str) -> FieldError:
    return FieldError.type_invalid(path or NO_PATH, got, f'{path} in body must be of type {wanted}: "{got}"')


def _enum(value: Any, schema: Obj, path: Path) -> FieldError:
    allowed = [one if isinstance(one, str) else orjson.dumps(one).decode() for one in schema["enum"]]
    return FieldError.not_supported(path or NO_PATH, value, allowed)


def _string(value: str, schema: Obj, path: Path) -> Iterator[FieldError]:
    limit, least, told = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if limit is not None and len(value) > limit:
        yield FieldError.too_long(path, value, int(limit))
    if least is not None and len(value) < least:
        yield FieldError.invalid(path, value, f"{path} in body should be at least {int(least)} chars long")
    if told and (wrong := _mismatch(value, told)):
        yield FieldError.invalid(path, value, f"{path} in body should match '{wrong}'")
    shape = schema.get("format")
    if shape in formats.CHECKS and not formats.CHECKS[shape](value):
        yield FieldError.type_invalid(path, value, f'{path} in body must be of type {shape}: "{value}"')


def _mismatch(value: str, pattern: str) -> str | None:
    """What the text should match and does not; a stored pattern need not be one today's definitions may have."""
    try:
        return None if patterns.matcher(pattern)(value) else pattern
    except patterns.BadPattern as error:
        return f"{pattern}, but pattern is invalid: {error}"


def _shown(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e21 else repr(float(number))


def _number(value: float, schema: Obj, path: Path) -> Iterator[FieldError]:
    step, low, high = schema.get("multipleOf"), schema.get("minimum"), schema.get("maximum")
    if step and not _is_multiple(value, step):
        yield FieldError.invalid(path, value, f"{path} in body should be a multiple of {_shown(step)}")
    if high is not None:
        if schema.get("exclusiveMaximum") and value >= high:
            yield FieldError.invalid(path, value, f"{path} in body should be less than {_shown(high)}")
        elif not schema.get("exclusiveMaximum") and value > high:
            yield FieldError.invalid(path, value, f"{path} in body should be less than or equal to {_shown(high)}")
    if low is not None:
        if schema.get("exclusiveMinimum") and value <= low:
            yield FieldError.invalid(path, value, f"{path} in body should be greater than {_shown(low)}")
        elif not schema.get("exclusiveMinimum") and value < low:
            yield FieldError.invalid(path, value, f"{path} in body should be greater than or equal to {_shown(low)}")
    if schema.get("format") == "int32" and not -(2**31) <= value < 2**31:
        text = f"Checked value must be of type integer with format int32 in {path}"
        yield FieldError.invalid(path, value, text)


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    return (value / step).is_integer()


def _list(value: list[Any], schema: Obj, path: Path, old: Any) -> Iterator[FieldError]:
    items = schema.get("items")
    if isinstance(items, dict):
        before = _by_keys(old, schema)
        for index, item in enumerate(value):
            yield from _check(item, items, item_at(path, index), before.get(_keys(item, schema), ABSENT))
    least, limit = schema.get("minItems"), schema.get("maxItems")
    if least is not None and len(value) < least:
        text = f"{path} in body should have at least {int(least)} items"
        yield FieldError.invalid(path, len(value), text)
    if limit is not None and len(value) > limit:
        yield FieldError.too_many(path, len(value), int(limit))


def _keys(item: Any, schema: Obj) -> bytes:
    """What an item of a list of type map is recognized by; b"" for others."""
    if schema.get(LIST_TYPE) != "map" or not isinstance(item, dict):
        return b""
    members = (schema.get("items") or {}).get("properties") or {}
    keys = schema.get(LIST_KEYS) or ()
    return orjson.dumps([item.get(key, (members.get(key) or {}).get("default")) for key in keys])


def _by_keys(old: Any, schema: Obj) -> dict[bytes, Any]:
    if not isinstance(old, list) or schema.get(LIST_TYPE) != "map":
        return {}
    return {_keys(item, schema): item for item in old if isinstance(item, dict)}


def _object(value: Obj, schema: Obj, path: Path, old: Any) -> Iterator[FieldError]:
    least, limit = schema.get("minProperties"), schema.get("maxProperties")
    if least is not None and len(value) < least:
        text = f"{path} in body should have at least {int(least)} properties"
        yield FieldError.invalid(path or NO_PATH, len(value), text)
    if limit is not None and len(value) > limit:
        yield FieldError.too_many(path or NO_PATH, len(value), int(limit))
    for name in schema.get("required") or ():
        if name not in value:
            yield FieldError.required(f"{path}.{name}" if path else name)
    members, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    known = old if isinstance(old, dict) and schema.get(MAP_TYPE) != "atomic" else {}
    for name, inner in value.items():
        below = members.get(name, additional)
        if isinstance(below, dict):
            yield from _check(inner, below, member(path, name), known.get(name, ABSENT))


def _junctors(value: Any, schema: Obj, path: Path) -> Iterator[FieldError]:
    if schema.get("anyOf"):
        tried = _tried(value, schema["anyOf"], path)
        if all(tried):
            yield _composite(f'"{path}" must validate at least one schema (anyOf)')
            yield from min(tried, key=len)
    if schema.get("oneOf"):
        tried = _tried(value, schema["oneOf"], path)
        valid = sum(not found for found in tried)
        if valid != 1:
            more = "Found none valid" if not valid else f"Found {valid} valid alternatives"
            yield _composite(f'"{path}" must validate one and only one schema (oneOf). {more}')
            if not valid:
                yield from min(tried, key=len)
    if schema.get("allOf"):
        tried = _tried(value, schema["allOf"], path)
        for found in tried:
            yield from found
        if any(tried):
            more = ". None validated" if all(tried) else ""
            yield _composite(f'"{path}" must validate all the schemas (allOf){more}')
    if schema.get("not") is not None and not check(value, schema["not"], path):
        yield _composite(f'"{path}" must not validate the schema (not)')


def _tried(value: Any, alternatives: list[Obj], path: Path) -> list[list[FieldError]]:
    return [check(value, one, path) for one in alternatives]


def _composite(text: str) -> FieldError:
    return FieldError.invalid(NO_PATH, "", text)
