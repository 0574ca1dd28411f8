"""Clients that break off or ask first: one clean answer or a closed connection, and nothing of them stays."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.security.raw import connection, exchange, statuses
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE

KIB = 1 << 10


def post(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("rest", [b"zz\r\nx\r\n", b"5\r\n12345xx"], ids=["no size", "no end"])
async def test_chunks_that_go_wrong_in_the_middle_of_a_body(api: Api, server: ServerProcess, rest: bytes) -> None:
    """Whoever reads the body learns of it, and not (408) that its time is over."""
    async with connection(server.port, api.tls) as (reader, writer):
        writer.write(post("/api/v1/namespaces/default/configmaps", "Transfer-Encoding: chunked") + b"1\r\n{\r\n")
        await asyncio.sleep(0.1)  # so that it comes by itself
        writer.write(rest)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    assert statuses(answer) == [400], answer[:300]
    assert b"the request body is malformed" in answer


async def test_who_asks_first_and_is_refused_loses_the_connection(server: ServerProcess) -> None:
    """They send no body then: what they send next would be taken for it."""
    head = post("/api/v1/namespaces/default/configmaps", "Content-Length: 20", "Expect: 100-continue")
    answer = await exchange(server.port, head)
    assert statuses(answer) == [403]
    assert b"\r\nConnection: close\r\n" in answer


async def test_tokens_may_be_long(server: ServerProcess) -> None:
    head = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
    assert statuses(await exchange(server.port, head + b"x" * 48 * KIB + b"\r\n\r\n")) == [401]
    assert statuses(await exchange(server.port, head + b"x" * 80 * KIB + b"\r\n\r\n")) == [400]


async def test_creates_of_clients_that_go_happen_or_do_not(api: Api, server: ServerProcess, space: str) -> None:
    """Whatever became of them, nothing of them is left in flight, and each can be tried again."""
    path = f"/api/v1/namespaces/{space}/configmaps"

    async def one(number: int) -> None:
        async with connection(server.port, api.tls) as (_, writer):
            body = b'{"metadata":{"name":"gone-%d"}}' % number
            writer.write(post(path, f"Content-Length: {len(body)}") + body)
            await asyncio.sleep(0.002 * number)
            writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(30)))
    there = {one["metadata"]["name"] for one in (await api.get(path)).json["items"]}
    for number in range(30):
        again = await api.post(path, {"metadata": {"name": f"gone-{number}"}})
        assert again.status in (409, 201)
        assert again.status == 409 or f"gone-{number}" not in there
    async with asyncio.timeout(PATIENCE):
        idle = 'apiserver_current_inflight_requests{request_kind="mutating"} 0.0'
        while idle not in (await api.get("/metrics")).raw.decode():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("scheme", ["https://", "HTTP://"])
async def test_targets_in_absolute_form_are_the_same_as_paths(api: Api, server: ServerProcess, scheme: str) -> None:
    """As proxies, and clients that take the server for one, send them."""
    head = f"GET {scheme}kubernetes:6443/api/v1/namespaces?limit=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await exchange(server.port, head.encode(), api.tls)
    assert statuses(answer) == [200], answer[:300]
    assert b'"remainingItemCount"' in answer
