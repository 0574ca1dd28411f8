"""Answers sent in one piece look like the library's, and leave to it whatever is not the rule."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from orca.server.whole import WholeResponse
from tests.support.patience import PATIENCE

BODY = b'{"kind":"Pod"}'


async def _serve(request: web.BaseRequest) -> web.StreamResponse:
    answer = WholeResponse(body=BODY, status=201, headers={"Content-Type": "application/json"})
    answer.headers.add("Warning", '299 - "one"')
    answer.headers.add("Warning", '299 - "two"')
    if request.path == "/split":
        answer.headers["Audit-Id"] = "a\r\nSet-Cookie: b=c"
    return answer


async def _ask(*requests: str, until: bytes = b"") -> bytes:
    """What a connection answers to requests sent at once; `until` it has said so much, or the end."""
    server = await asyncio.get_running_loop().create_server(web.Server(_serve), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write("".join(requests).encode())
    answer = b""
    async with asyncio.timeout(PATIENCE):
        while not until or answer.count(until) < len(requests):
            got = await reader.read(65536)
            if not got:
                break
            answer += got
    writer.close()
    server.close()
    return answer


async def test_the_connection_goes_on_after_an_answer_in_one_piece() -> None:
    answer = await _ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", until=BODY)
    first, _, second = answer.partition(BODY)
    head, _, rest = first.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 201 Created"
    assert rest == b""
    assert f"Content-Length: {len(BODY)}" in lines
    assert "Content-Type: application/json" in lines
    assert [line for line in lines if line.startswith("Warning")] == ['Warning: 299 - "one"', 'Warning: 299 - "two"']
    assert any(line.startswith("Date: ") for line in lines)
    assert "Connection: close" not in lines
    assert second.startswith(b"HTTP/1.1 201 Created\r\n")
    assert second.endswith(BODY)


@pytest.mark.parametrize(
    ("request_", "version", "body"),
    [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"HTTP/1.1", BODY),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", b"HTTP/1.0", BODY),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"HTTP/1.1", b""),
    ],
)
async def test_others_are_answered_by_the_library(request_: str, version: bytes, body: bytes) -> None:
    head, _, rest = (await _ask(request_)).partition(b"\r\n\r\n")
    assert head.startswith(version + b" 201 Created")
    assert rest == body
    assert f"Content-Length: {len(BODY)}".encode() in head


async def test_no_header_becomes_two() -> None:
    assert b"Set-Cookie" not in await _ask("GET /split HTTP/1.1\r\nHost: a\r\n\r\n")
