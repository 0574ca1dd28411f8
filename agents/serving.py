"""The agent's servers, put together from the configuration: HTTPS with its certificate, health, the read-only port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import structlog
from aiohttp import web

from agents.config import Configuration
from agents.node.keyring import CLIENT, SERVING, Keyring
from agents.node.signing import Rotation
from agents.running import RunningPods
from agents.runtime import Runtime
from agents.server.app import AgentServer
from agents.server.auth import Guard, TlsSettings
from agents.server.pages import NodePages
from agents.stats.claims import ClaimUse
from orca.client.base import Client
from orca.client.clock import Clock

RETRY_SECONDS = 5.0

log = structlog.get_logger()

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Serving:
    """`parts` are what a supervisor is to run."""

    def __init__(
        self,
        client: Client,
        configuration: Configuration,
        node_name: str,
        pods: RunningPods,
        runtime: Runtime,
        keyring: Keyring,
        *,
        clock: Clock,
        version: str,
        names: tuple[str, ...],
        pages: Mapping[str, Page],
        shutdown: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
        evictions: Callable[[], Mapping[str, int]] = dict,
        claims: Callable[[], Awaitable[Sequence[ClaimUse]]] | None = None,
        debugging: Iterable[web.RouteDef] = (),
    ) -> None:
        """``names``: what the serving certificate is to be good for. ``pages``: more GETs by path. ``debugging``: more
        of what ``enableDebuggingHandlers: false`` takes away."""
        self._configuration = configuration
        self._keyring = keyring
        self._clock = clock
        node = NodePages(
            configuration,
            node_name,
            pods,
            runtime,
            version=version,
            shutdown=shutdown,
            certificates=self._lifetimes,
            evictions=evictions,
            claims=claims,
        )
        guard = Guard(
            client,
            node_name,
            clock=clock,
            authentication=configuration.authentication,
            authorization=configuration.authorization,
        )
        self._server = AgentServer(
            pods,
            runtime.engine,
            clock=clock,
            address=configuration.address if configuration.address != "0.0.0.0" else None,
            port=configuration.port,
            pages={**node.routes(), **pages},
            guard=guard,
            debugging=[*node.debugging_routes(), *debugging],
            enable_debugging=configuration.enable_debugging_handlers,
            count=node.count,
            tls=TlsSettings(configuration.tls_min_version, configuration.tls_cipher_suites),
        )
        self._rotation = Rotation(
            client,
            keyring,
            kind=SERVING,
            node_name=node_name,
            clock=clock,
            names=names,
            on_renewed=lambda: self._server.reload(keyring.pair(SERVING)),
        )

    def __repr__(self) -> str:
        return f"<Serving {self._server!r}>"

    def rename(self, names: tuple[str, ...]) -> None:
        """The serving certificate has to be good for these from now on."""
        self._rotation.rename(names)

    def parts(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Name -> part, by what the configuration asks for."""
        configuration = self._configuration
        parts: dict[str, Callable[[], Awaitable[object]]] = {}
        if configuration.enable_server:
            if not configuration.tls_cert_file:
                parts["certificate of the server"] = self._rotation.run
            parts["server"] = self._serve
        if configuration.healthz_port:
            address, port = configuration.healthz_bind_address, configuration.healthz_port
            parts["health"] = lambda: self._answer(address, port, healthz_only=True)
        if configuration.enable_server and configuration.read_only_port:
            parts["read-only port"] = lambda: self._answer(
                configuration.address, configuration.read_only_port, healthz_only=False
            )
        return parts

    async def _serve(self) -> None:
        configuration = self._configuration
        ca = Path(configuration.authentication.x509.client_ca_file or self._keyring.ca)
        if configuration.tls_cert_file:
            await self._until_there(ca)
            pair, key = Path(configuration.tls_cert_file), Path(configuration.tls_private_key_file)
            await self._server.run(pair=pair, key=key, ca=ca)
            return
        await self._until_there(self._keyring.pair(SERVING), ca)
        await self._server.run(pair=self._keyring.pair(SERVING), ca=ca)

    async def _until_there(self, *files: Path) -> None:
        while not all(map(Path.exists, files)):
            await self._clock.sleep(0.2)

    async def _answer(self, address: str, port: int, *, healthz_only: bool) -> None:
        """A port that is taken is tried again: several agents of one machine, or one that is just ending."""
        told = False
        while True:
            try:
                await self._server.answer_plainly(address, port, healthz_only=healthz_only)
            except OSError as error:
                if not told:
                    log.warning("cannot serve", address=address, port=port, error=error.strerror or str(error))
                told = True
                await asyncio.sleep(RETRY_SECONDS)

    def _lifetimes(self) -> dict[str, float]:
        found = {}
        for kind, name in ((CLIENT, "client"), (SERVING, "serving")):
            certificate = self._keyring.certificate(kind)
            if certificate is not None:
                found[name] = (certificate.not_after - self._clock.now()).total_seconds()
        return found
