"""The Client over HTTPS: agents and tools.

One connection pool; watches are JSON lines on connections of their own and live until either end closes. There is no
timeout on a silent watch: TCP keep-alive finds a peer that is gone in about 25 s.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import structlog
from multidict import CIMultiDict

from orca.api import errors
from orca.api.errors import ApiError
from orca.api.objects import Obj, name, namespace
from orca.api.resources import Resource
from orca.client.base import Client, ObjectList, Patch, PatchKind, Propagation, WatchEvent, WatchStream
from orca.client.clock import Clock, SystemClock
from orca.client.incluster import InCluster
from orca.client.kubeconfig import Endpoint, Kubeconfig, KubeconfigError
from orca.client.reach import Unreachable
from orca.client.sockets import keep_alive, kept_alive

log = structlog.get_logger()

CONNECT_SECONDS = 10
ANSWER_SECONDS = 60
RELOAD_CHECK_SECONDS = 5
TRIES_WHEN_BUSY = 5
UNLIMITED = 1_000_000

_BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
"""What aiohttp raises when a server cannot be reached or its answer breaks off."""

_PATCH_TYPES: dict[PatchKind, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class HttpsClient(Client):
    """`agent` names the caller to the server (User-Agent, field manager of apply patches). At most `parallel` calls are
    under way at once, watches aside; others wait, and no connection is made for them."""

    def __init__(
        self,
        source: Endpoint | Kubeconfig | InCluster,
        *,
        agent: str = "orca",
        clock: Clock | None = None,
        parallel: int = UNLIMITED,
    ) -> None:
        self._source = source
        self._clock = clock or SystemClock()
        self._agent = agent
        self._endpoint = source if isinstance(source, Endpoint) else source.load()
        self._checked = self._clock.monotonic()
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(parallel)
        self._reading = asyncio.Lock()

    @classmethod
    def from_kubeconfig(
        cls,
        path: str | Path,
        *,
        agent: str = "orca",
        clock: Clock | None = None,
        parallel: int = UNLIMITED,
    ) -> HttpsClient:
        """Raises KubeconfigError when the file cannot be used."""
        return cls(Kubeconfig(path), agent=agent, clock=clock, parallel=parallel)

    def __repr__(self) -> str:
        return f"<HttpsClient {self._endpoint.server}>"

    @property
    def server(self) -> str:
        return self._endpoint.server

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        return await self._call("GET", _path(resource, namespace, name, subresource))

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 0
    ) -> ObjectList:
        path = _path(resource, namespace)
        query = _query(labelSelector=labels, fieldSelector=fields, limit=limit or "")
        items: list[Obj] = []
        page = await self._call("GET", path, query)
        while True:
            items += page.get("items") or []
            version = page["metadata"]["resourceVersion"]
            rest = page["metadata"].get("continue")
            if not rest:
                break
            try:
                page = await self._call("GET", path, {**query, "continue": rest})
            except ApiError as error:
                if not errors.is_expired(error):
                    raise
                # The snapshot was compacted while we read it: take everything in one answer.
                items = []
                query.pop("limit", None)
                page = await self._call("GET", path, query)
        for item in items:
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return ObjectList(items, version)

    async def pages(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 500
    ) -> AsyncIterator[ObjectList]:
        query, rest = _query(labelSelector=labels, fieldSelector=fields, limit=limit), ""
        while True:
            more = {"continue": rest} if rest else {}
            page = await self._call("GET", _path(resource, namespace), {**query, **more})
            yield ObjectList(page.get("items") or [], page["metadata"]["resourceVersion"])
            rest = page["metadata"].get("continue") or ""
            if not rest:
                return

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        since: str = "",
        bookmarks: bool = True,
    ) -> WatchStream:
        query = _query(
            watch="true",
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion=since,
            allowWatchBookmarks="true" if bookmarks else "",
        )
        return _HttpWatch(self, _path(resource, namespace), query)

    async def create(self, resource: Resource, obj: Obj, namespace: str = "") -> Obj:
        return await self._call("POST", _path(resource, namespace or _space(obj)), body=obj)

    async def update(self, resource: Resource, obj: Obj, *, subresource: str = "") -> Obj:
        return await self._call("PUT", _path(resource, _space(obj), _name(obj), subresource), body=obj)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Patch,
        namespace: str = "",
        *,
        kind: PatchKind = "merge",
        subresource: str = "",
    ) -> Obj:
        query = {"fieldManager": self._agent, "force": "true"} if kind == "apply" else None
        path = _path(resource, namespace, name, subresource)
        return await self._call("PATCH", path, query, body=patch, content_type=_PATCH_TYPES[kind])

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
        propagation: Propagation = "",
    ) -> Obj:
        options = _delete_options(grace_seconds, propagation)
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if uid or resource_version:
            options["preconditions"] = {field: value for field, value in preconditions.items() if value}
        return await self._call("DELETE", _path(resource, namespace, name), body=options)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        grace_seconds: int | None = None,
        propagation: Propagation = "",
    ) -> None:
        query = _query(labelSelector=labels, fieldSelector=fields)
        await self._call("DELETE", _path(resource, namespace), query, body=_delete_options(grace_seconds, propagation))

    async def create_sub(self, resource: Resource, name: str, namespace: str, subresource: str, body: Obj) -> Obj:
        return await self._call("POST", _path(resource, namespace, name, subresource), body=body)

    async def raw(self, path: str, query: dict[str, str] | None = None) -> bytes:
        """GET of any path: /version, /healthz, a pod's log."""
        response = await self.open("GET", path, query)
        async with response:
            try:
                return await response.read()
            except _BROKEN as error:
                raise self._unreachable(error) from error

    # --- transport ---------------------------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Obj:
        data = None if body is None else orjson.dumps(body)
        for attempt in range(TRIES_WHEN_BUSY):
            try:
                async with self._turns:
                    response = await self.open(method, path, query, data=data, content_type=content_type)
                    async with response:
                        answer: Obj = orjson.loads(await response.read())
                        return answer
            except ApiError as error:
                # Only "come back later" is repeated here; the server has done nothing then.
                if error.code != 429 or attempt == TRIES_WHEN_BUSY - 1:
                    raise
                await self._clock.sleep(error.retry_after or 1)
            except orjson.JSONDecodeError as error:
                raise errors.internal(f"{self.server} answered something that is not JSON: {error}") from error
            except _BROKEN as error:
                raise self._unreachable(error) from error
        raise AssertionError("unreachable")

    async def open(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        data: bytes | None = None,
        content_type: str = "application/json",
        stream: bool = False,
    ) -> aiohttp.ClientResponse:
        """An answer whose body has not been read. Raises ApiError for anything but success; the caller closes it.
        `stream` answers may stay silent for ever."""
        endpoint = await self._current()
        try:
            return await self._asked(endpoint, method, path, query, data, content_type, stream)
        except ApiError as error:
            if error.code != 401 or not self._runs_program:
                raise
        return await self._asked(await self._current(refused=endpoint), method, path, query, data, content_type, stream)

    async def _asked(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        query: dict[str, str] | None,
        data: bytes | None,
        content_type: str,
        stream: bool,
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, socket_factory=_socket, keepalive_timeout=90),
                auto_decompress=True,
            )
        headers = CIMultiDict(endpoint.headers)
        headers.update({"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": self._agent})
        if data is not None:
            headers["Content-Type"] = content_type
        if endpoint.token:
            headers["Authorization"] = f"Bearer {endpoint.token}"
        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=None if stream else ANSWER_SECONDS)
        try:
            response = await self._session.request(
                method,
                endpoint.server + path,
                params=query,
                data=data,
                headers=headers,
                timeout=limits,
                ssl=endpoint.ssl if endpoint.ssl is not None else True,
                server_hostname=endpoint.server_name or None,
            )
            self.reach.heard()
            if response.status < 400:
                return response
            async with response:
                raise _refusal(response.status, await response.read(), response.headers.get("Retry-After", ""))
        except _BROKEN as error:
            raise self._unreachable(error) from error

    async def _current(self, refused: Endpoint | None = None) -> Endpoint:
        """The endpoint, read anew when its files have changed, its program's answer is over, or it is the one that a
        server has `refused`. Who comes while that happens waits for it."""
        source = self._source
        if isinstance(source, Endpoint):
            return source
        async with self._reading:
            elapsed = self._clock.monotonic()
            if refused is not None and refused is self._endpoint and isinstance(source, Kubeconfig):
                await asyncio.to_thread(source.refused)  # another client may just wait for the program
            elif elapsed - self._checked < RELOAD_CHECK_SECONDS:
                return self._endpoint
            self._checked = elapsed
            if source.changed():
                try:
                    if self._runs_program:
                        self._endpoint = await asyncio.to_thread(source.load)
                    else:
                        self._endpoint = source.load()
                    log.info("credentials read anew", path=str(source.path))
                except KubeconfigError as error:
                    # Half written, most likely: go on with what works.
                    log.warning("credentials not usable, keeping the old ones", error=str(error))
            return self._endpoint

    @property
    def _runs_program(self) -> bool:
        """Whether a server that took none of our credentials may take what the user's program says next."""
        return isinstance(self._source, Kubeconfig) and self._source.runs_program

    def _unreachable(self, error: BaseException) -> ApiError:
        return Unreachable(f"{self.server} cannot be reached: {_reason(error) or type(error).__name__}")


def _reason(error: BaseException) -> str:
    """Without the host, which is told already, and the TLS context's address in memory, which tells nobody anything."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        found = error.os_error
        if isinstance(found, ConnectionError) and found.errno is not None:
            return os.strerror(found.errno)
        return found.strerror or str(found)
    return str(error)


class _HttpWatch(WatchStream):
    def __init__(self, client: HttpsClient, path: str, query: dict[str, str]) -> None:
        self._client = client
        self._path = path
        self._query = query
        self._response: aiohttp.ClientResponse | None = None
        self._events: deque[WatchEvent] = deque()
        self._rest = b""

    async def __anext__(self) -> WatchEvent:
        while not self._events:
            if self._response is None:
                self._response = await self._client.open("GET", self._path, self._query, stream=True)
            try:
                chunk = await self._response.content.readany()
            except _BROKEN as error:
                raise self._client._unreachable(error) from error
            except RuntimeError as error:
                # aiohttp's answer to a reader whose connection this client has closed meanwhile, as when it shuts down.
                if _is_open(self._response):
                    raise
                raise self._client._unreachable(error) from error
            if not chunk:
                raise StopAsyncIteration
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._events.extend(_event(line) for line in lines if line)
        event = self._events.popleft()
        if event.type == "ERROR":
            raise ApiError.from_status(event.obj)
        return event

    async def aclose(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def _is_open(response: aiohttp.ClientResponse) -> bool:
    """Whether more of an answer can come."""
    return response.connection is not None and not response.connection.closed


def _event(line: bytes) -> WatchEvent:
    parsed = orjson.loads(line)
    return WatchEvent(parsed["type"], parsed["object"])


def _refusal(code: int, body: bytes, retry_after: str) -> ApiError:
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = {"message": body[:300].decode(errors="replace")}
    if not isinstance(status, dict):
        status = {"message": str(status)}
    error = ApiError.from_status(status, code)
    error.code = error.code if status.get("kind") == "Status" else code
    if retry_after.isdigit() and error.retry_after is None:
        error.details = {**(error.details or {}), "retryAfterSeconds": int(retry_after)}
    return error


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A connection that notices within about 25 s that its peer is gone, even when nothing is sent."""
    made = kept_alive(address)
    keep_alive(made, idle=10, between=5, probes=3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25000)
    return made


def _path(resource: Resource, namespace: str, name: str = "", subresource: str = "") -> str:
    parts = ["/api" if not resource.group else "/apis", resource.api_version]
    if namespace and resource.namespaced:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    parts += [quote(part, safe=":") for part in (name, subresource) if part]
    return "/".join(parts)


def _query(**fields: str | int) -> dict[str, str]:
    return {field: str(value) for field, value in fields.items() if value != ""}


def _delete_options(grace_seconds: int | None, propagation: Propagation) -> Obj:
    options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    if propagation:
        options["propagationPolicy"] = propagation
    return options


_name = name
_space = namespace
