"""Graceful shutdown of the node: when the host is about to go down, pods are ended in the order of their priority, each
group within its time, before the host is let go.

What is decided is pure (`periods_of`, `groups_of`); `GracefulShutdown` follows an `Inhibitor` (systemd-logind), or is
told by SIGUSR1. Reference: k8s.io/kubernetes ``pkg/kubelet/nodeshutdown``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from agents.config import Configuration
from agents.durable import read_object, write_file
from agents.node.model import node_reference
from agents.pods.memory import Doom
from agents.pods.ports import Tenant
from agents.pods.refusal import refused
from orca.api.objects import Obj, key, uid
from orca.client.clock import Clock
from orca.client.events import EventRecorder

REASON = "Terminated"
MESSAGE = "Pod was terminated in response to imminent node shutdown."
NOT_ADMITTED = refused("NodeShutdown", "Pod was rejected as the node is shutting down.")
PROBLEM = "node is shutting down"
CRITICAL = 2_000_000_000
RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
_FILE = "graceful_node_shutdown_state"

log = structlog.get_logger()


class InhibitorError(Exception):
    """The host cannot be held up; the text says why."""


class Inhibitor(Protocol):
    """Holds a shutdown of the host up, and tells of it."""

    async def hold(self, seconds: float) -> None:
        """From now on a shutdown waits for `release`, up to these seconds. Raises InhibitorError."""

    async def next(self) -> bool:
        """True when the host is about to go down, False when it stays up after all. Raises InhibitorError."""

    async def release(self) -> None:
        """Let the host go."""

    async def close(self) -> None: ...


class Pods(Protocol):
    """The part of `agents.running.RunningPods` that is needed."""

    def tenants(self) -> Sequence[Tenant]: ...

    async def evict(self, pod_uid: str, **why: object) -> bool: ...

    async def stopped(self, pod_uid: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Period:
    """Pods of this priority and more, up to the next period's, have these seconds."""

    priority: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Group:
    """Pods that are ended together."""

    period: Period
    pods: tuple[Obj, ...]


def periods_of(configuration: Configuration) -> tuple[Period, ...]:
    """In the order in which they are gone through; none when nothing is to be waited for."""
    by_priority = configuration.shutdown_grace_period_by_pod_priority
    if by_priority:
        found = [Period(entry.priority, entry.shutdown_grace_period_seconds) for entry in by_priority]
        return tuple(sorted(found, key=lambda period: period.priority))
    whole, critical = configuration.shutdown_grace_period, configuration.shutdown_grace_period_critical_pods
    if not whole:
        return ()
    return (Period(0, int(whole - critical)), Period(CRITICAL, int(critical)))


def groups_of(periods: Sequence[Period], pods: Iterable[Obj]) -> list[Group]:
    """Who is ended with whom, lowest priority first; groups without pods are left out."""
    members: dict[Period, list[Obj]] = {period: [] for period in periods}
    for pod in pods:
        priority = int((pod.get("spec") or {}).get("priority") or 0)
        # Below the lowest belongs to the lowest.
        fitting = [period for period in periods if period.priority <= priority]
        members[fitting[-1] if fitting else periods[0]].append(pod)
    return [Group(period, tuple(found)) for period, found in members.items() if found]


def grace_of(pod: Obj, period: Period) -> int:
    """Seconds a pod is given: its own grace period, when that is shorter than the group's time."""
    own = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
    return period.seconds if own is None else min(int(own), period.seconds)


class GracefulShutdown:
    """`run` is a part for a supervisor, only when there are periods."""

    def __init__(
        self,
        periods: Sequence[Period],
        node_name: str,
        pods: Callable[[], Pods | None],
        *,
        root: Path,
        clock: Clock,
        recorder: EventRecorder,
        connect: Callable[[], Inhibitor],
        changed: Callable[[], None],
    ) -> None:
        """``pods`` answers None as long as there is nothing that runs any. ``changed`` is called when `problem` answers
        something else than before."""
        self._periods = tuple(periods)
        self._node_name = node_name
        self._pods = pods
        self._root = root
        self._clock = clock
        self._recorder = recorder
        self._connect = connect
        self._changed = changed
        self._shutting_down = False
        self._ending: asyncio.Task[None] | None = None
        self.times = _read_times(root)
        """Unix times at which the last graceful shutdown began and ended, 0 for never."""

    def __repr__(self) -> str:
        return f"<GracefulShutdown {'under way' if self._shutting_down else 'not yet'}>"

    def problem(self) -> str:
        """Why the node is not ready."""
        return PROBLEM if self._shutting_down else ""

    def objection(self, pod: Obj) -> Doom | None:
        """What is said to new pods."""
        return NOT_ADMITTED if self._shutting_down else None

    async def run(self) -> None:
        """Follow the host until cancelled; one that cannot be held up is asked again, later each time."""
        delay, failure = RETRY_SECONDS, ""
        while True:
            inhibitor = self._connect()
            try:
                await inhibitor.hold(sum(period.seconds for period in self._periods))
                log.info("holds a shutdown of this host up", seconds=sum(period.seconds for period in self._periods))
                delay, failure = RETRY_SECONDS, ""
                await self._follow(inhibitor)
            except InhibitorError as error:
                if str(error) != failure:
                    log.warning("cannot hold a shutdown of this host up", error=str(error))
                failure = str(error)
            finally:
                await inhibitor.close()
            await self._clock.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)

    async def _follow(self, inhibitor: Inhibitor) -> None:
        while True:
            if await inhibitor.next():
                try:
                    await self.begin()
                finally:
                    await inhibitor.release()
            else:
                await self.cancel()
                await inhibitor.hold(sum(period.seconds for period in self._periods))

    async def cancel(self) -> None:
        """The host stays up after all; what was ended stays ended."""
        self._tell("Shutdown manager detected shutdown cancellation")
        self._shutting_down = False
        self._changed()

    def trigger(self) -> None:
        """As when the host says that it is about to go down (SIGUSR1)."""
        if self._periods and (self._ending is None or self._ending.done()):
            self._ending = asyncio.ensure_future(self.begin())

    async def begin(self) -> None:
        """End all pods, group by group; returns when all have ended or their time is over."""
        self._tell("Shutdown manager detected shutdown event")
        self._shutting_down = True
        self._changed()
        began = self._clock.now().timestamp()
        await self._note(began, 0.0)
        pods = self._pods()
        for group in groups_of(self._periods, [tenant.pod for tenant in pods.tenants()]) if pods is not None else ():
            ending = [asyncio.ensure_future(_end(pods, pod, group.period)) for pod in group.pods if pods is not None]
            late = asyncio.ensure_future(self._clock.sleep(group.period.seconds))
            pending: set[asyncio.Future[None]] = {late, *ending}
            while late in pending and len(pending) > 1:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if late not in pending:
                log.warning("pods have not ended in time", priority=group.period.priority, pods=len(pending))
            for task in pending:
                task.cancel()
            await asyncio.gather(*ending, late, return_exceptions=True)
        await self._note(began, self._clock.now().timestamp())
        log.info("pods have ended; the host may go down")

    def _tell(self, message: str) -> None:
        log.info(message)
        self._recorder.event(node_reference(self._node_name), "Normal", "NodeShutdown", message)

    async def _note(self, began: float, ended: float) -> None:
        self.times = (began, ended)
        try:
            await asyncio.to_thread(write_file, self._root, _FILE, json.dumps({"startTime": began, "endTime": ended}))
        except OSError as error:
            log.warning("the time of the shutdown cannot be noted", error=str(error))


async def _end(pods: Pods, pod: Obj, period: Period) -> None:
    seconds = grace_of(pod, period)
    log.info("ending a pod before the host goes down", pod=key(pod), seconds=seconds)
    if await pods.evict(uid(pod), reason=REASON, message=MESSAGE, grace_seconds=seconds, disruption=MESSAGE):
        await pods.stopped(uid(pod))


def _read_times(root: Path) -> tuple[float, float]:
    try:
        found = read_object(root / _FILE)
        return float(found["startTime"]), float(found["endTime"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, 0.0
