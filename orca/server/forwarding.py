"""Handing requests on to another server: plain ones with their answers streamed back, upgrades spliced.

Who is called and as whom is the caller's business; hop-by-hop headers and our own credentials never leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial

import aiohttp
from aiohttp import web
from yarl import URL

from orca.api.errors import ApiError, bad_request
from orca.client.sockets import kept_alive
from orca.server.bodies import go_on
from orca.server.connection import connection_of
from orca.server.hosts import Destination
from orca.server.identity import WEBSOCKET_TOKEN
from orca.server.links import PAGE_LIMIT, Links, rewritten
from orca.server.request import Request
from orca.server.responses import ANSWERING
from orca.server.tunnel import Endpoint, dial_failed, splice
from orca.server.websockets import serve_bytes

CONNECT_SECONDS = 10.0
_NOT_FORWARDED = frozenset(
    {
        "host",
        "authorization",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
        "impersonate-user",
        "impersonate-group",
        "impersonate-uid",
    }
)
# What only a server that vouches for somebody may say.
_NOT_FORWARDED_PREFIXES = ("x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-", "impersonate-extra-")
_NOT_RETURNED = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"})
# A page behind a proxy may not say who else may read what the API server answers.
_NOT_RETURNED_OF_PAGES = _NOT_RETURNED | {
    f"access-control-allow-{it}" for it in ("credentials", "headers", "methods", "origin")
}
# What the library would say where the client says nothing: who asked for no encoding could not read one.
_SAID_BY_NOBODY = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_AT_ONCE = 64 << 10
"""Bytes of a page that are looked through without a thread."""

Header = tuple[str, str]
DialFailed = Callable[[Endpoint, BaseException], ApiError]


def upgrades(headers: Mapping[str, str]) -> bool:
    """Whether a request asks for another protocol."""
    return "upgrade" in headers.get("Connection", "").lower()


class Forwarder:
    """Keeps connections; ``close`` ends them."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connection pool."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def upgrade(
        self, request: Request, endpoint: Endpoint, path: str, headers: Iterable[Header] = ()
    ) -> web.StreamResponse:
        """Pass an Upgrade on and splice. Raises ApiError 400 for a request that is none, 500 when nobody answers."""
        theirs = request.http.headers
        if not upgrades(theirs) or not theirs.get("Upgrade"):
            raise bad_request("Upgrade request required")
        kept = [*_with(forwarded(request), headers), ("Connection", "Upgrade"), ("Upgrade", theirs["Upgrade"])]
        if request.method == "POST":
            kept.append(("Content-Length", "0"))
        begun = partial(request.answering, 101)
        return await splice(connection_of(request.http), endpoint, request.method, path, kept, begun)

    async def forward(
        self,
        request: Request,
        destination: Destination,
        path: str,
        headers: Iterable[Header] = (),
        *,
        failed: DialFailed = dial_failed,
        links: Links | None = None,
        framed: bool = False,
    ) -> web.StreamResponse:
        """Pass a plain request on and stream the answer back; a page has its links changed by ``links`` on the way, and
        ``framed`` has what succeeds sent through the WebSocket that the request asks for. Raises what ``failed`` makes
        of a dead peer."""
        endpoint = destination.endpoint
        passed = _with(forwarded(request), headers)
        body = None
        if request.http.can_read_body:
            body = _body(request.http)
            if (size := request.http.content_length) is not None:
                # Not everybody reads a body in chunks.
                passed.append(("Content-Length", str(size)))
        connection = connection_of(request.http)
        task = asyncio.current_task()
        assert task is not None
        connection.watch_loss(task, task.cancel)
        response: web.StreamResponse | None = None
        try:
            async with self.session().request(
                request.method,
                # As it came: %2F and / are not the same to everybody.
                URL(f"{destination.scheme}://{endpoint.authority}{path}", encoded=True),
                headers=passed,
                skip_auto_headers=_SAID_BY_NOBODY,
                data=body,
                ssl=endpoint.tls if endpoint.tls is not None else True,
                server_hostname=endpoint.server_name or None,
                allow_redirects=False,
                auto_decompress=False,
            ) as answer:
                if framed and answer.status == 200:
                    connection.forget_loss(task)
                    return await serve_bytes(request, answer.content.iter_any())
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                unwanted = (_NOT_RETURNED_OF_PAGES if links else _NOT_RETURNED) | _named(answer.headers)
                for key, value in answer.headers.items():
                    if key.lower() not in unwanted:
                        response.headers.add(key, value)
                if links and (where := answer.headers.get("Location")):
                    response.headers["Location"] = links.url(where)
                head, length = b"", answer.content_length
                if links and request.method != "HEAD" and not where and answer.content_type == "text/html":
                    head, whole = await _beginning(answer.content)
                    if whole:
                        head = await _page(links, head, answer.headers.get("Content-Encoding", ""))
                        length = len(head)
                if length is not None and request.method != "HEAD":
                    response.content_length = length
                request.http[ANSWERING] = True
                await response.prepare(request.http)
                request.answering(answer.status)
                if head:
                    await response.write(head)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if response is not None and response.prepared:
                connection.force_close()  # the answer is cut; the client must notice
                return response
            raise failed(endpoint, error) from error
        except asyncio.CancelledError:
            if response is not None and (connection.transport is None or connection.transport.is_closing()):
                return response
            raise
        finally:
            connection.forget_loss(task)

    def session(self) -> aiohttp.ClientSession:
        """The pool, made when it is first needed."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(
                timeout=timeout,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=kept_alive),
                cookie_jar=aiohttp.DummyCookieJar(),  # what one user was given is nobody else's
            )
        return self._session


async def _body(http: web.BaseRequest) -> AsyncIterator[bytes]:
    """What the client sends, asked for if it waits for that."""
    go_on(http)
    async for chunk in http.content.iter_any():
        yield chunk


def _named(headers: Mapping[str, str]) -> set[str]:
    """Headers that concern this connection alone, as its ends say."""
    said = headers.get("Connection")
    return {one.strip().lower() for one in said.split(",")} if said else set()


async def _beginning(content: aiohttp.StreamReader) -> tuple[bytes, bool]:
    """As much of a page as may have its links changed, and whether that is all of it."""
    read = bytearray()
    async for chunk in content.iter_any():
        read += chunk
        if len(read) > PAGE_LIMIT:
            return bytes(read), False
    return bytes(read), True


async def _page(links: Links, body: bytes, encoding: str) -> bytes:
    """The page with its links changed, or as it is where that cannot be."""
    if encoding or len(body) > _AT_ONCE:
        return await asyncio.to_thread(rewritten, links, body, encoding) or body
    return rewritten(links, body, encoding) or body


def forwarded(request: Request) -> list[Header]:
    """The headers of a request that are passed on."""
    found = []
    ours = _named(request.http.headers)
    for key, value in request.http.headers.items():
        low = key.lower()
        if low in _NOT_FORWARDED or low in ours or low.startswith(_NOT_FORWARDED_PREFIXES):
            continue
        if low == "sec-websocket-protocol":
            value = _without_token(value)
            if not value:
                continue
        found.append((key, value))
    return found


def _with(theirs: list[Header], ours: Iterable[Header]) -> list[Header]:
    """What we say instead of what the client says of the same."""
    ours = list(ours)
    said = {key.lower() for key, _ in ours}
    return [*((key, value) for key, value in theirs if key.lower() not in said), *ours]


def _without_token(protocols: str) -> str:
    """Subprotocols of a WebSocket without the bearer token among them, which is for us alone."""
    return ", ".join(one.strip() for one in protocols.split(",") if not one.strip().startswith(WEBSOCKET_TOKEN))
