"""From protobuf bytes to the JSON object they stand for."""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj
from orca.api.times import format_micro, format_time
from orca.server.protobuf.messages import Field, message, name_of

MEDIA = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_MAX_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Wire = tuple[int, int, Any]
"""(field number, wire type, value)."""


def decode_body(raw: bytes, definition: str) -> Obj:
    """The object in ``raw``, expected to be a ``definition``.

    Raises ApiError 400 for broken bytes, 415 for messages that are not in the table and fields that it may lack.
    """
    if not raw.startswith(_MAGIC):
        raise bad_request("the body of the request is not in the protobuf form of Kubernetes")
    try:
        return _decode(raw[len(_MAGIC) :], definition)
    except (IndexError, ValueError, TypeError, OverflowError, struct.error) as error:
        # TypeError: a field came with another wire type than the table says.
        raise bad_request(f"proto: {error or 'illegal bytes'}") from None


def _decode(raw: bytes, definition: str) -> Obj:
    envelope = {number: value for number, _, value in _fields(raw)}
    type_meta = {number: _text(value) for number, _, value in _fields(envelope.get(1, b""))}
    if not type_meta.get(2):
        raise ValueError("couldn't get version/kind; the envelope names none")
    body = _message(name_of(definition), envelope.get(2, b""), 0)
    return {"apiVersion": type_meta.get(1, ""), "kind": type_meta.get(2, ""), **body}


def _fields(raw: bytes) -> Iterator[Wire]:
    position, end = 0, len(raw)
    while position < end:
        key, position = _varint(raw, position)
        number, wire = key >> 3, key & 7
        value: Any
        if wire == _VARINT:
            value, position = _varint(raw, position)
        elif wire == _BYTES:
            length, position = _varint(raw, position)
            if position + length > end:
                raise ValueError("unexpected EOF")
            value = raw[position : position + length]
            position += length
        elif wire == _FIXED64:
            value = struct.unpack_from("<d", raw, position)[0]
            position += 8
        elif wire == _FIXED32:
            value = struct.unpack_from("<f", raw, position)[0]
            position += 4
        else:
            raise ValueError(f"illegal wireType {wire}")
        yield number, wire, value


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = raw[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError("integer overflow")


def _message(name: str, raw: bytes, depth: int) -> Obj:
    table = message(name)
    if table is None:
        raise ApiError(415, "UnsupportedMediaType", f"{name} is not served in protobuf; send application/json instead")
    if depth > _MAX_DEPTH:
        raise ValueError("message is nested too deep")
    made: Obj = {}
    for number, _, value in _fields(raw):
        field = table.fields.get(number)
        if field is None:
            # As Go's decoder: what is gone (old clients still send the empty ``clusterName``) or is yet to come.
            if table.whole or number < table.last:
                continue
            text = f"field {number} of {name} is not known here; send application/json instead"
            raise ApiError(415, "UnsupportedMediaType", text)
        if field.mapped:
            key, item = _entry(field, value, depth)
            made.setdefault(field.name, {})[key] = item
        elif field.repeated:
            made.setdefault(field.name, []).append(_value(field, value, depth))
        else:
            _single(made, field, value, depth)
    return made


def _single(made: Obj, field: Field, value: Any, depth: int) -> None:
    decoded = _value(field, value, depth)
    if field.inline:
        made.update(decoded)
    elif decoded is not None and (field.pointer or decoded not in ("", 0, {}, [])):
        made[field.name] = decoded


def _entry(field: Field, raw: bytes, depth: int) -> tuple[str, Any]:
    key, item = "", None
    for number, _, value in _fields(raw):
        if number == 1:
            key = _text(value)
        elif number == 2:
            item = _value(field, value, depth)
    if item is None:  # a zero value is left out of an entry
        item = {"s": "", "b": "", "i": 0, "t": False, "d": 0.0}.get(field.kind, {})
    return key, item


def _value(field: Field, value: Any, depth: int) -> Any:
    kind = field.kind
    if kind == "s":
        return _text(value)
    if kind == "i":
        return value - (1 << 64) if value >= 1 << 63 else value
    if kind == "t":
        return bool(value)
    if kind == "b":
        return b64encode(value).decode()
    if kind == "d":
        return _number(value)
    leaf = _LEAVES.get(kind)
    if leaf is not None:
        return leaf(value)
    other = _ALTERNATIVES.get(kind)
    return _alternative(value, *other, depth) if other is not None else _message(kind, value, depth + 1)


def _number(value: float) -> int | float:
    """As Go writes it in JSON: without a point where there is nothing behind it."""
    if not math.isfinite(value):
        raise ValueError(f"unsupported value: {value}")
    return int(value) if value.is_integer() else value


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise ValueError("a string was expected")
    return value.decode()


# -- messages that are one JSON value


def _first(raw: bytes, number: int, default: Any) -> Any:
    return next((value for found, _, value in _fields(raw) if found == number), default)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _moment(raw: bytes) -> datetime | None:
    seconds, nanos = _signed(_first(raw, 1, 0)), _signed(_first(raw, 2, 0))
    if not raw or (seconds == 0 and nanos == 0):
        return None
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)


def _time(raw: bytes) -> str | None:
    moment = _moment(raw)
    return format_time(moment) if moment else None


def _micro_time(raw: bytes) -> str | None:
    moment = _moment(raw)
    return format_micro(moment) if moment else None


def _quantity(raw: bytes) -> str:
    return _text(_first(raw, 1, b""))


def _int_or_string(raw: bytes) -> int | str:
    if _first(raw, 1, 0) == 1:
        return _text(_first(raw, 3, b""))
    return _signed(_first(raw, 2, 0))


def _json(raw: bytes) -> Any:
    return orjson.loads(_first(raw, 1, b"") or b"null")


def _duration(raw: bytes) -> str:
    return f"{_signed(_first(raw, 1, 0)) / 1e9:g}s"


def _items(raw: bytes) -> list[str]:
    return [_text(value) for number, _, value in _fields(raw) if number == 1]


def _alternative(raw: bytes, schema: int, other: Field, number: int, depth: int) -> Any:
    """A JSON schema where its field ``schema`` is there, else what field ``number`` says."""
    found = list(_fields(raw))
    for one, _, value in found:
        if one == schema:
            return _message(_SCHEMA, value, depth + 1)
    values = [_value(other, value, depth + 1) for one, _, value in found if one == number]
    return values if other.repeated else bool(values and values[-1])


_SCHEMA = "apiextensions.v1.JSONSchemaProps"
_ALTERNATIVES: dict[str, tuple[int, Field, int]] = {
    "apiextensions.v1.JSONSchemaPropsOrArray": (1, Field("", _SCHEMA, True, False, False, False), 2),
    "apiextensions.v1.JSONSchemaPropsOrBool": (2, Field("", "t", False, False, False, False), 1),
    "apiextensions.v1.JSONSchemaPropsOrStringArray": (1, Field("", "s", True, False, False, False), 2),
}
"""Messages that are a JSON schema or something else."""

_LEAVES: dict[str, Callable[[bytes], Any]] = {
    "apis.meta.v1.Time": _time,
    "apis.meta.v1.MicroTime": _micro_time,
    "apis.meta.v1.Duration": _duration,
    "apis.meta.v1.FieldsV1": _json,
    "api.resource.Quantity": _quantity,
    "util.intstr.IntOrString": _int_or_string,
    "runtime.RawExtension": _json,
    "apiextensions.v1.JSON": _json,
    "authentication.v1.ExtraValue": _items,
    "authorization.v1.ExtraValue": _items,
    "certificates.v1.ExtraValue": _items,
}
