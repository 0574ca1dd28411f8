"""Reaching the server behind an APIService: a ready endpoint, its TLS, and who we say is asking."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp

from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj
from orca.auth import UserInfo
from orca.auth.identity import MASTERS
from orca.auth.pki import Pair
from orca.client.hooks import client_tls, reason_of
from orca.client.services import Reader, ServiceResolver, server_name
from orca.server.forwarding import Forwarder, Header
from orca.server.hosts import Destination
from orca.server.tunnel import Endpoint

AGGREGATOR = UserInfo("system:kube-aggregator", groups=(MASTERS,))
READ_LIMIT = 64 << 20
_HTTPS_PORT = 443
# What stands for itself in a header's name (RFC 9110 token), without the escape character.
_TOKEN = "!#$&'*+-.^_`|~"


class Unreachable(Exception):
    """The server did not answer as it should; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes
    content_type: str = ""


def identity_headers(user: UserInfo) -> Iterator[Header]:
    """Who asks, in the headers that a server believes our client certificate. Raises ApiError 400."""
    yield "X-Remote-User", _line(user.name)
    if user.uid:
        yield "X-Remote-Uid", _line(user.uid)
    for group in user.groups:
        yield "X-Remote-Group", _line(group)
    for key, values in user.extra.items():
        for value in values:
            yield f"X-Remote-Extra-{quote(key.lower(), safe=_TOKEN)}", _line(value)


def _line(value: str) -> str:
    """A value that cannot begin another header."""
    if any(one in value for one in "\r\n\0"):
        raise bad_request("the user's name, groups or extra fields have characters that no header can carry")
    return value


class Backends:
    """One per server. ``client`` is the front proxy's client certificate."""

    def __init__(self, reader: Reader, client: Pair, forwarder: Forwarder) -> None:
        self._client = client
        self._forwarder = forwarder
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self.resolver = ServiceResolver(reader)

    def destination(self, service: Obj) -> Destination:
        """A ready endpoint. Raises ApiError 404 or 503, ValueError for a caBundle that cannot be read."""
        spec = service["spec"]
        where = spec["service"]
        space, name = where.get("namespace") or "", where.get("name") or ""
        address = self.resolver.resolve(space, name, where.get("port") or _HTTPS_PORT)
        tls = self._tls(spec.get("caBundle") or "", bool(spec.get("insecureSkipTLSVerify")))
        return Destination(Endpoint(address.host, address.port, tls, server_name(space, name)), "https")

    async def get(self, service: Obj, path: str, seconds: float, *, accept: str = "application/json") -> Reply:
        """A document, asked for as the aggregator itself. Raises Unreachable."""
        return await self.ask("GET", service, path, seconds, accept=accept)

    async def ask(
        self, method: str, service: Obj, path: str, seconds: float, *, accept: str = "application/json"
    ) -> Reply:
        """A request without a body, made as the aggregator itself. Raises Unreachable."""
        try:
            destination = self.destination(service)
        except (ApiError, ValueError) as error:
            raise Unreachable(f"{error}") from error
        endpoint = destination.endpoint
        url = f"https://{endpoint.authority}{path}"
        try:
            async with self._forwarder.session().request(
                method,
                url,
                headers=[("Accept", accept), *identity_headers(AGGREGATOR)],
                ssl=endpoint.tls if endpoint.tls is not None else True,
                server_hostname=endpoint.server_name,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as answer:
                body = await answer.content.read(READ_LIMIT)
                while not answer.content.at_eof() and len(body) < READ_LIMIT:
                    body += await answer.content.read(READ_LIMIT - len(body))
                return Reply(answer.status, body, answer.headers.get("Content-Type", ""))
        except TimeoutError as error:
            raise Unreachable(f'{url}: {method.title()} "{url}": context deadline exceeded') from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f'{url}: {method.title()} "{url}": {reason_of(error)}') from error

    def _tls(self, bundle: str, insecure: bool) -> ssl.SSLContext:
        found = self._contexts.get((bundle, insecure))
        if found is None:
            if len(self._contexts) >= 256:
                self._contexts.clear()
            found = client_tls(bundle)
            if insecure:
                found.check_hostname = False
                found.verify_mode = ssl.CERT_NONE
            found.load_cert_chain(self._client.cert, self._client.key)
            self._contexts[bundle, insecure] = found
        return found
