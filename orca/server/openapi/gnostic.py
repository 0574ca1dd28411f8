"""The v2 document in protobuf, as kubectl asks for it: gnostic's ``openapi.v2.Document``.

A minimal encoder: only the messages and fields our documents use. Field numbers are those of gnostic's
``openapiv2/OpenAPIv2.proto``. Vendor extensions travel as YAML text, and JSON is YAML.
"""

from __future__ import annotations

from typing import Any

import orjson

from orca.api.objects import Obj

MEDIA = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""What we call it. Clients ask for ``v2@v1.0``, which is no valid media type, as Go's parser finds."""

_VARINT, _BYTES = 0, 2


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


_KEYS = {number: _varint(number << 3 | _BYTES) for number in range(1, 64)}


def _message(number: int, body: bytes) -> bytes:
    """A field of a nested message; present even when empty."""
    return _KEYS[number] + _varint(len(body)) + body


def _text(number: int, value: Any) -> bytes:
    if not value:
        return b""
    return _message(number, str(value).encode())


def _flag(number: int, value: Any) -> bytes:
    return _varint(number << 3 | _VARINT) + b"\x01" if value else b""


def _texts(number: int, values: Any) -> bytes:
    return b"".join(_message(number, str(value).encode()) for value in values or ())


def _named(number: int, name: str, value: bytes) -> bytes:
    """An entry of a map: ``Named…{name = 1, value = 2}``."""
    return _message(number, _text(1, name) + _message(2, value))


def _any(value: Any) -> bytes:
    """``Any{yaml = 2}``."""
    return _message(2, orjson.dumps(value) + b"\n")


def _extensions(number: int, schema: Obj) -> bytes:
    return b"".join(_named(number, key, _any(value)) for key, value in schema.items() if key.startswith("x-"))


def encode(document: Obj) -> bytes:
    """The Document message of a v2 document made by ``documents.swagger``."""
    info = document["info"]
    paths = b"".join(_named(2, path, _path_item(item)) for path, item in document["paths"].items())
    definitions = b"".join(_named(1, name, _schema(schema)) for name, schema in document["definitions"].items())
    return b"".join(
        (
            _text(1, document["swagger"]),
            _message(2, _text(1, info["title"]) + _text(2, info["version"])),
            _message(8, paths),
            _message(9, definitions),
            _security(document),
        )
    )


def _security(document: Obj) -> bytes:
    requirements = b"".join(
        _message(12, b"".join(_named(1, name, _texts(1, scopes)) for name, scopes in requirement.items()))
        for requirement in document.get("security", ())
    )
    definitions = b"".join(
        _named(
            1,
            name,
            _message(
                2,
                _text(1, item["type"]) + _text(2, item["name"]) + _text(3, item["in"]) + _text(4, item["description"]),
            ),
        )
        for name, item in document.get("securityDefinitions", {}).items()
    )
    return requirements + _message(13, definitions)


_OPERATIONS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}


def _path_item(item: Obj) -> bytes:
    made = [_message(_OPERATIONS[method], _operation(op)) for method, op in item.items() if method in _OPERATIONS]
    made += [_message(9, _parameter(parameter)) for parameter in item.get("parameters", ())]
    return b"".join(made)


def _operation(operation: Obj) -> bytes:
    responses = b"".join(_named(1, code, _message(1, _response(one))) for code, one in operation["responses"].items())
    return b"".join(
        (
            _texts(1, operation.get("tags")),
            _text(3, operation.get("description")),
            _text(5, operation.get("operationId")),
            _texts(6, operation.get("produces")),
            _texts(7, operation.get("consumes")),
            *(_message(8, _parameter(parameter)) for parameter in operation.get("parameters", ())),
            _message(9, responses),
            _texts(10, operation.get("schemes")),
            _extensions(13, operation),
        )
    )


def _response(response: Obj) -> bytes:
    made = _text(1, response.get("description"))
    if "schema" in response:
        made += _message(2, _message(1, _schema(response["schema"])))
    return made


def _parameter(parameter: Obj) -> bytes:
    """``ParametersItem{parameter = 1}``."""
    if parameter["in"] == "body":
        body = b"".join(
            (
                _text(1, parameter.get("description")),
                _text(2, parameter["name"]),
                _text(3, "body"),
                _flag(4, parameter.get("required")),
                _message(5, _schema(parameter["schema"])),
            )
        )
        return _message(1, _message(1, body))
    in_path = parameter["in"] == "path"
    # Path parameters have no allow_empty_value, so what follows moves down by one.
    kind, unique = (5, 18) if in_path else (6, 20)
    made = b"".join(
        (
            _flag(1, parameter.get("required")),
            _text(2, parameter["in"]),
            _text(3, parameter.get("description")),
            _text(4, parameter["name"]),
            _text(kind, parameter["type"]),
            _flag(unique, parameter.get("uniqueItems")),
        )
    )
    return _message(1, _message(2, _message(4 if in_path else 3, made)))


def _schema(schema: Obj) -> bytes:
    made = [
        _text(1, schema.get("$ref")),
        _text(2, schema.get("format")),
        _text(4, schema.get("description")),
    ]
    if "default" in schema:
        made.append(_message(5, _any(schema["default"])))
    made.append(_texts(19, schema.get("required")))
    made += [_message(20, _any(value)) for value in schema.get("enum", ())]
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        made.append(_message(21, _message(1, _schema(extra))))
    if schema.get("type"):
        made.append(_message(22, _texts(1, [schema["type"]])))
    if isinstance(schema.get("items"), dict):
        made.append(_message(23, _message(1, _schema(schema["items"]))))
    if schema.get("properties"):
        properties = b"".join(_named(1, name, _schema(item)) for name, item in schema["properties"].items())
        made.append(_message(25, properties))
    made.append(_extensions(31, schema))
    return b"".join(made)
