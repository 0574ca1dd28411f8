"""Protobuf bodies: what kubectl sends becomes the JSON it means."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import BUILTIN
from orca.api.errors import ApiError
from orca.api.schema import SCHEMA
from orca.server.protobuf import decode_body
from orca.server.protobuf.messages import _PREFIXES, _lines, message, name_of

POD = "io.k8s.api.core.v1.Pod"
CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
SCALARS = {
    "s": "string",
    "b": "string",
    "i": "integer",
    "t": "boolean",
    "d": "number",
}


def field(number: int, body: bytes | int) -> bytes:
    if isinstance(body, int):
        return varint(number << 3) + varint(body)
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def envelope(kind: str, body: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, b"v1") + field(2, kind.encode())) + field(2, body)


def test_a_pod() -> None:
    metadata = field(1, b"web") + field(2, b"") + field(11, field(1, b"app") + field(2, b"x")) + field(8, b"")
    port = field(3, 80) + field(2, 0) + field(4, b"TCP")
    quantity = field(1, b"cpu") + field(2, field(1, b"100m"))
    container = field(1, b"main") + field(2, b"nginx") + field(6, port) + field(8, field(2, quantity))
    spec = field(2, container) + field(4, 0) + field(11, 0)
    assert decode_body(envelope("Pod", field(1, metadata) + field(2, spec) + field(3, b"")), POD) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "x"}},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "nginx",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "100m"}},
                }
            ],
            # a pointer: zero was said, not left out
            "terminationGracePeriodSeconds": 0,
        },
    }


def test_fields_of_other_versions_are_passed_over() -> None:
    old = field(1, field(1, b"web") + field(15, b""))  # clusterName, until v1.23
    assert decode_body(envelope("Pod", old + field(99, b"x")), POD)["metadata"] == {"name": "web"}


def test_what_may_be_lost_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        decode_body(envelope("Pod", field(2, field(99, b"x"))), POD)
    assert caught.value.code == 415
    with pytest.raises(ApiError) as caught:
        decode_body(envelope("X", b""), "com.example.v1.X")
    assert caught.value.code == 415


@given(st.binary(max_size=100))
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    for body in (raw, b"k8s\x00" + raw, envelope("Pod", raw)):
        assert _refusal(body) in (None, 400, 415)


def _refusal(body: bytes) -> int | None:
    try:
        decode_body(body, POD)
    except ApiError as error:
        return error.code
    return None


def test_the_table_agrees_with_the_schema() -> None:
    """Every field of every message is one of its definition, with the same type."""
    wrong = []
    for name in _lines():
        definition = next(
            (SCHEMA.definitions[one + name] for one in _PREFIXES if one + name in SCHEMA.definitions), None
        )
        fields = message(name)
        assert fields is not None
        if definition is None:
            continue
        properties = definition.get("properties", {})
        for one in fields.fields.values():
            if one.inline:
                continue
            schema = properties.get(one.name)
            if schema is None:
                wrong.append(f"{name}.{one.name} is not in the schema")
            elif one.repeated != ("items" in schema) or one.mapped != ("additionalProperties" in schema):
                wrong.append(f"{name}.{one.name} has another shape")
            elif one.kind in SCALARS and not (one.repeated or one.mapped) and SCALARS[one.kind] not in schema["type"]:
                wrong.append(f"{name}.{one.name} has another type")
        if fields.whole != (set(properties) - {"apiVersion", "kind"} <= set(_names(name))):
            wrong.append(f"{name}: whether it is whole")
    assert wrong == []


def _names(name: str) -> Iterator[str]:
    known = message(name)
    assert known is not None
    for one in known.fields.values():
        yield from _names(one.kind) if one.inline else (one.name,)


def test_all_kinds_have_their_message() -> None:
    known = set(_lines())
    written = [row for row in BUILTIN if set(row.verbs) - {"get", "list"}]
    assert [row.kind for row in written if name_of(row.definition) not in known] == []


def test_a_definition_of_a_custom_kind() -> None:
    text = field(5, b"string")
    items = field(5, b"array") + field(24, field(1, text)) + field(16, 0) + field(42, b"set")
    counted = field(5, b"integer") + field(8, field(1, b"3")) + field(20, field(1, b"3")) + field(20, field(1, b"null"))
    limits = double(9, 10) + double(11, 0.5) + field(10, 0)
    nested = field(1, b"list") + field(2, items)
    number = field(1, b"number") + field(2, counted + limits)
    free = field(1, b"free") + field(2, field(30, field(1, 1)) + field(33, field(1, 0)) + field(38, 1))
    mapped = field(1, b"map") + field(2, field(30, field(1, 0) + field(2, text)))
    either = field(24, field(2, text) + field(2, b"")) + field(32, field(1, b"a") + field(2, field(2, b"b")))
    rule = field(44, field(1, b"self.a") + field(6, 0))
    schema = field(5, b"object") + b"".join(field(29, one) for one in (nested, number, free, mapped)) + either + rule
    version = field(1, b"v1") + field(2, 1) + field(3, 0) + field(4, field(1, schema)) + field(5, field(1, b""))
    names = field(1, b"noxus") + field(3, b"nx") + field(4, b"Noxu")
    spec = field(1, b"example.com") + field(3, names) + field(4, b"Cluster") + field(7, version) + field(10, 0)
    decoded = decode_body(envelope("CustomResourceDefinition", field(2, spec)), CRD)
    assert decoded["spec"] == {
        "group": "example.com",
        "names": {"plural": "noxus", "shortNames": ["nx"], "kind": "Noxu"},
        "scope": "Cluster",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": False,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "list": {
                                "type": "array",
                                "items": {"type": "string"},
                                "maxItems": 0,
                                "x-kubernetes-list-type": "set",
                            },
                            "number": {
                                "type": "integer",
                                "default": 3,
                                "enum": [3, None],
                                "maximum": 10,
                                "minimum": 0.5,
                            },
                            "free": {
                                "additionalProperties": True,
                                "additionalItems": False,
                                "x-kubernetes-preserve-unknown-fields": True,
                            },
                            "map": {"additionalProperties": {"type": "string"}},
                        },
                        "items": [{"type": "string"}, {}],
                        "dependencies": {"a": ["b"]},
                        "x-kubernetes-validations": [{"rule": "self.a", "optionalOldSelf": False}],
                    }
                },
            }
        ],
    }


def test_numbers_that_json_has_not() -> None:
    schema = field(4, field(1, double(9, float("nan"))))
    with pytest.raises(ApiError) as caught:
        decode_body(envelope("CustomResourceDefinition", field(2, field(7, schema))), CRD)
    assert caught.value.code == 400


def test_schemas_within_schemas_end() -> None:
    schema = b""
    for _ in range(200):
        schema = field(24, field(1, schema))
    with pytest.raises(ApiError) as caught:
        decode_body(envelope("CustomResourceDefinition", field(2, field(7, field(4, field(1, schema))))), CRD)
    assert caught.value.code == 400
