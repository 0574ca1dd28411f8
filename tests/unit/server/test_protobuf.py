"""Protobuf bodies: what kubectl sends becomes the JSON it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import BUILTIN
from orca.api.errors import ApiError
from orca.api.schema import SCHEMA
from orca.server.protobuf import decode_body
from orca.server.protobuf.messages import _lines, message

POD = "io.k8s.api.core.v1.Pod"
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


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        decode_body(envelope("Pod", field(99, b"x")), POD)
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
        prefix = "io.k8s.apimachinery.pkg." if name.startswith(("apis.", "api.", "util.")) else "io.k8s.api."
        definition = SCHEMA.definitions.get(prefix + name)
        fields = message(name)
        assert fields is not None
        if definition is None:
            continue
        properties = definition.get("properties", {})
        for one in fields.values():
            if one.inline:
                continue
            schema = properties.get(one.name)
            if schema is None:
                wrong.append(f"{name}.{one.name} is not in the schema")
            elif one.repeated != ("items" in schema) or one.mapped != ("additionalProperties" in schema):
                wrong.append(f"{name}.{one.name} has another shape")
            elif one.kind in SCALARS and not (one.repeated or one.mapped) and SCALARS[one.kind] not in schema["type"]:
                wrong.append(f"{name}.{one.name} has another type")
    assert wrong == []


def test_most_kinds_have_their_message() -> None:
    known = set(_lines())
    written = [row for row in BUILTIN if set(row.verbs) - {"get", "list"}]
    missing = [row.kind for row in written if row.definition.removeprefix("io.k8s.api.") not in known]
    assert sorted(missing) == ["APIService", "CustomResourceDefinition"]
