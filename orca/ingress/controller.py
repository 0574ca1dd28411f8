"""The ingress controller: what the cluster says becomes what nginx serves.

A change of endpoints reaches nginx in milliseconds and reloads nothing. Everything else makes a new configuration; the
first change is taken up at once, those that follow within `RELOAD_EVERY` share a reload. One Ingress that nginx cannot
take is left out and told about; the others are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog

from orca.api.builtin import ENDPOINTSLICES, INGRESSCLASSES, INGRESSES, PODS, SECRETS, SERVICES
from orca.api.errors import ApiError
from orca.api.objects import Obj, key, labels, namespace, resource_version
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.informer import Informer
from orca.client.keeping import keep_running
from orca.client.leader import LeaderElector
from orca.ingress import classes, nginx
from orca.ingress.certificates import Secrets, users
from orca.ingress.engine import Engine, Refused, Unsettled
from orca.ingress.host import Host
from orca.ingress.model import Certificate, Routing
from orca.ingress.quoting import Unquotable
from orca.ingress.routing import World, referenced_secrets, renewed, route
from orca.ingress.status import StatusWriter, others
from orca.ingress.telling import Teller

log = structlog.get_logger()

COMPONENT = "nginx-ingress-controller"
GATHER_SECONDS = 0.01
"""Changes that come together are taken up together."""
RELOAD_EVERY = 1.0
RETRY_SECONDS = 2.0
MOST_REFUSED = 50
"""So many Ingresses are left out in one go before nginx's objections are looked at again."""
_OTHER_SECRETS = ",".join(
    f"type!={kind}"
    for kind in (
        "helm.sh/release.v1",
        "kubernetes.io/service-account-token",
        "kubernetes.io/dockerconfigjson",
        "bootstrap.kubernetes.io/token",
    )
)
"""Never needed here, and often large."""
_ROLLOUT_LABELS = frozenset({"controller-revision-hash", "pod-template-hash", "pod-template-generation"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Which pod this is, and what it is to serve. ``service`` is ``namespace/name`` of the Service before it, or ""."""

    pod: str
    namespace: str
    service: str = ""
    lease: str = "ingress-nginx-leader"
    controller: str = classes.CONTROLLER
    ingress_class: str = "nginx"
    default_certificate: str = ""
    """A TLS Secret ``namespace/name`` for hosts without one; "" for a self-signed one."""
    update_status: bool = True


class IngressController:
    """`run` serves until cancelled; then nginx ends what it has begun, and the status is cleared by the last one."""

    def __init__(self, client: Client, engine: Engine, host: Host, identity: Identity, *, clock: Clock) -> None:
        self._client = client
        self._engine = engine
        self._host = host
        self._identity = identity
        self._clock = clock
        self._ingresses = Informer(client, INGRESSES, clock=clock)
        self._classes = Informer(client, INGRESSCLASSES, clock=clock)
        self._services = Informer(client, SERVICES, clock=clock)
        self._slices = Informer(client, ENDPOINTSLICES, indexers={"service": _service_of}, clock=clock)
        self._secrets = Informer(client, SECRETS, fields=_OTHER_SECRETS, clock=clock)
        self._pods: Informer | None = None
        self._read = Secrets()
        self._routing: Routing | None = None
        self._next: Routing | None = None
        """On its way into force; that takes nginx seconds when it is large, and endpoints move meanwhile."""
        self._needed_secrets: frozenset[str] = frozenset()
        self._refused: dict[str, tuple[str, str]] = {}
        """Left out because nginx objects: version of the Ingress and nginx's words."""
        self._all_changed = True
        self._moved: set[str] = set()
        self._wake = asyncio.Event()
        self._moving = asyncio.Event()
        self._reloaded_at = -RELOAD_EVERY
        recorder = EventRecorder(client, COMPONENT, clock=clock)
        self._recorder = recorder
        self._teller = Teller(recorder, self._ingresses.get, clock=clock)
        self._status = StatusWriter(
            client,
            served=self._served,
            service=lambda: self._services.get(identity.service) if identity.service else None,
            pods=lambda: self._pods.list() if self._pods is not None else (),
            clock=clock,
        )
        self._elector = LeaderElector(
            client, identity.lease, identity.pod, self._lead, self._no_leader, namespace=identity.namespace, clock=clock
        )
        self._follow()

    def __repr__(self) -> str:
        return f"<IngressController {self._identity.pod} {self._engine!r}>"

    @property
    def is_leader(self) -> bool:
        return self._elector.is_leader

    @property
    def routing(self) -> Routing | None:
        """What is served, None before the first look."""
        return self._routing

    # --- what happens ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        self._ingresses.on_add(lambda _: self._look_at_all())
        self._ingresses.on_delete(lambda _: self._look_at_all())
        self._ingresses.on_update(self._ingress_changed)
        self._classes.on_change(lambda _: self._look_at_all())
        self._services.on_change(self._service_changed)
        self._slices.on_change(self._slice_changed)
        self._secrets.on_change(self._secret_changed)

    def _look_at_all(self) -> None:
        self._all_changed = True
        self._wake.set()

    def _ingress_changed(self, old: Obj, new: Obj) -> None:
        # Most changes are this controller's own, of the status.
        if old.get("spec") != new.get("spec") or old["metadata"].get("annotations") != new["metadata"].get(
            "annotations"
        ):
            self._look_at_all()
        elif old.get("status") != new.get("status"):
            self._status.poke()

    def _service_changed(self, service: Obj) -> None:
        if key(service) == self._identity.service:
            self._status.poke()
        self._look_at_all()

    def _slice_changed(self, piece: Obj) -> None:
        self._moved.update(_service_of(piece))
        self._moving.set()

    def _secret_changed(self, secret: Obj) -> None:
        if key(secret) in self._needed_secrets or key(secret) == self._identity.default_certificate:
            self._look_at_all()

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _served(self) -> list[Obj]:
        routing = self._routing
        found = (self._ingresses.get(one) for one in sorted(routing.served if routing else ()))
        return [one for one in found if one is not None]

    def _slices_of(self, service: str) -> Iterable[Obj]:
        return self._slices.by_index("service", service)

    def _route(self) -> Routing:
        ingresses = self._ingresses.list()
        self._needed_secrets = frozenset(referenced_secrets(ingresses))
        self._read.forget_all_but(self._needed_secrets | {self._identity.default_certificate})
        versions = {key(one): resource_version(one) for one in ingresses}
        self._refused = {who: said for who, said in self._refused.items() if versions.get(who) == said[0]}
        ours = classes.ours(
            self._classes.list(), controller=self._identity.controller, annotated=self._identity.ingress_class
        )
        default = self._identity.default_certificate
        pair = self._read.certificate(self._secrets.get(default), default) if default else ""
        if default and isinstance(pair, str):
            log.warning("the default certificate is not usable, a self-signed one serves", said=pair)
        world = World(
            service=self._services.get,
            slices=self._slices_of,
            certificate=lambda secret: self._read.certificate(self._secrets.get(secret), secret),
            users=lambda secret, by_user: users(self._secrets.get(secret), secret, by_user),
            default=pair if isinstance(pair, Certificate) else None,
            refused={who: words for who, (_, words) in self._refused.items()},
        )
        return route(ingresses, ours, world)

    # --- acting ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves until cancelled."""
        informers = [self._ingresses, self._classes, self._services, self._slices, self._secrets]
        tasks = [asyncio.create_task(informer.run()) for informer in informers]
        engine = asyncio.create_task(self._engine.run())
        campaign: asyncio.Task[None] | None = None
        try:
            for informer in informers:
                await informer.synced()
            tasks.append(asyncio.create_task(keep_running("ingress", self._serve, self._clock)))
            tasks.append(asyncio.create_task(keep_running("endpoints", self._serve_moves, self._clock)))
            if self._identity.update_status:
                await self._watch_own_pods(tasks)
                campaign = asyncio.create_task(self._elector.run())
            await asyncio.wait([engine, *tasks, *([campaign] if campaign else [])], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(tasks, engine, campaign)

    async def _watch_own_pods(self, tasks: list[asyncio.Task[None]]) -> None:
        try:
            own = await self._client.get(PODS, self._identity.pod, self._identity.namespace)
        except ApiError as error:
            log.warning("this pod is not found, hosts are not told in the status", error=str(error))
            return
        selector = ",".join(f"{label}={value}" for label, value in labels(own).items() if label not in _ROLLOUT_LABELS)
        self._pods = Informer(
            self._client, PODS, namespace=self._identity.namespace, labels=selector, clock=self._clock
        )
        self._pods.on_change(lambda _: self._status.poke())
        tasks.append(asyncio.create_task(self._pods.run()))
        await self._pods.synced()

    async def _end(
        self, tasks: list[asyncio.Task[None]], engine: asyncio.Task[None], campaign: asyncio.Task[None] | None
    ) -> None:
        led = self.is_leader
        engine.cancel()  # no new connections from here on; what is under way may take minutes
        pods = self._pods.list() if self._pods is not None else []
        if campaign is not None:
            campaign.cancel()
            await asyncio.wait([campaign])
        if led and not others(pods, self._identity.pod):
            try:
                async with asyncio.timeout(5):
                    await self._status.clear()
            except (ApiError, TimeoutError) as error:
                log.warning("status of Ingresses not cleared", error=str(error))
        for task in tasks:
            task.cancel()
        await asyncio.wait([engine, *tasks])

    async def _lead(self) -> None:
        self._teller.is_on = True
        self._wake.set()
        await self._status.run()

    def _no_leader(self) -> None:
        self._teller.is_on = False

    async def _serve(self) -> None:
        self._look_at_all()
        alarm: asyncio.Task[None] | None = None
        try:
            while True:
                await self._wake.wait()
                await self._clock.sleep(GATHER_SECONDS)
                self._wake.clear()
                again = await self._look()
                if alarm is not None:
                    alarm.cancel()
                alarm = asyncio.create_task(self._ring(again)) if again is not None else None
        finally:
            if alarm is not None:
                alarm.cancel()

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()

    async def _look(self) -> float | None:
        """Takes up what has changed. Answers in how many seconds to look again at the latest."""
        pauses: list[float] = []
        try:
            if self._all_changed:
                wait = self._reloaded_at + RELOAD_EVERY - self._clock.monotonic()
                if wait > 0:
                    pauses.append(wait)
                else:
                    self._all_changed = False
                    await self._take_up_all()
        except Unsettled as error:
            log.warning("nginx not configured", error=str(error))
            self._all_changed = True
            pauses.append(RETRY_SECONDS)
        if self._routing is not None:
            later = self._teller.look(self._routing.problems, self._served())
            if later is not None:
                pauses.append(later)
        return min(pauses, default=None)

    async def _serve_moves(self) -> None:
        while True:
            await self._moving.wait()
            await self._clock.sleep(GATHER_SECONDS)
            self._moving.clear()
            moved, self._moved = self._moved, set()
            self._routing = self._renewed(self._routing, moved)
            self._next = self._renewed(self._next, moved)
            try:
                await self._push()
            except Unsettled as error:
                log.warning("nginx does not know of new endpoints", error=str(error))
                self._look_at_all()

    def _renewed(self, routing: Routing | None, moved: set[str]) -> Routing | None:
        if routing is None:
            return None
        pools = {
            name: renewed(pool, self._slices_of(pool.service)) if pool.service in moved else pool
            for name, pool in routing.pools.items()
        }
        return replace(routing, pools=pools)

    async def _push(self) -> None:
        """Endpoints and certificates; those of the configuration in force too, until the next one is."""
        coming = self._next or self._routing
        if coming is not None:
            former = self._routing.pools if self._routing is not None else {}
            await self._engine.set_live(coming, besides=former)

    async def _take_up_all(self) -> None:
        for _ in range(MOST_REFUSED):
            routing = self._route()
            try:
                rendered = nginx.render(routing, self._host)
            except Unquotable as error:
                if not self._leave_out(error.owner, str(error)):
                    raise
                continue
            self._next = routing
            try:
                await self._push()
                reloaded = await self._engine.configure(rendered, routing)
            except Refused as refused:
                if not self._leave_out(rendered.culprit(refused.line), refused.message):
                    log.error("nginx refuses the configuration, the former one stays", said=refused.message)
                    self._tell_own_pod("Warning", f"Error reloading NGINX: {refused.message}")
                    self._routing, self._next = self._routing or routing, None
                    return
                continue
            # Not the routing of above: endpoints may have moved since.
            self._routing, self._next = self._next, None
            await self._push()
            if reloaded:
                self._reloaded_at = self._clock.monotonic()
                self._tell_own_pod("Normal", "NGINX reload triggered due to a change in configuration")
            break
        else:
            self._look_at_all()
        self._status.poke()

    def _leave_out(self, ingress: str, message: str) -> bool:
        found = self._ingresses.get(ingress)
        if found is None or ingress in self._refused:
            return False
        log.warning("an Ingress is left out, nginx does not take it", ingress=ingress, said=message)
        self._refused[ingress] = (resource_version(found), message)
        return True

    def _tell_own_pod(self, kind: str, message: str) -> None:
        pod = {"kind": "Pod", "apiVersion": "v1", "namespace": self._identity.namespace, "name": self._identity.pod}
        self._recorder.event(pod, kind, "RELOAD", message)


def _service_of(piece: Obj) -> tuple[str, ...]:
    service = labels(piece).get("kubernetes.io/service-name")
    return (f"{namespace(piece)}/{service}",) if service else ()
