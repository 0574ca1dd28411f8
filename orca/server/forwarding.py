"""Handing requests on to another server: plain ones with their answers streamed back, upgrades spliced.

Who is called and as whom is the caller's business; hop-by-hop headers and our own credentials never leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import aiohttp
from aiohttp import web
from yarl import URL

from orca.api.errors import ApiError, bad_request
from orca.server.connection import connection_of
from orca.server.hosts import Destination
from orca.server.identity import WEBSOCKET_TOKEN
from orca.server.request import Request
from orca.server.tunnel import Endpoint, dial_failed, splice

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
        "impersonate-user",
        "impersonate-group",
        "impersonate-uid",
    }
)
# What only a server that vouches for somebody may say.
_NOT_FORWARDED_PREFIXES = ("x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-", "impersonate-extra-")
_NOT_RETURNED = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "upgrade"}
)

Header = tuple[str, str]
DialFailed = Callable[[Endpoint, BaseException], ApiError]


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
        if "upgrade" not in theirs.get("Connection", "").lower() or not theirs.get("Upgrade"):
            raise bad_request("Upgrade request required")
        kept = [*forwarded(request), *headers, ("Connection", "Upgrade"), ("Upgrade", theirs["Upgrade"])]
        if request.method == "POST":
            kept.append(("Content-Length", "0"))
        return await splice(connection_of(request.http), endpoint, request.method, path, kept)

    async def forward(
        self,
        request: Request,
        destination: Destination,
        path: str,
        headers: Iterable[Header] = (),
        *,
        failed: DialFailed = dial_failed,
    ) -> web.StreamResponse:
        """Pass a plain request on and stream the answer back. Raises what ``failed`` makes of a dead peer."""
        endpoint = destination.endpoint
        body = request.http.content if request.http.can_read_body else None
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
                headers=[*forwarded(request), *headers],
                data=body,
                ssl=endpoint.tls if endpoint.tls is not None else True,
                server_hostname=endpoint.server_name or None,
                allow_redirects=False,
                auto_decompress=False,
            ) as answer:
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for key, value in answer.headers.items():
                    if key.lower() not in _NOT_RETURNED or key.lower() == "content-encoding":
                        response.headers.add(key, value)
                if answer.content_length is not None and request.method != "HEAD":
                    response.content_length = answer.content_length
                await response.prepare(request.http)
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
                timeout=timeout, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            )
        return self._session


def forwarded(request: Request) -> list[Header]:
    """The headers of a request that are passed on."""
    found = []
    for key, value in request.http.headers.items():
        low = key.lower()
        if low in _NOT_FORWARDED or low.startswith(_NOT_FORWARDED_PREFIXES):
            continue
        if low == "sec-websocket-protocol":
            value = _without_token(value)
            if not value:
                continue
        found.append((key, value))
    return found


def _without_token(protocols: str) -> str:
    """Subprotocols of a WebSocket without the bearer token among them, which is for us alone."""
    return ", ".join(one.strip() for one in protocols.split(",") if not one.strip().startswith(WEBSOCKET_TOKEN))
