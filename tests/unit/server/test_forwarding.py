"""Requests handed on arrive as they were meant, whoever is on the other side, and answers as soon as they begin."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

from aiohttp import web

from orca.api.objects import Obj
from orca.auth import UserInfo
from orca.server.audit import Record
from orca.server.forwarding import Forwarder
from orca.server.hosts import Destination, Hosts
from orca.server.paths import Target
from orca.server.request import Request, parse_query
from orca.server.tunnel import Endpoint
from orca.store import Store
from tests.support.wire import Listening, dialled, listening, said


@dataclass
class Backend:
    """What arrives, and what is answered: ``head`` at once, ``rest`` when ``go_on`` is set."""

    heads: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.heads.append({key.lower(): value for key, value in request.headers.items()})
        self.bodies.append(await request.read())
        if request.path == "/stream":
            response = web.StreamResponse()
            await response.prepare(request)
            await self.go_on.wait()
            await response.write(b"at last")
            return response
        return web.Response(text="answer", headers=self.headers)


@asynccontextmanager
async def proxied(backend: Backend) -> AsyncIterator[Listening]:
    """A server that hands everything on to ``backend``."""
    forwarder = Forwarder()
    async with listening(backend) as behind:
        destination = Destination(Endpoint("localhost", behind.port), "http")

        async def forward(http: web.BaseRequest) -> web.StreamResponse:
            path, _, query = http.raw_path.partition("?")
            request = Request(http, http.method, Target(path), parse_query(query), query, UserInfo("u"), "id")
            return await forwarder.forward(request, destination, http.raw_path)

        async with listening(forward) as front:
            yield front
        await forwarder.close()


def request(method: str, *headers: str, path: str = "/", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode() + body


async def test_a_body_of_known_length_is_one_behind_the_proxy_too() -> None:
    """Programs without a web server of their own read so many bytes, and know nothing of chunks."""
    backend = Backend()
    async with proxied(backend) as front:
        body = b"x" * 300_000
        await said(front.port, request("POST", f"Content-Length: {len(body)}", "Connection: close", body=body))
        await said(front.port, request("POST", "Content-Length: 0", "Connection: close"))
        chunks = b"3\r\nabc\r\n0\r\n\r\n"
        await said(front.port, request("POST", "Transfer-Encoding: chunked", "Connection: close", body=chunks))
    assert backend.bodies == [body, b"", b"abc"]
    assert [head.get("content-length") for head in backend.heads] == [str(len(body)), "0", None]
    assert [head.get("transfer-encoding") for head in backend.heads] == [None, None, "chunked"]


async def test_nothing_is_asked_for_that_the_client_did_not_ask_for() -> None:
    backend = Backend()
    async with proxied(backend) as front:
        await said(front.port, request("GET", "Connection: close, X-Hop", "X-Hop: 1", "X-End: 2"))
        await said(front.port, request("GET", "Connection: close", "Accept-Encoding: br", "User-Agent: me"))
    first, second = backend.heads
    assert first.keys() & {"accept", "accept-encoding", "user-agent", "content-type", "x-hop"} == set()
    assert first["x-end"] == "2"
    assert (second["accept-encoding"], second["user-agent"]) == ("br", "me")


async def test_what_concerns_the_other_connection_stays_there() -> None:
    backend = Backend(headers={"Connection": "X-Hop", "X-Hop": "1", "X-End": "2"})
    async with proxied(backend) as front:
        answer = await said(front.port, request("GET", "Connection: close"))
    assert b"X-End: 2\r\n" in answer
    assert b"X-Hop" not in answer


async def test_who_waits_for_leave_to_send_a_body_gets_it() -> None:
    backend = Backend()
    async with proxied(backend) as front, dialled(front.port) as (reader, writer):
        writer.write(request("POST", "Content-Length: 4", "Expect: 100-continue", "Connection: close"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert b" 200 OK\r\n" in await reader.read()
    assert backend.bodies == [b"body"]
    assert "expect" not in backend.heads[0]


async def test_an_answer_is_seen_to_begin_before_there_is_any_of_it() -> None:
    """Who follows the log of a silent container is told that it does."""
    backend = Backend()
    async with proxied(backend) as front, dialled(front.port) as (reader, writer):
        writer.write(request("GET", "Connection: close", path="/stream"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        backend.go_on.set()
        assert b"at last" in await reader.read()


async def test_framed_answers_say_that_they_begin() -> None:
    """As those without frames: who follows a log may do so for days."""
    backend, record = Backend(), SimpleNamespace(lasts=True, codes=[])
    record.begun = record.codes.append
    forwarder = Forwarder()
    async with listening(backend) as behind:
        destination = Destination(Endpoint("127.0.0.1", behind.port), "http")

        async def forward(http: web.BaseRequest) -> web.StreamResponse:
            made = Request(http, "GET", Target("/"), {}, "", UserInfo("u"), "id", record=cast(Record, record))
            return await forwarder.forward(made, destination, "/stream", framed=True)

        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        async with listening(forward) as front, dialled(front.port) as (reader, writer):
            writer.write(request("GET", *upgrade, f"Sec-WebSocket-Key: {'A' * 22}=="))
            await reader.readuntil(b"\r\n\r\n")
            assert record.codes == [101]
            backend.go_on.set()
            assert b"at last" in await reader.readuntil(b"at last")
        assert record.codes == [101]
        await forwarder.close()


async def test_cookies_are_whose_they_were_given_to() -> None:
    backend = Backend(headers={"Set-Cookie": "session=secret"})
    async with proxied(backend) as front:
        assert b"session=secret" in await said(front.port, request("GET", "Connection: close"))
        await said(front.port, request("GET", "Connection: close", "Cookie: mine=1"))
    assert "cookie" not in backend.heads[0]
    assert backend.heads[1]["cookie"] == "mine=1"


async def test_who_goes_takes_the_request_behind_along() -> None:
    backend = Backend()
    async with listening(backend) as behind:
        forwarder = Forwarder()
        destination = Destination(Endpoint("127.0.0.1", behind.port), "http")

        async def forward(http: web.BaseRequest) -> web.StreamResponse:
            made = Request(http, http.method, Target("/stream"), {}, "", UserInfo("u"), "id")
            return await forwarder.forward(made, destination, "/stream")

        async with listening(forward) as front:
            async with dialled(front.port) as (reader, writer):
                writer.write(request("GET"))
                await reader.readuntil(b"\r\n\r\n")
                assert any(one.connected for one in behind.connections)
            while any(one.connected for one in behind.connections):  # noqa: ASYNC110 - over two connections
                await asyncio.sleep(0.001)
        await forwarder.close()


async def test_who_asks_for_no_certificate_reads_no_authorities() -> None:
    """Those of a host are a megabyte, and a tenth of a second of the server's start."""

    class Nodes:
        async def fresh(self) -> None: ...

        def peek(self, *_: object) -> Obj:
            return {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}

    hosts = Hosts(cast(Store, Nodes()), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    tls = (await hosts.node_destination("https:node:8443")).endpoint.tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname, tls.get_ca_certs()) == (ssl.CERT_NONE, False, [])
