"""One try of a handler: exec, httpGet, tcpSocket or grpc. Used by probes and by lifecycle hooks."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp
from multidict import CIMultiDict

from agents.probes import grpc
from agents.probes.outcome import Outcome
from agents.runtime.errors import RuntimeFailure
from agents.runtime.model import ExecResult
from orca.api.objects import Obj

USER_AGENT = "kube-probe/1.36"
HOOK_USER_AGENT = "kube-lifecycle/1.36"
BODY_LIMIT = 10 * 1024
MAXIMUM_REDIRECTS = 10


@dataclass(frozen=True, slots=True)
class Target:
    """A container to be asked. ``container`` is its spec: named ports are looked up there."""

    container_id: str
    container: Obj
    address: str


class NoSuchPort(Exception):
    """A port by a name that the container does not have: nothing can be asked. The text is upstream's."""


class Executor(Protocol):
    """The part of the runtime that handlers need."""

    async def exec(self, container_id: str, argv: Sequence[str], *, seconds: float) -> ExecResult: ...


class Handlers:
    """Runs handlers from the host's network into pods. One per agent; sockets are never reused between tries."""

    def __init__(self, runtime: Executor) -> None:
        self._runtime = runtime
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def run(self, handler: Obj, target: Target, seconds: float) -> Outcome:
        """Try once, for at most ``seconds``; never raises for what the container does."""
        if "exec" in handler:
            return await self._exec(handler["exec"], target, seconds)
        if "grpc" in handler:
            return await grpc.check(target.address, handler["grpc"], seconds)
        try:
            async with asyncio.timeout(seconds):
                if "httpGet" in handler:
                    return await self._http(handler["httpGet"], target)
                if "tcpSocket" in handler:
                    return await self._tcp(handler["tcpSocket"], target)
        except TimeoutError:
            return Outcome(False, self._timeout_text(handler, target))
        except NoSuchPort as error:
            return Outcome(False, str(error), unknown=True)
        return Outcome(False, f"missing probe handler: {', '.join(sorted(handler))}")

    async def run_hook(self, hook: Obj, target: Target, seconds: float) -> Outcome:
        """Run a lifecycle hook once; as for a probe, but whatever an HTTP server answers is success."""
        if "exec" in hook:
            return await self._exec(hook["exec"], target, seconds)
        if "httpGet" in hook:
            try:
                async with asyncio.timeout(seconds):
                    return await self._http_hook(hook["httpGet"], target)
            except TimeoutError:
                return Outcome(False, self._timeout_text(hook, target))
            except NoSuchPort as error:
                return Outcome(False, str(error))
        # tcpSocket is in the API for compatibility alone.
        return Outcome(False, f"invalid handler: {', '.join(sorted(hook))}")

    async def _http_hook(self, action: Obj, target: Target) -> Outcome:
        url = _url(action, target)
        try:
            async with self._open().get(url, headers=_headers(action, HOOK_USER_AGENT)):
                return Outcome(True)
        except aiohttp.ClientConnectorSSLError:
            # Meant for TLS, but the server speaks none: upstream then asks without.
            plain = {
                name: value for name, value in _headers(action, HOOK_USER_AGENT).items() if name != "Authorization"
            }
            url = "http" + url.removeprefix("https")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(False, f'Get "{url}": {dial_error(error, url)}')
        try:
            async with self._open().get(url, headers=plain):
                return Outcome(True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(False, f'Get "{url}": {dial_error(error, url)}')

    async def _exec(self, action: Obj, target: Target, seconds: float) -> Outcome:
        command = action.get("command") or []
        try:
            result = await self._runtime.exec(target.container_id, command, seconds=seconds)
        except TimeoutError:
            return Outcome(False, f'command timed out: "{" ".join(command)}" timed out after {_go_seconds(seconds)}')
        except RuntimeFailure as error:
            return Outcome(False, str(error), unknown=True)
        text = result.output.decode(errors="replace")
        if result.code in (126, 127) and "OCI runtime exec failed" in text:
            return Outcome(False, text.strip(), unknown=True)
        return Outcome(result.code == 0, text)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Certificates are not looked at: a context of ours would hold a copy of the host's CAs for nothing.
                connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=False),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _http(self, action: Obj, target: Target) -> Outcome:
        url = _url(action, target)
        headers = _headers(action, USER_AGENT)
        host = urlsplit(url).hostname
        for _ in range(MAXIMUM_REDIRECTS):
            try:
                async with self._open().get(url, headers=headers, allow_redirects=False) as response:
                    body = await response.content.read(BODY_LIMIT)
                    status, location = response.status, response.headers.get("Location")
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return Outcome(False, f'Get "{url}": {dial_error(error, url)}')
            if status in (301, 302, 303, 307, 308) and location:
                following = urljoin(url, location)
                if urlsplit(following).hostname != host:
                    text = "Probe terminated redirects, Response body: " + body.decode(errors="replace")
                    return Outcome(True, text, warning=True)
                url = following
                continue
            if 200 <= status < 400:
                return Outcome(True, body.decode(errors="replace"))
            return Outcome(False, f"HTTP probe failed with statuscode: {status}")
        return Outcome(False, f'Get "{url}": stopped after {MAXIMUM_REDIRECTS} redirects')

    async def _tcp(self, action: Obj, target: Target) -> Outcome:
        host = action.get("host") or target.address
        port = port_number(action["port"], target.container)
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            return Outcome(False, f"dial tcp {_join(host, port)}: {_reason(error)}")
        writer.close()
        return Outcome(True)

    def _timeout_text(self, handler: Obj, target: Target) -> str:
        if "httpGet" in handler:
            return (
                f'Get "{_url(handler["httpGet"], target)}": context deadline exceeded '
                "(Client.Timeout exceeded while awaiting headers)"
            )
        action = handler["tcpSocket"]
        host = action.get("host") or target.address
        return f"dial tcp {_join(host, port_number(action['port'], target.container))}: i/o timeout"


def _headers(action: Obj, user_agent: str) -> CIMultiDict[str]:
    """Those of the handler over ours; one that is empty takes ours away. A name may come more than once."""
    headers: CIMultiDict[str] = CIMultiDict()
    for header in action.get("httpHeaders") or ():
        headers.add(header["name"], header.get("value") or "")
    for name, default in (("User-Agent", user_agent), ("Accept", "*/*")):
        if name not in headers:
            headers[name] = default
    return headers


def port_number(port: Any, container: Obj) -> int:
    """A number, or the ``containerPort`` of that name. Raises NoSuchPort."""
    if isinstance(port, int):
        return port
    for item in container.get("ports") or ():
        if item.get("name") == port:
            return int(item["containerPort"])
    if not str(port).isdigit():
        raise NoSuchPort(f'strconv.Atoi: parsing "{port}": invalid syntax')
    return int(port)


def _url(action: Obj, target: Target) -> str:
    scheme = (action.get("scheme") or "HTTP").lower()
    path = action.get("path") or "/"
    if not path.startswith("/"):
        path = "/" + path
    return (
        f"{scheme}://{_join(action.get('host') or target.address, port_number(action['port'], target.container))}{path}"
    )


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def dial_error(error: Exception, url: str) -> str:
    """As Go's net package would say it."""
    parts = urlsplit(url)
    cause = getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLError):
        if cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return "http: server gave HTTP response to HTTPS client"
        return f"tls: {(cause.reason or str(cause)).replace('_', ' ').lower()}"
    if isinstance(cause, OSError) and cause.errno:
        if not isinstance(error, aiohttp.ClientConnectorError):
            return f"read tcp {parts.netloc}: read: {os.strerror(cause.errno).lower()}"
        return f"dial tcp {parts.netloc}: {_reason(cause)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    return str(error)


def _reason(error: OSError) -> str:
    if not error.errno:
        return str(error)
    text = os.strerror(error.errno).lower()
    return f"connect: {text}"


def _go_seconds(seconds: float) -> str:
    return f"{seconds:g}s"
