"""One API server put together: store and certificates in, a listening socket and a local client out."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from orca.admission import default_chain
from orca.admission.webhooks import Calling, WebhookMetrics
from orca.api.builtin import BUILTIN, CERTIFICATESIGNINGREQUESTS, COMPONENTSTATUSES, NODEMETRICS, PODMETRICS
from orca.api.errors import ApiError, is_away
from orca.api.objects import Obj
from orca.auth import Authenticator, Authorizer, UserInfo
from orca.auth.authentication import TokenMethod
from orca.auth.authorization_config import AuthorizationConfig, of_modes
from orca.auth.authorizing import Authorization
from orca.auth.bootstrap_tokens import BootstrapTokens
from orca.auth.front_proxy import FrontProxy
from orca.auth.identity import AUTHENTICATED, MASTERS
from orca.auth.oidc import JwtMetrics
from orca.auth.pki import PkiPaths
from orca.auth.remote import RemoteConfig, RemoteTokens
from orca.auth.service_accounts import Keys, ServiceAccountTokens
from orca.auth.token_requests import TokenIssuer, TokenSettings
from orca.auth.tokencache import TokenCacheStats
from orca.auth.webhook import AuthorizationMetrics, Decisions, Reloads
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.hooks import HookCaller
from orca.client.keeping import keep_running
from orca.client.sockets import keep_alive
from orca.server import poststart
from orca.server.aggregation import Aggregator
from orca.server.allocation import ServiceAllocator
from orca.server.app import PAGES, App, Parts
from orca.server.audit import Audit
from orca.server.bootstrap import (
    admitted,
    bootstrap,
    keep_extension_authentication,
    keep_kubernetes_service,
)
from orca.server.connection import FIELD_BYTES, KEEPALIVE_SECONDS, LINE_BYTES, LINGER_SECONDS, ConnectionFactory
from orca.server.customresources import CustomKinds, DefinitionController
from orca.server.deadlines import Deadlines
from orca.server.discovery import Discovery
from orca.server.fairness import Fairness, FairnessConfig
from orca.server.fairness.inflight import InFlight
from orca.server.fairness.upkeep import Upkeep
from orca.server.health import Health, log_is_open
from orca.server.holdings import NODE_PORTS
from orca.server.hosts import Hosts
from orca.server.identifiers import server_identity
from orca.server.identity import Gate
from orca.server.identityleases import IdentityLease
from orca.server.initial_objects import ClusterFacts
from orca.server.legacytokens import LegacyTokens
from orca.server.local import LocalClient
from orca.server.metrics import Metrics
from orca.server.metrics.certificates import Lifetimes
from orca.server.openapi import OpenApi
from orca.server.peers import Peers
from orca.server.repair import Finding
from orca.server.reviews import Reviews
from orca.server.splice import Splicer
from orca.server.usage import Collector, Pages, UsageKinds
from orca.server.verbs import Core, Verbs
from orca.server.verbs.components import statuses
from orca.server.zpages import ZPages
from orca.store import Store
from orca.store.outages import persistently

log = structlog.get_logger()

BACKLOG = 1024
HANDSHAKE_SECONDS = 10.0
DRAIN_SECONDS = 3.0
MOST_DRAIN_SECONDS = 15.0
DRAIN_STEP = 0.02
WATCHES_SECONDS = 0.5
"""For the last words to those who watch; exec, logs and the like have no end of their own."""
REPAIR_SECONDS = 60.0
LEAD_SECONDS = 10.0
"""How long the ``kubernetes`` Service may be away or wrong, as upstream's."""
FRONT_PROXIES = ("front-proxy-client",)
"""Common names of certificates of the request header CA whose owners may name users in headers."""
LOOPBACK_USER = UserInfo("system:apiserver", groups=(MASTERS, AUTHENTICATED))


class PortTaken(Exception):
    """Somebody else listens there; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Flags of ``orca server`` that concern the API. ``node_ports`` is an inclusive range."""

    bind_address: str = "0.0.0.0"
    port: int = 6443
    advertise_address: str = "127.0.0.1"
    service_cidr: str = "10.96.0.0/16"
    node_ports: tuple[int, int] = (30000, 32767)
    authorization: AuthorizationConfig = field(default_factory=lambda: of_modes(("Node", "RBAC")))
    authorization_file: tuple[Path, bytes] | None = None
    """Where ``authorization`` was read, and what was read, to follow it."""
    client_ca_file: Path | None = None
    request_timeout: float = 60.0
    min_request_timeout: int = 1800
    fairness: FairnessConfig = field(default_factory=FairnessConfig)
    audit: Audit | None = None
    shutdown_delay: float = 0.0
    token_methods: Sequence[TokenMethod] = field(default_factory=tuple)
    anonymous: bool = True
    anonymous_paths: tuple[str, ...] = ()
    """What alone may be asked for without credentials; all when empty."""
    api_audiences: tuple[str, ...] = ()
    """For whom tokens of service accounts must be meant; for their issuer when empty."""
    account_tokens: TokenSettings = field(default_factory=TokenSettings)
    remote: RemoteConfig | None = None
    """Others who know whose a bearer token is."""
    configz: Mapping[str, Obj] = field(default_factory=dict)
    """What `/configz` shows: configurations of components in this process, by name."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """What `/flagz` shows: all flags, without their dashes, with the values that hold."""


class ApiServer:
    """``start`` serves, ``stop`` drains. ``client`` acts as the server itself."""

    def __init__(self, config: ServerConfig, pki: PkiPaths, store: Store, clock: Clock) -> None:
        self.config = config
        self.table = BUILTIN.copy()
        self._pki = pki
        self._store = store
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self._recorders: dict[str, EventRecorder] = {}
        self._complete = False  # whether all is there that every cluster starts with
        self.services = ServiceAllocator(store, config.service_cidr, config.node_ports, clock)
        self._peers = Peers(store, config.advertise_address, config.port)
        metrics = Metrics(self.table, store)
        self._authorization = Authorization(config.authorization, store, clock, AuthorizationMetrics(metrics.registry))
        self.authorizer: Authorizer = self._authorization.union
        metrics.add(Decisions(self._authorization.union))
        self.hooks = HookCaller(store)
        webhooks = Calling(store, self.hooks, self.table, self.authorizer, metrics=WebhookMetrics(metrics.registry))
        admission = default_chain(store, authorizer=self.authorizer, clock=clock, webhooks=webhooks)
        self.core = Core(store, self.table, admission, clock, self.services)
        self.core.computed[COMPONENTSTATUSES.group_resource] = lambda *_asked: statuses(self.core)
        lifetimes = Lifetimes()
        metrics.add(lifetimes)
        self.core.written[CERTIFICATESIGNINGREQUESTS.group_resource] = lifetimes.written
        self.verbs = Verbs(self.core)
        self.client = LocalClient(self.verbs, LOOPBACK_USER)
        self._kinds = CustomKinds(store, self.table, self.hooks)
        self._definitions = DefinitionController(store, self._kinds, self.client, clock)
        self._kinds.subscribe(self._definitions.notice)
        tokens = config.account_tokens
        keys = Keys.load(
            pki.service_account_key, tokens.key_files, audiences=config.api_audiences, issuers=tokens.issuers
        )
        self._token_cache = TokenCacheStats()
        metrics.add(self._token_cache)
        account_tokens = ServiceAccountTokens(keys, store, clock, self._token_cache)
        metrics.add(account_tokens.counts)
        self._legacy_tokens = LegacyTokens(self.client, clock)
        self._identity = IdentityLease(self.client.named("kube-apiserver"), clock)
        account_tokens.used = self._legacy_tokens.note
        methods = [*config.token_methods, account_tokens, BootstrapTokens(store, clock)]
        self._remote_tokens = self._remote(config.remote, keys, metrics)
        self.authenticator = Authenticator(
            methods,
            anonymous=config.anonymous,
            anonymous_paths=config.anonymous_paths,
            remote=self._remote_tokens,
            clock=clock,
        )
        issuer = TokenIssuer(keys, store, clock, tokens.lifetimes)
        reviews = Reviews(self.core, self.authenticator, self.authorizer, issuer, account_tokens)
        self.core.virtual.update(reviews.handlers)
        self.health = Health(clock)
        self.health.add("log", log_is_open)
        self.health.add("etcd", store.ping)
        self.health.add("etcd-readiness", store.ping, ready_only=True)
        self.health.add("informer-sync", self._synced, ready_only=True)
        self.health.expect(poststart.hooks(fair=config.fairness.enabled))
        hosts = Hosts(store, self._agent_tls())
        self._splicer = Splicer(hosts, admission)
        self._usage = Collector(hosts, clock)
        kinds = UsageKinds(store, self._usage)
        self.core.computed[NODEMETRICS.group_resource] = kinds.nodes
        self.core.computed[PODMETRICS.group_resource] = kinds.pods
        self.aggregator = Aggregator(store, self.client, self.table, pki.front_proxy_client, clock, metrics.registry)
        self.health.add(poststart.DISCOVERED, self.aggregator.discovered, ready_only=True)
        self.health.add(poststart.REGISTERED, self.aggregator.registered)
        self.health.add("shutdown", self.health.not_stopping, ready_only=True)
        self.pages = Pages(self.verbs, self.aggregator)
        front_proxy = FrontProxy(pki.front_proxy_ca.cert.read_bytes(), FRONT_PROXIES, clock)
        self.tls = self._serving_tls()
        self._deadlines = Deadlines(config.request_timeout)
        fairness = Fairness(config.fairness) if config.fairness.enabled else None
        self._upkeep = Upkeep(fairness, store, self.client, clock) if fairness is not None else None
        if fairness is not None:
            metrics.add_fairness(fairness)
        if config.audit is not None:
            metrics.add_audit(config.audit)
        self._metrics = metrics

        async def caught_up(token: str) -> bool:
            if not account_tokens.unseen(token):
                return False
            with suppress(ApiError):  # what cannot be found out changes nothing
                await store.fresh()
            return True

        notes, taken = account_tokens.notes, account_tokens.count
        gate = Gate(self.authenticator, self.authorizer, front_proxy, caught_up, notes, taken)
        metrics.add_gate(gate, admission)
        self._app = App(
            Parts(
                table=self.table,
                verbs=self.verbs,
                gate=gate,
                health=self.health,
                discovery=Discovery(self.table, f"{config.advertise_address}:{config.port}", self.aggregator),
                openapi=OpenApi(self.table, self.aggregator.openapi),
                aggregator=self.aggregator,
                metrics=metrics,
                splicer=self._splicer,
                clock=clock,
                zpages=ZPages(config.flags, PAGES, clock),
                deadlines=self._deadlines,
                fairness=fairness,
                in_flight=InFlight(config.fairness.reading, config.fairness.writing),
                audit=config.audit,
                watch_seconds=config.min_request_timeout,
                configz=config.configz,
                well_known=_well_known(keys, tokens.jwks_uri or f"{self._facts().url}/openid/v1/jwks"),
            )
        )
        self._factory: ConnectionFactory | None = None
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Bootstrap, then listen. Raises PortTaken, ApiError 503 when the store stays away."""
        facts, done = self._facts(), self.health.finish
        done(*poststart.LOADED)
        self._kinds.start()
        self._keep("custom resource definitions", self._definitions.run)
        done(*poststart.CUSTOM_KINDS)
        await persistently(self.services.repair)
        done(*poststart.ADDRESSES)
        self._complete = await persistently(lambda: bootstrap(self.client, facts))
        done(*poststart.INITIAL_OBJECTS)
        await persistently(lambda: admitted(self._lead_here(facts)))
        done(*poststart.SERVICE)
        if (upkeep := self._upkeep) is not None:
            await persistently(lambda: admitted(upkeep.ensure()))
            upkeep.load()
            self._keep("priority and fairness", upkeep.run)
        done(*(poststart.COUNTS if upkeep is None else poststart.FAIRNESS))
        if self.config.audit is not None:
            self._keep("audit log", self.config.audit.log.run)
        if self.config.authorization_file is not None:
            path, content = self.config.authorization_file
            reloads = self.reloads("authorization")
            self._keep("authorization configuration", lambda: self._authorization.follow(path, content, reloads))
        self._keep("request deadlines", self._deadlines.sweep)
        issuers = self._remote_tokens.issuers if self._remote_tokens is not None else None
        if issuers is not None:
            issuers.start()
            if issuers.path is not None:
                self._keep("authentication configuration", issuers.follow)
        loop = asyncio.get_running_loop()
        self._factory = ConnectionFactory(
            self._app,
            shortcut=self._app.shortcut,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=LINE_BYTES,
            max_field_size=FIELD_BYTES,
            auto_decompress=False,  # bodies come as they are, as upstream: no bomb can grow
        )
        try:
            self._listener = await loop.create_server(
                self._factory,
                self.config.bind_address,
                self.config.port,
                ssl=self.tls,
                backlog=BACKLOG,
                reuse_address=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except OSError as error:
            where = f"{self.config.bind_address}:{self.config.port}"
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"{where} is taken by another program; choose another --secure-port") from error
            raise PortTaken(f"cannot listen on {where}: {error.strerror}") from error
        for one in self._listener.sockets:
            keep_alive(one)
        self._keep("presence of this server", self._peers.announce)
        self._keep("other servers", lambda: self._peers.follow(lambda: self._lead_here(facts)))
        self._keep("the kubernetes service", lambda: self._lead(facts))
        self._keep("what every cluster has", lambda: self._repair(facts))
        self._keep("lease of this server", self._identity.run)
        self._keep("leases of servers that are gone", self._identity.collect)
        done(*poststart.IDENTITY)
        self._keep("use of tokens", self._legacy_tokens.run)
        done(*poststart.TOKENS)
        self.aggregator.start()
        done(*poststart.AGGREGATED)
        log.info("serving", address=self.config.bind_address, port=self.config.port)

    def reloads(self, what: str) -> Reloads:
        """Metrics of new contents of a configuration's file."""
        return Reloads(self._metrics.registry, server_identity(), what)

    def _remote(self, config: RemoteConfig | None, keys: Keys, metrics: Metrics) -> RemoteTokens | None:
        if config is None:
            return None
        told = JwtMetrics(metrics.registry, server_identity()) if config.loaded is not None else None
        return RemoteTokens.of(
            config,
            own=keys.audiences,
            issuers=keys.issuers,
            metrics=told,
            clock=self._clock,
            stats=self._token_cache,
        )

    def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.create_task(keep_running(name, work, self._clock), name=name))

    async def stop(self) -> None:
        """Say that we are not ready, serve on for the delay, refuse new connections, answer what was asked, then close
        everything: watches in order, streams at once."""
        self.health.stopping = True
        if self.config.shutdown_delay and self._listener is not None:
            await asyncio.sleep(self.config.shutdown_delay)
        if self._listener is not None:
            self._listener.close()
        if self._factory is not None:
            self._factory.pre_shutdown()
            await self._answered()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._identity.end()
        if self._factory is not None:
            self._store.end_watches()
            await self._ended(self._factory)
            await self._factory.shutdown(DRAIN_SECONDS)
        await self._splicer.close()
        await self._usage.close()
        await self.hooks.aclose()
        await self._authorization.aclose()
        if self._remote_tokens is not None:
            await self._remote_tokens.aclose()
        await self.aggregator.stop()

    async def _answered(self) -> None:
        """Until all requests but watches and streams have their answers, or would have timed out."""
        waited = 0.0
        while self._metrics.unanswered > 0 and waited < min(self.config.request_timeout or 60.0, MOST_DRAIN_SECONDS):
            await asyncio.sleep(DRAIN_STEP)
            waited += DRAIN_STEP

    async def _ended(self, factory: ConnectionFactory) -> None:
        """Until those who watched have all that they had to be told, or seem to be gone."""
        waited = 0.0
        while factory.busy and waited < WATCHES_SECONDS:
            await asyncio.sleep(DRAIN_STEP)
            waited += DRAIN_STEP

    async def _repair(self, facts: ClusterFacts) -> None:
        while True:
            await asyncio.sleep(REPAIR_SECONDS)
            try:
                await self.services.repair(self._tell_of_repair)
                await keep_extension_authentication(self.client, facts)
                self._complete = self._complete or await bootstrap(self.client, facts)
            except Exception as error:
                # Whatever it was, the next round tries again.
                told = not is_away(error)
                log.warning("what every cluster has could not be checked", error=str(error), exc_info=told)

    def _tell_of_repair(self, finding: Finding) -> None:
        component = "portallocator" if finding.resource is NODE_PORTS else "ipallocator"
        recorder = self._recorders.get(component)
        if recorder is None:
            recorder = EventRecorder(self.client, f"{component}-repair-controller", clock=self._clock)
            self._recorders[component] = recorder
        recorder.event(finding.about, "Warning", finding.reason, finding.message)

    async def _lead(self, facts: ClusterFacts) -> None:
        while True:
            await asyncio.sleep(LEAD_SECONDS)
            try:
                await self._lead_here(facts)
            except (ApiError, OSError) as error:
                log.warning("the kubernetes Service could not be kept", error=str(error))

    async def _lead_here(self, facts: ClusterFacts) -> None:
        await keep_kubernetes_service(self.client, facts, self._peers.living())

    async def _synced(self) -> None:
        if not self._store.ready:
            raise OSError("the cache does not follow etcd")

    def _facts(self) -> ClusterFacts:
        return ClusterFacts(
            address=self.config.advertise_address,
            port=self.config.port,
            service_address=self.services.first_address,
            service_cidr=self.config.service_cidr,
            ca_pem=self._pki.ca.cert.read_text(),
            front_proxy_ca_pem=self._pki.front_proxy_ca.cert.read_text(),
            client_ca_pem=self.config.client_ca_file.read_text() if self.config.client_ca_file else "",
        )

    def _serving_tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # To make two tickets takes a third of a handshake, and clients of Kubernetes keep connections, not sessions.
        context.num_tickets = 0
        context.load_cert_chain(self._pki.apiserver.cert, self._pki.apiserver.key)
        context.load_verify_locations(self._pki.ca.cert)
        context.load_verify_locations(self._pki.front_proxy_ca.cert)
        if self.config.client_ca_file is not None:
            context.load_verify_locations(self.config.client_ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _agent_tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(self._pki.kubelet_client.cert, self._pki.kubelet_client.key)
        context.load_verify_locations(self._pki.ca.cert)
        return context


def _well_known(keys: Keys, jwks_uri: str) -> dict[str, Obj]:
    """What verifies tokens of service accounts without asking here; nothing for issuers that are no https address, as
    upstream."""
    if not keys.issuer.startswith("https://"):
        return {}
    return {"/openid/v1/jwks": keys.jwks(), "/.well-known/openid-configuration": keys.discovery(jwks_uri)}
