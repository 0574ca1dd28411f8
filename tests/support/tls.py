"""A certificate authority of the test's own, and servers that speak with its certificates."""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from orca.auth.pki import Pair, _ensure_ca, issue


class Authority:
    """Issues certificates below ``directory``."""

    def __init__(self, directory: Path, name: str = "test-ca") -> None:
        self._directory = directory
        self.pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
        _ensure_ca(self.pair, name, datetime.now(UTC))

    @property
    def bundle(self) -> str:
        """As a ``caBundle``."""
        return b64encode(self.pair.cert.read_bytes()).decode()

    def files(self, common_name: str, *hosts: str, organization: str = "", client: bool = False) -> Pair:
        """A certificate and its key, in files."""
        certificate, key = issue(
            self.pair, common_name, organization, hosts=hosts, client=client, now=datetime.now(UTC)
        )
        stem = common_name.replace("/", "_").replace(":", "_")
        pair = Pair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        pair.cert.write_bytes(certificate)
        pair.key.write_bytes(key)
        return pair

    def server_context(self, *hosts: str, trust: Path | None = None) -> ssl.SSLContext:
        """For a server with these names; ``trust`` asks clients for certificates of that authority."""
        pair = self.files(hosts[0], *hosts)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        if trust is not None:
            context.load_verify_locations(trust)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


@asynccontextmanager
async def serving(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], tls: ssl.SSLContext, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """An HTTPS server for as long as the block runs; gives its port."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=tls)
    await site.start()
    try:
        assert site._server is not None
        yield site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


def own_address() -> str:
    """An address of this machine that is not loopback, which endpoints may not have; nothing leaves the machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses a route
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])
