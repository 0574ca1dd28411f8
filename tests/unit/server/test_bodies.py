"""Bodies: decoding, duplicate fields, limits of time."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from orca.api.errors import ApiError
from orca.api.repeated import MAX_STRICT_ERRORS
from orca.server import bodies, connection
from orca.server.connection import ConnectionFactory
from tests.support.patience import PATIENCE

JSON, YAML = "application/json", "application/yaml"


@pytest.mark.parametrize(
    ("raw", "twice"),
    [
        (b'{"a":1,"b":{"a":2}}', []),
        (b'{"a":1,"a":2}', ['duplicate field "a"']),
        (b'{"a" : 1, "a":2}', ['duplicate field "a"']),
        (b'{"s":"x\\":\\"y","t":{"u":1,"u":1}}', ['duplicate field "t.u"']),
        (b'{"s":"\\u0022:"}', []),
    ],
)
def test_duplicates_in_json(raw: bytes, twice: list[str]) -> None:
    assert bodies.duplicate_fields(raw, JSON, bodies.decode(raw, JSON)) == twice


def test_what_operations_have_not_is_told_in_their_order() -> None:
    names = [f"n{number}" for number in range(150)]
    raw = orjson.dumps([{"op": "add", **dict.fromkeys(names, 1)}])
    wanted = [f'json patch unknown field "[0].{name}"' for name in names[:MAX_STRICT_ERRORS]]
    assert bodies.patch_problems(raw, orjson.loads(raw)) == wanted


def test_duplicates_in_yaml() -> None:
    raw = b"a: 1\nb: {c: 1, c: 2}\n"
    assert bodies.duplicate_fields(raw, YAML, bodies.decode(raw, YAML)) == [
        'yaml: unmarshal errors:\n  line 2: key "c" already set in map'
    ]
    both = b'{"a": 1,\n "a": 2}'
    told = bodies.repeated_keys(both, JSON, bodies.decode(both, JSON))
    assert told == ['yaml: unmarshal errors:\n  line 2: key "a" already set in map']


def test_yaml_as_the_kubernetes_tools_read_it() -> None:
    raw = b"when: 2026-01-02\n2: two\ntrue: yes\nnothing: ~\n"
    assert bodies.decode(raw, YAML) == {"when": "2026-01-02", "2": "two", "true": True, "nothing": None}


@pytest.mark.parametrize(("text", "shown"), [(".nan", "NaN"), (".inf", "+Inf"), ("-.Inf", "-Inf")])
def test_numbers_that_json_has_not_are_refused(text: str, shown: str) -> None:
    with pytest.raises(ApiError) as caught:
        bodies.decode(f"a: [{text}]".encode(), YAML)
    assert caught.value.code == 400
    assert caught.value.message.endswith(f"json: unsupported value: {shown}")
    assert bodies.decode(f"{text}: 1".encode(), YAML) == {text.lower(): 1}


@given(st.binary(max_size=200), st.sampled_from([JSON, YAML]))
def test_any_bytes_decode_or_are_refused(raw: bytes, media: str) -> None:
    assert _refusal(raw, media) in (None, 400)


def _refusal(raw: bytes, media: str) -> int | None:
    try:
        bodies.decode(raw, media)
    except ApiError as error:
        return error.code
    return None


async def _served(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> bytes:
    """What a server with impatient limits answers to bytes that do not go on."""
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.05)
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return web.Response(body=await bodies.read_body(request))
        except ApiError as error:
            response = web.Response(status=error.code, text=error.reason)
            response.force_close()
            return response

    factory = ConnectionFactory(handler, access_log=None, lingering_time=0)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        return answer
    finally:
        server.close()
        await factory.shutdown(0)


async def test_a_half_sent_body(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await _served(monkeypatch, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_half_sent_head(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _served(monkeypatch, b"GET / HTTP/1.1\r\nHos") == b""
