"""Hostile HTTP: every request gets one clean answer or a closed connection, and the server goes on."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.security.authority import client_tls
from tests.api.security.raw import connection, exchange, statuses
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE

MIB = 1 << 20
DAWDLERS = 300
GET = b"GET /version HTTP/1.1\r\nHost: x\r\n"
LAST = GET + b"Connection: close\r\n\r\n"


def memory(server: ServerProcess) -> int:
    """Resident bytes of the server."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def post(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass
class Dawdling:
    """Clients that take their time, since the first of this module's tests."""

    task: asyncio.Task[None]
    kept: list[bytes]
    """How those began that still had their connections when nobody should."""
    waits: list[float]
    """Of somebody else, who asks now and then."""


@pytest.fixture(scope="module", autouse=True)
async def dawdling(server: ServerProcess) -> AsyncIterator[Dawdling]:
    """They need no processor, and their time runs out while other tests run. All are connected before those begin, or
    what they take in memory would be counted as those tests'."""
    kept: list[bytes] = []
    waits: list[float] = []
    connected = asyncio.Semaphore(0)
    task = asyncio.create_task(_dawdle(server, kept, waits, connected))
    async with asyncio.timeout(PATIENCE):
        for _ in range(DAWDLERS):
            await connected.acquire()
    yield Dawdling(task, kept, waits)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _dawdle(server: ServerProcess, kept: list[bytes], waits: list[float], connected: asyncio.Semaphore) -> None:
    """Over handshake, head or body, until all have lost their connections."""

    async def one(start: bytes, drip: bytes, *, tls: bool = True) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context if tls else None)
        connected.release()
        writer.write(start)
        try:
            async with asyncio.timeout(PATIENCE):
                while not reader.at_eof():
                    try:
                        async with asyncio.timeout(2):
                            await reader.read(65536)
                    except TimeoutError:
                        writer.write(drip)
        except ConnectionError:
            pass
        except TimeoutError:
            kept.append(start)
        writer.close()

    async def somebody_else() -> None:
        async with Api(server.kubeconfig) as api:
            while True:
                began = time.monotonic()
                assert (await api.get("/readyz")).status == 200
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.2)

    context = Api(server.kubeconfig).tls  # somebody who may write, or bodies would not be waited for
    hello = bytes.fromhex("16030100c8010000c40303") + b"\x01" * 20
    body = post("/api/v1/namespaces/default/configmaps", "Content-Length: 100000")
    chunked = post("/api/v1/namespaces/default/configmaps", "Transfer-Encoding: chunked")
    other = asyncio.create_task(somebody_else())
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(DAWDLERS // 6):
                group.create_task(one(b"", b"", tls=False))
                group.create_task(one(hello, b"\x01", tls=False))
                group.create_task(one(b"GET /version HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"))
                group.create_task(one(b"GET ", b"/"))
                group.create_task(one(body + b"{", b" "))
                group.create_task(one(chunked, b"1\r\n \r\n"))
        assert not other.done(), other.exception()
    finally:
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


async def test_bodies_beyond_the_limit(api: Api, server: ServerProcess, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    big = b'{"metadata":{"name":"big"},"data":{"a":"' + b"x" * (4 * MIB) + b'"}}'
    answer = await api.post(path, big)
    assert answer.failure[:2] == (413, "RequestEntityTooLarge")
    # The length alone is enough, without a byte of the body.
    head = post(path, "Content-Length: 99999999999", "Connection: close")
    assert statuses(await exchange(server.port, head, api.tls)) == [413]
    # In chunks, whose sum nobody announces.
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    assert statuses(await exchange(server.port, post(path, "Transfer-Encoding: chunked") + chunk * 64, api.tls)) == [
        413
    ]
    # An object may not outgrow the store by patches either.
    assert (await api.post(path, {"metadata": {"name": "grows"}, "data": {"a": "1"}})).status == 201
    for field in "bc":
        answer = await api.patch(f"{path}/grows", {"data": {field: "y" * 700_000}})
    assert answer.status in (413, 422), answer.raw[:300]


async def test_a_gzip_bomb_does_not_expand(api: Api, server: ServerProcess, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    before = memory(server)
    for bomb in (gzip.compress(b" " * (256 * MIB), 1), gzip.compress(gzip.compress(b" " * (64 * MIB)))):
        async with asyncio.timeout(PATIENCE):
            answer = await api.post(path, bomb, Content_Encoding="gzip")
        assert 400 <= answer.status < 500
    assert memory(server) - before < 64 * MIB


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "multipart/form-data", "nonsense", "a/b;c=\u00fc"])
async def test_content_types_nobody_reads(api: Api, space: str, media: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    for method, where in (("POST", path), ("PUT", f"{path}/x"), ("PATCH", f"{path}/x")):
        answer = await api.call(method, where, b'{"metadata":{"name":"x"}}', media=media)
        assert answer.failure[:2] == (415, "UnsupportedMediaType"), (method, media)
    for accept in ("application/xml", "text/html", "application/cbor", "application/vnd.kubernetes.protobuf"):
        assert (await api.get(path, Accept=accept)).failure[:2] == (406, "NotAcceptable")


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
AMBIGUOUS = {
    "length and chunks": (b"Content-Length: 6", b"Transfer-Encoding: chunked"),
    "chunks and length": (b"Transfer-Encoding: chunked", b"Content-Length: 6"),
    "two lengths": (b"Content-Length: 0", b"Content-Length: 37"),
    "a list of lengths": (b"Content-Length: 0, 37",),
    "a signed length": (b"Content-Length: +0",),
    "a negative length": (b"Content-Length: -1",),
    "a hexadecimal length": (b"Content-Length: 0x0",),
    "an underscored length": (b"Content-Length: 1_0",),
    "a blank before the colon": (b"Transfer-Encoding : chunked",),
    "a folded header": (b"Transfer-Encoding:\r\n chunked",),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked",),
    "chunked not last": (b"Transfer-Encoding: chunked, identity",),
    "almost chunked": (b"Transfer-Encoding: xchunked",),
    "a quoted coding": (b'Transfer-Encoding: "chunked"',),
    "a zero byte": (b"Content-Length: 0\x00",),
    "a bare carriage return": (b"X: a\rContent-Length: 37",),
}


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_smuggling(server: ServerProcess, headers: tuple[bytes, ...]) -> None:
    """What intermediaries could read in two ways is refused, and what follows on the connection is not served."""
    head = b"POST /api/v1/namespaces/default/pods HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(headers) + b"\r\n\r\n"
    try:
        answer = await exchange(server.port, head + b"0\r\n\r\n" + SMUGGLED, seconds=60)
    except TimeoutError:
        pytest.fail("the connection stays open")
    assert b"smuggled" not in answer
    assert all(400 <= code < 500 for code in statuses(answer)), answer[:500]
    assert len(statuses(answer)) <= 1


MALFORMED = {
    "no request": b"\r\n\r\n\r\n",
    "no version": b"GET /version\r\n\r\n",
    "HTTP/0.9": b"GET /version HTTP/0.9\r\n\r\n",
    "HTTP/2.0": b"GET /version HTTP/2.0\r\nHost: x\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bytes": bytes(range(256)) * 4,
    "a long line": b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": GET + b"X: " + b"a" * 300_000 + b"\r\n\r\n",
    "many headers": GET + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "a header without a name": GET + b": y\r\n\r\n",
    "a header with a blank": GET + b"X Y: z\r\n\r\n",
    "a path with blanks": b"GET /a b c HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "another server": b"GET http://example.com/api/v1/secrets HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
}

OTHER_VERSIONS = {MALFORMED[name] for name in ("no version", "HTTP/0.9", "HTTP/2.0")}
"""Of an HTTP that is not spoken here: such a request is not even read to its end."""


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_requests(server: ServerProcess, data: bytes) -> None:
    async with connection(server.port) as (reader, writer):
        writer.write(data)
        answer = b""
        try:
            async with asyncio.timeout(3 if data == MALFORMED["no request"] else PATIENCE):
                answer = await reader.read()
        except ConnectionError:
            pass
        except TimeoutError:
            assert data == MALFORMED["no request"], answer
    wanted = [505] if data in OTHER_VERSIONS else range(400, 500)
    assert all(code in wanted for code in statuses(answer)), answer[:300]
    assert len(statuses(answer)) <= 1
    assert statuses(await exchange(server.port, LAST)) == [200]


CHUNKS = {
    "no number": b"zz\r\nx\r\n",
    "a negative size": b"-1\r\nx\r\n",
    "an enormous size": b"fffffffffffffffff\r\nx\r\n",
    "a long extension": b"1;" + b"e" * 200_000 + b"\r\n{\r\n0\r\n\r\n",
    "no line break after data": b"1\r\nxx\r\n0\r\n\r\n",
    "a prefix": b"0x1\r\n{\r\n0\r\n\r\n",
    "enormous trailers": b"0\r\n" + b"".join(b"T-%d: y\r\n" % n for n in range(50_000)),
}


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
async def test_abuse_of_chunks(api: Api, server: ServerProcess, space: str, chunk: bytes) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    head = post(path, "Transfer-Encoding: chunked", "Connection: close")
    answer = await exchange(server.port, head + chunk, api.tls)
    assert all(400 <= code < 500 for code in statuses(answer)), answer[:300]
    assert (await api.get("/readyz")).status == 200


async def test_a_body_in_the_smallest_chunks(api: Api, server: ServerProcess, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    body = b'{"metadata":{"name":"crumbs"},"data":{"a":"' + b"x" * 20_000 + b'"}}'
    head = post(path, "Transfer-Encoding: chunked", "Connection: close")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    assert statuses(await exchange(server.port, head + chunks + b"0\r\n\r\n", api.tls)) == [201]


async def test_expectations(api: Api, server: ServerProcess, space: str) -> None:
    """A client that asks first is told to go on; one whose body would be refused is told that instead."""
    path = f"/api/v1/namespaces/{space}/configmaps"
    body = b'{"metadata":{"name":"expected"}}'
    async with connection(server.port, api.tls) as (reader, writer), asyncio.timeout(PATIENCE):
        writer.write(post(path, f"Content-Length: {len(body)}", "Expect: 100-continue", "Connection: close"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert statuses(await reader.read()) == [201]
    head = post(path, "Content-Length: 99999999", "Expect: 100-continue", "Connection: close")
    assert statuses(await exchange(server.port, head, api.tls)) == [413]
    head = post(path, "Content-Length: 20", "Expect: 100-continue", "Connection: close")
    assert statuses(await exchange(server.port, head)) == [403]


async def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    paths = [f"/healthz?n={n}" if n % 2 else f"/missing/{n}" for n in range(60)]
    data = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths)
    answer = await exchange(server.port, data + LAST)
    assert statuses(answer) == [200 if n % 2 else 403 for n in range(60)] + [200]


async def test_a_flood_that_reads_nothing(server: ServerProcess) -> None:
    """Requests whose answers nobody takes do not pile up in memory."""
    before = memory(server)
    async with connection(server.port) as (_, writer):
        request = b"GET /missing HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
        try:
            async with asyncio.timeout(4):
                for _ in range(200):
                    writer.write(request)
                    await writer.drain()
        except (TimeoutError, ConnectionError):
            pass
        assert memory(server) - before < 64 * MIB
        assert statuses(await exchange(server.port, LAST)) == [200]


async def test_no_answer_names_the_inside(server: ServerProcess, anonymous: Api) -> None:
    """Errors carry neither tracebacks nor the names of files and libraries."""

    async def answer_to(data: bytes) -> bytes:
        answer = b""
        async with connection(server.port, client_tls()) as (reader, writer):
            writer.write(data)
            try:
                async with asyncio.timeout(3 if data == MALFORMED["no request"] else PATIENCE):
                    while more := await reader.read(65536):
                        answer += more
            except (TimeoutError, ConnectionError):
                pass
        return answer

    answers = await asyncio.gather(*(answer_to(data) for data in (*MALFORMED.values(), LAST)))
    assert any(answers)
    for answer in answers:
        for word in (b"Traceback", b"aiohttp", b".py", b"Python/"):
            assert word not in answer, answer[:300]


@pytest.mark.parametrize(
    "name", ["User-Agent", "Audit-ID", "X-Forwarded-For", "Impersonate-User", "Impersonate-Extra-A"]
)
async def test_headers_that_are_no_utf8(api: Api, server: ServerProcess, name: str) -> None:
    head = post("/apis/authentication.k8s.io/v1/selfsubjectreviews", "Content-Length: 2", "Connection: close")
    named = b"" if name == "Impersonate-User" else b"Impersonate-User: a\r\n"
    head = head[:-2] + named + name.encode() + b": a\xff\r\n\r\n{}"
    answer = await exchange(server.port, head, api.tls)
    assert statuses(answer) == [201], answer
    if name.startswith("Impersonate"):
        assert "a\ufffd".encode() in answer


async def test_slow_clients(dawdling: Dawdling) -> None:
    """They lose their connections, and nobody else notices. Last, as their time has been running since the first."""
    await dawdling.task
    assert not dawdling.kept, f"{len(dawdling.kept)} still have connections, as {dawdling.kept[0][:40]!r}"
    # Somebody else asked five times a second, all that time long: not only when some of them had gone.
    print(f"{len(dawdling.waits)} requests beside them, the longest took {max(dawdling.waits):.1f} s")
    assert len(dawdling.waits) > 20, dawdling.waits
