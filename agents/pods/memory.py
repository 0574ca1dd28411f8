"""What a pod's worker knows: observed containers, results of its own actions, back-off. All can be observed again.

Nothing here is persisted but the allotment in ``sizing``; after a crash of the agent that, containers and the API tell
everything that matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from agents.pods.lifecycle import Life
from agents.pods.ports import Mounted
from agents.pods.pulls import Pulls
from agents.pods.sizing import Sizing
from agents.runtime.model import ContainerInfo, ImageInfo
from orca.api.objects import Obj

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_CRASH_DELAY = 10.0
LAST_CRASH_DELAY = 300.0
CRASH_RESET_SECONDS = 600.0
FIRST_RETRY = 0.5
LAST_RETRY = 30.0
FIRST_PULL_RETRY = 10.0
LAST_PULL_RETRY = 300.0


@dataclass(frozen=True, slots=True)
class CrashBackoff:
    """Delay before the next restart of a container, and when it was last raised.

    As the kubelet's: the first restart is at once, then 10 s doubling to 300 s, counted from the container's end;
    forgotten when the container ended more than 10 minutes after it was raised.
    """

    seconds: float
    raised_at: datetime

    def ready_at(self, finished_at: datetime) -> datetime:
        """When the container that ended at ``finished_at`` may be started again."""
        if self.expired(finished_at):
            return finished_at
        return finished_at + timedelta(seconds=self.seconds)

    def expired(self, finished_at: datetime) -> bool:
        return finished_at - self.raised_at > timedelta(seconds=CRASH_RESET_SECONDS)


def raise_crash(
    old: CrashBackoff | None, now: datetime, finished_at: datetime, *, last: float = LAST_CRASH_DELAY
) -> CrashBackoff:
    """After a restart was started of a container that had ended then. ``last``: the node's longest delay; the first
    one is no longer than it."""
    if old is None or old.expired(finished_at):
        return CrashBackoff(min(FIRST_CRASH_DELAY, last), now)
    return CrashBackoff(min(old.seconds * 2, last), now)


def adopted_crash(newest: ContainerInfo, now: datetime, *, last: float = LAST_CRASH_DELAY) -> CrashBackoff | None:
    """The delay of a container that restarted before this agent did, so that its crash loop is not sped up."""
    started, attempt = newest.started_at or newest.created_at, newest.attempt
    if attempt == 0 or started is None or now - started > timedelta(seconds=CRASH_RESET_SECONDS):
        return None
    return CrashBackoff(min(FIRST_CRASH_DELAY * 2 ** min(attempt - 1, 10), last), started)


@dataclass(frozen=True, slots=True)
class Failure:
    """An action that failed: what to show, and when to try again."""

    reason: str
    message: str
    retry_at: datetime
    seconds: float


def failed_again(
    old: Failure | None,
    reason: str,
    message: str,
    now: datetime,
    *,
    first: float = FIRST_RETRY,
    last: float = LAST_RETRY,
) -> Failure:
    """The next failure in a row: the delay doubles."""
    seconds = first if old is None else min(old.seconds * 2, last)
    return Failure(reason, message, now + timedelta(seconds=seconds), seconds)


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Where a running container's probes stand; None means no result yet or no such probe."""

    startup: bool | None = None
    liveness: bool | None = None
    readiness: bool | None = None


@dataclass(frozen=True, slots=True)
class Doom:
    """Why a pod is failed by this host: ``status.reason`` and ``status.message``."""

    reason: str
    message: str
    event: str = ""
    """For a pod that was never started: what its event says."""
    grace: float | None = None
    """Seconds the pod has to end, instead of its own."""
    disruption: str = ""
    """Message of the condition DisruptionTarget, which the pod gets with its end; "" for none."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A container that was removed, and what it said at its end."""

    info: ContainerInfo
    message: str = ""


@dataclass(slots=True)
class Memory:
    """Everything a decision is made from besides the pod object and the time."""

    life: Life | None = None
    refused: Doom | None = None
    """What speaks against starting the pod beside the others on this host, as found when it came."""
    sandbox: ContainerInfo | None = None
    """The newest pause container."""
    old_sandboxes: dict[str, ContainerInfo] = field(default_factory=dict)
    containers: dict[str, list[ContainerInfo]] = field(default_factory=dict)
    """By name in the spec, newest attempt first."""
    wired: bool = False
    """The network room has attached the present sandbox."""
    rewire: bool = False
    """It was attached by an agent before this one: attach again to make sure; for the status it is wired meanwhile."""
    ips: tuple[str, ...] = ()
    volumes: Mapping[str, Mounted] | None = None
    read_only_in_depth: bool = False
    """This host can make mounts read-only with all that is mounted below them."""
    images: dict[str, ImageInfo] = field(default_factory=dict)
    """By container name: ready for the start that comes next."""
    pulls: Pulls = field(default_factory=Pulls)
    image_details: dict[str, ImageInfo] = field(default_factory=dict)
    """By image id, for the status."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """By action key."""
    crashes: dict[str, CrashBackoff] = field(default_factory=dict)
    probes: dict[str, ProbeResults] = field(default_factory=dict)
    """By container id."""
    hooks: set[str] = field(default_factory=set)
    """Ids of containers whose postStart has not ended."""
    failed_hooks: dict[str, str] = field(default_factory=dict)
    """What failed, by id of containers whose postStart has failed: they are to be ended."""
    pre_stopped: set[str] = field(default_factory=set)
    """Ids of containers whose preStop has ended: of sidecars before it was their turn to be stopped."""
    stop_until: dict[str, datetime] = field(default_factory=dict)
    """By container id: when the stop that is under way gives it up."""
    last: dict[str, Gone] = field(default_factory=dict)
    """By name in the spec: the newest one that was started, when it was removed."""
    users: dict[str, Obj] = field(default_factory=dict)
    """``user`` of the status, by container id."""
    sizing: Sizing = field(default_factory=Sizing)
    messages: dict[str, str] = field(default_factory=dict)
    """Termination message by container id."""
    in_flight: dict[str, datetime] = field(default_factory=dict)
    """Keys of the actions that run, and since when."""
    stopping_since: datetime | None = None
    doom: Doom | None = None
    removed: bool = False
    """The object is gone from the API."""
    deleted: bool = False
    """We have deleted the object from the API."""
    released: bool = False
    """Addresses and volumes are given back."""
    cleaned: bool = False
    """So is everything else the pod had on this host."""
    first_seen: datetime | None = None
    moved: dict[str, timedelta] = field(default_factory=dict)
    """By id of a container that had ended when the host's clock was set: how far, since its end was stamped."""
    start_moved: timedelta = timedelta()
    """Likewise since the pod's start was told."""

    def clock_moved(self, by: timedelta, *, started: bool) -> None:
        """The host's clock was set: what was noted before moves with it, so that every wait stays as long as it was.
        ``started``: the pod's startTime has been told."""
        for key, failure in self.failures.items():
            self.failures[key] = replace(failure, retry_at=failure.retry_at + by)
        for key, crash in self.crashes.items():
            self.crashes[key] = replace(crash, raised_at=crash.raised_at + by)
        self.pulls.clock_moved(by)
        for stamps in (self.stop_until, self.in_flight):
            for key in stamps:
                stamps[key] += by
        if self.stopping_since is not None:
            self.stopping_since += by
        if self.first_seen is not None:
            self.first_seen += by
        if started:
            self.start_moved += by
        for info in self.all_containers():
            if not info.running:
                self.moved[info.id] = self.moved.get(info.id, timedelta()) + by

    def observe(self, info: ContainerInfo) -> None:
        """Take in the state of a container; an older attempt never replaces a newer one, nor an older state the end."""
        known_as = self.find(info.id)
        if known_as is not None and _is_overtaken(info, known_as):
            return
        if info.is_sandbox:
            current = self.sandbox
            if current is None or current.id == info.id:
                self.sandbox = info
            elif info.attempt > current.attempt:
                self.old_sandboxes[current.id] = current
                self.sandbox = info
            else:
                self.old_sandboxes[info.id] = info
            return
        known = self.containers.setdefault(info.container, [])
        for position, other in enumerate(known):
            if other.id == info.id:
                known[position] = info
                return
        known.append(info)
        known.sort(key=lambda item: (item.attempt, item.created_at or LONG_AGO), reverse=True)

    def forget(self, container_id: str) -> None:
        """A container was removed."""
        if self.sandbox is not None and self.sandbox.id == container_id:
            self.sandbox, self.wired, self.rewire = None, False, False
        self.old_sandboxes.pop(container_id, None)
        for container, known in self.containers.items():
            if known and known[0].id == container_id and (known[0].state != "created" or known[0].error):
                before = self.last.get(container)
                # Who removes all that have ended may take older ones after the newest.
                if before is None or before.info.attempt <= known[0].attempt:
                    self.last[container] = Gone(known[0], self.messages.get(container_id, ""))
            known[:] = [info for info in known if info.id != container_id]
        for by_id in (self.probes, self.messages, self.users, self.sizing.requested, self.stop_until, self.moved):
            by_id.pop(container_id, None)
        self.failed_hooks.pop(container_id, None)
        for ids in (self.hooks, self.pre_stopped):
            ids.discard(container_id)
        self.sizing.restarting.discard(container_id)
        self.sizing.replaced.discard(container_id)

    def newest(self, name: str) -> ContainerInfo | None:
        """The latest attempt of a container."""
        known = self.containers.get(name)
        return known[0] if known else None

    def all_containers(self) -> list[ContainerInfo]:
        return [info for known in self.containers.values() for info in known]

    def everything(self) -> list[ContainerInfo]:
        """Sandboxes and containers."""
        sandboxes = [self.sandbox] if self.sandbox is not None else []
        return [*sandboxes, *self.old_sandboxes.values(), *self.all_containers()]

    def find(self, container_id: str) -> ContainerInfo | None:
        return next((info for info in self.everything() if info.id == container_id), None)

    def busy(self, prefix: str) -> bool:
        """True while an action whose key starts so runs."""
        return any(key.startswith(prefix) for key in self.in_flight)


def _is_overtaken(info: ContainerInfo, known: ContainerInfo) -> bool:
    """What the engine answered before the container ended, and was heard after that."""
    return known.state == "exited" and info.running and (info.started_at or LONG_AGO) <= (known.started_at or LONG_AGO)


def container_hash(container: Obj) -> str:
    """Of the fields whose change means a new container; of a running pod's containers only the image may change."""
    return f"{container.get('name', '')}@{container.get('image', '')}"
