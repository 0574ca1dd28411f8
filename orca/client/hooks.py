"""HTTPS calls to hooks: programs that answer for the API server (admission, conversion of custom resources).

Where a hook is, a ``clientConfig`` tells: a ``url``, or a ``service`` of the cluster, whose ready endpoints are called
directly. Texts of errors are those Go's HTTP client and client-go give, because people search for them.
Reference: k8s.io/apiserver ``pkg/util/webhook/client.go``.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import ssl
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote as quote_path
from urllib.parse import urlsplit

import aiohttp
import orjson

from orca.api.errors import ApiError, quote
from orca.api.objects import Obj
from orca.client.services import Address, Reader, ServiceResolver, server_name

MAX_RESPONSE_BYTES = 16 << 20
IDLE_SECONDS = 90.0
_HTTPS_PORT = 443
_PATH_SAFE = "/:@!$&'()*+,;=~-._"
_HTTP_TEXTS = {
    401: "the server has asked for the client to provide credentials",
    403: "the server does not allow access to the requested resource",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    406: "the server was unable to respond with a content type that the client supports",
    413: "the request is too large for the server to accept",
    415: "the body of the request was in an unknown format",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


class HookError(Exception):
    """A hook could not be called, or did not answer with success.

    ``code`` is the HTTP status of its answer, 0 when there was none; ``timed_out`` when it took too long.
    """

    def __init__(self, message: str, *, code: int = 0, timed_out: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class _Target:
    """One ``clientConfig`` understood: the URL as errors show it, and the Service to look up (port, None for a URL)."""

    url: str
    host: str
    port: int
    path: str
    service: tuple[str, str] | None


class HookCaller:
    """One per server: keeps connections and TLS contexts. ``aclose`` ends them."""

    def __init__(self, reader: Reader, *, agent: str = "kube-apiserver-admission") -> None:
        self._resolver = ServiceResolver(reader)
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[bytes, ssl.SSLContext] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, client_config: Obj, body: Any, timeout_seconds: float) -> Any:
        """POST ``body`` (a JSON value, or bytes of one) and give the decoded JSON answer.

        Raises HookError when the hook cannot be reached, takes longer than ``timeout_seconds``, answers with another
        status than success, with too much, or with something that is not JSON.
        """
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        answer = await self.post(client_config, raw, timeout_seconds)
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise HookError(f"couldn't get version/kind; json parse error: {error}") from error

    async def post(self, client_config: Obj, body: bytes, timeout_seconds: float) -> bytes:
        """:meth:`call` for bytes."""
        target = _target_of(client_config)
        # Hooks learn how long we wait, in whole seconds rounded up as upstream does.
        shown = f"{target.url}?timeout={math.ceil(timeout_seconds)}s"
        try:
            context = self._context(client_config.get("caBundle") or "")
            try:
                async with asyncio.timeout(timeout_seconds):
                    try:
                        return await self._exchange(target, context, body, timeout_seconds)
                    except (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError):
                        # A kept connection may be closed by the hook in the moment we write to it. Hooks have to be
                        # idempotent, so it is asked again on another connection.
                        return await self._exchange(target, context, body, timeout_seconds)
            except TimeoutError as error:
                raise HookError(f"Post {quote(shown)}: context deadline exceeded", timed_out=True) from error
        except ApiError as error:
            raise HookError(f"Post {quote(shown)}: {error.message}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HookError(f"Post {quote(shown)}: {reason_of(error)}") from error

    async def _exchange(self, target: _Target, context: ssl.SSLContext, body: bytes, seconds: float) -> bytes:
        if target.service is not None:
            address = self._resolver.resolve(*target.service, target.port)
            name = server_name(*target.service)
        else:
            address, name = Address(target.host, target.port), target.host
        if self._session is None:
            # No proxy of the environment: a hook is where its configuration says.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(),
                trust_env=False,
                auto_decompress=True,
            )
        shown = f"[{name}]" if ":" in name else name
        host = shown if target.port == _HTTPS_PORT else f"{shown}:{target.port}"
        async with self._session.post(
            f"https://{address.authority}{target.path}?timeout={math.ceil(seconds)}s",
            data=body,
            headers={
                "Host": host,
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": self._agent,
            },
            ssl=context,
            server_hostname=name,
            allow_redirects=False,
        ) as response:
            answer = await _read(response)
            if not 200 <= response.status <= 206:
                raise HookError(refusal_text(response.status, answer), code=response.status)
            return answer

    def _context(self, bundle: str) -> ssl.SSLContext:
        """The trust of a ``caBundle``; the system's for "". Raises ValueError for one that cannot be read."""
        key = hashlib.sha256(bundle.encode()).digest() if bundle else b""
        found = self._contexts.get(key)
        if found is None:
            if len(self._contexts) >= 1024:
                self._contexts.clear()
            found = self._contexts[key] = client_tls(bundle)
        return found


def client_tls(bundle: str = "") -> ssl.SSLContext:
    """TLS as Go would verify it: names from subjectAltName only, any certificate of the bundle is trusted.

    ``bundle`` is base64 of PEM, "" for the system's roots. Raises ValueError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not bundle:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cadata=b64decode(bundle).decode("ascii"))
    except (Base64Error, UnicodeDecodeError, ssl.SSLError) as error:
        raise ValueError("unable to load root certificates: unable to parse bytes as PEM block") from error
    return context


def _target_of(config: Obj) -> _Target:
    service = config.get("service")
    if service is not None:
        port = service.get("port") or _HTTPS_PORT
        path = service.get("path") or "/"
        where = (service.get("namespace") or "", service.get("name") or "")
        name = server_name(*where)
        return _Target(f"https://{name}:{port}{path}", name, port, quote_path(path, safe=_PATH_SAFE + "%"), where)
    url = str(config.get("url") or "")
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise HookError("webhook configuration must have either service or URL")
    path = parts.path or "/"
    shown = f"https://{parts.netloc}{path}"
    return _Target(shown, parts.hostname, parts.port or _HTTPS_PORT, quote_path(path, safe=_PATH_SAFE + "%"), None)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES:
            response.close()
            raise HookError(f"the response is larger than {MAX_RESPONSE_BYTES} bytes", code=response.status)
        parts.append(chunk)
    return b"".join(parts)


def refusal_text(status: int, body: bytes) -> str:
    """What client-go says about an answer that is no success: its Status' message, or a text by status code."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    if isinstance(told, dict) and told.get("kind") == "Status" and told.get("message"):
        return str(told["message"])
    if status >= 500 and status not in _HTTP_TEXTS:
        text = body[:2048].decode(errors="replace").strip() or "unknown"
        return f"an error on the server ({quote(text)}) has prevented the request from succeeding"
    if status == 400:
        return "the server rejected our request for an unknown reason"
    return _HTTP_TEXTS.get(
        status, f"the server responded with the status code {status} but did not return more information"
    )


def reason_of(error: BaseException) -> str:
    """A failed connection in Go's words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate_text(error.certificate_error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_text(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"tls: {error.os_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        where = f"[{error.host}]:{error.port}" if ":" in error.host else f"{error.host}:{error.port}"
        inner = error.os_error
        if isinstance(inner, ConnectionRefusedError):
            return f"dial tcp {where}: connect: connection refused"
        return f"dial tcp {where}: connect: {(inner.strerror or str(inner)).lower()}"
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError)):
        return "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"net/http: HTTP/1.x transport connection broken: malformed HTTP response ({error.message})"
    return str(error) or type(error).__name__


def _certificate_text(error: BaseException) -> str:
    code = getattr(error, "verify_code", 0)
    stem = "tls: failed to verify certificate: x509: "
    if code in (2, 18, 19, 20, 21, 27):
        return stem + "certificate signed by unknown authority"
    if code in (9, 10):
        return stem + "certificate has expired or is not yet valid"
    return stem + str(getattr(error, "verify_message", "") or error).rstrip(".")
