"""Documents of issuers, over HTTPS. Texts of errors are Go's, because people search for them."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from orca.api.errors import quote
from orca.client.hooks import client_tls, reason_of

TIMEOUT_SECONDS = 30.0
MOST_BYTES = 4 << 20


class FetchFailed(Exception):
    """There was no answer; the message says of what, and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` have names in lower case; ``status`` may be any."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class Fetcher:
    """One for all issuers: keeps connections. ``aclose`` ends them."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, url: str, trust: ssl.SSLContext, *, bearer: str = "") -> Answer:
        """Redirects are followed. Raises FetchFailed."""
        shown = f"Get {quote(url)}"
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(keepalive_timeout=90.0), timeout=aiohttp.ClientTimeout()
            )
        headers = {"User-Agent": "kube-apiserver", "Accept": "*/*"}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._session.get(url, headers=headers, ssl=trust, proxy=_proxy(url), max_redirects=10) as response,
            ):
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        response.close()
                        raise FetchFailed(f"{shown}: the answer is larger than {MOST_BYTES} bytes")
                told = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, response.reason or "", told, body)
        except TimeoutError as error:
            raise FetchFailed(f"{shown}: context deadline exceeded") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"{shown}: {reason_of(error)}") from error


def trust_of(certificate_authority: str) -> ssl.SSLContext:
    """TLS that trusts these PEM certificates, the system's for "". Raises ValueError."""
    return client_tls(b64encode(certificate_authority.encode()).decode() if certificate_authority else "")


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL, as Go reads it: never one for this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if local or proxy_bypass(host):
        return None
    return getproxies().get("https")
