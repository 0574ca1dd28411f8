"""Pods waiting for a node: ready ones by priority, failed ones after a backoff, hopeless ones until something changes.

Reference: kube-scheduler's scheduling queue (active, backoff, unschedulable). Backoff 1 s doubling to 10 s; whatever
waits for a change is tried again after five minutes at the latest.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from orca.api.objects import Obj, labels, namespace, uid
from orca.client.clock import Clock
from orca.scheduler.shape import Shape, shape_of

FIRST_BACKOFF = 1.0
LAST_BACKOFF = 10.0
FORGOTTEN_SECONDS = 300.0
FLUSH_SECONDS = 30.0


@dataclass(slots=True)
class Waiting:
    """A pod that has no node yet. `rules` are the filters that failed it last time."""

    pod: Obj
    since: float
    shape: Shape | None = None
    """The pod's, once it was asked for."""
    attempts: int = 0
    failed_at: float = 0.0
    rules: frozenset[str] = field(default_factory=frozenset)
    group: object = None
    """Parked pods of one group are helped by the same."""
    awaits: str = ""
    """The node on which room is being made for it."""

    def shaped(self) -> Shape:
        """What the pod asks for."""
        if self.shape is None:
            self.shape = shape_of(self.pod)
        return self.shape

    def backoff(self, first: float, last: float) -> float:
        """Seconds to wait after the last failure."""
        if not self.attempts:
            return 0.0
        return float(min(first * 2 ** min(self.attempts - 1, 30), last))


class SchedulingQueue:
    """Keyed by pod uid. A pod is in at most one of: active, backing off, parked."""

    def __init__(self, clock: Clock, first_backoff: float = FIRST_BACKOFF, last_backoff: float = LAST_BACKOFF) -> None:
        self._clock = clock
        self._backoff = (first_backoff, last_backoff)
        self._groups: dict[object, dict[str, None]] = {}
        self._awaiting: dict[str, set[str]] = {}
        self._flushed = clock.monotonic()
        self._known: dict[str, Waiting] = {}
        self._active: list[tuple[int, float, int, str]] = []
        self._backing_off: list[tuple[float, int, str]] = []
        self._parked: set[str] = set()
        self._in_active: set[str] = set()
        self._in_backoff: set[str] = set()
        self._early: dict[str, None] = {}
        self._order = itertools.count()
        self._woken = asyncio.Event()
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = 0.0

    def __repr__(self) -> str:
        return (
            f"<SchedulingQueue {len(self._in_active)} active, {len(self._in_backoff)} backing off, "
            f"{len(self._parked)} parked>"
        )

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, pod_uid: str) -> bool:
        return pod_uid in self._known

    def add(self, pod: Obj) -> None:
        """Takes a new pod, or the newer state of one that waits; a changed one that is parked is tried again."""
        waiting = self._known.get(uid(pod))
        if waiting is None:
            self._known[uid(pod)] = Waiting(pod, self._clock.monotonic())
            self._activate(uid(pod))
            return
        changed = waiting.pod["spec"] != pod["spec"] or waiting.pod["metadata"].get("labels") != pod["metadata"].get(
            "labels"
        )
        waiting.pod = pod
        if changed:
            waiting.shape = None
        if changed and uid(pod) in self._parked:
            self._unpark(uid(pod))

    def remove(self, pod_uid: str) -> None:
        """The pod is gone, or has its node."""
        self._leave(pod_uid)
        self._known.pop(pod_uid, None)
        self._in_active.discard(pod_uid)
        self._in_backoff.discard(pod_uid)

    def pop(self) -> Waiting | None:
        """The most important ready pod, None when there is none. It stays known until `remove` or `failed`.

        With nobody else to serve, one that was helped need not sit out its backoff; one that failed by an error must.
        """
        while self._active:
            _, _, _, pod_uid = heapq.heappop(self._active)
            if pod_uid in self._in_active:
                self._in_active.discard(pod_uid)
                return self._known[pod_uid]
        while self._early:
            pod_uid = next(iter(self._early))
            del self._early[pod_uid]
            if pod_uid in self._in_backoff:
                self._in_backoff.discard(pod_uid)
                return self._known[pod_uid]
        return None

    def failed(self, pod_uid: str, rules: frozenset[str], *, awaits: str = "") -> None:
        """No node fits: park it until something happens that may help. Without rules (an error, not a verdict) it
        comes back by itself after its backoff. `awaits`: the node on which room is being made for it; what happens
        there need not help those that are like it."""
        waiting = self._known.get(pod_uid)
        if waiting is None:
            return
        waiting.attempts += 1
        waiting.failed_at = self._clock.monotonic()
        waiting.rules = rules
        if rules:
            self._parked.add(pod_uid)
            waiting.awaits = awaits
            waiting.group = (_group(waiting), bool(awaits))
            self._groups.setdefault(waiting.group, {})[pod_uid] = None
            if awaits:
                self._awaiting.setdefault(awaits, set()).add(pod_uid)
        else:
            self._delay(pod_uid)

    def helped(
        self, rules: frozenset[str] | None, can: Callable[[Waiting], bool] | None = None, *, on: str = ""
    ) -> None:
        """Something happened, on the node `on`, that may help pods failed by any of `rules` (None: every pod), if `can`
        says so. It is asked once for all pods that are alike, and about each that awaits room on that node."""
        if not self._parked:
            return
        here = list(self._awaiting.get(on, ())) if on else []
        for pod_uid in here:
            one = self._known[pod_uid]
            if (rules is None or one.rules & rules) and (can is None or can(one)):
                self._unpark(pod_uid)
        for members in list(self._groups.values()):
            first = next((one for one in members if one not in here), None)
            if first is None:
                continue
            one = self._known[first]
            if (rules is None or one.rules & rules) and (can is None or can(one)):
                for pod_uid in list(members):
                    self._unpark(pod_uid)

    def retry(self, pod_uid: str) -> None:
        """What a parked pod waits for will not happen."""
        if pod_uid in self._parked:
            self._unpark(pod_uid)
            self._early.pop(pod_uid, None)

    async def ready(self) -> None:
        """Returns when `pop` may have a pod."""
        while True:
            self._ripen()
            if self._in_active or self._early:
                return
            self._woken.clear()
            self._set_alarm()
            await self._woken.wait()

    def close(self) -> None:
        """Nobody waits for pods any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self) -> None:
        """Wake at the latest when something is due. An alarm that rings too early is no harm, so mostly the one that is
        set already will do."""
        now = self._clock.monotonic()
        pause = self._backing_off[0][0] - now if self._backing_off else FLUSH_SECONDS
        pause = max(min(pause, FLUSH_SECONDS), 0.001)
        if self._alarm is not None and self._alarm_at <= now + pause:
            return
        self.close()
        self._alarm_at = now + pause
        self._alarm = asyncio.ensure_future(self._ring(pause))

    async def _ring(self, pause: float) -> None:
        await self._clock.sleep(pause)
        self._alarm = None
        self._woken.set()

    def _ripen(self) -> None:
        now = self._clock.monotonic()
        while self._backing_off and self._backing_off[0][0] <= now:
            _, _, pod_uid = heapq.heappop(self._backing_off)
            if pod_uid in self._in_backoff:
                self._in_backoff.discard(pod_uid)
                self._early.pop(pod_uid, None)
                self._activate(pod_uid)
        if now < self._flushed + FLUSH_SECONDS:
            return
        self._flushed = now
        for pod_uid in list(self._parked):
            if now - self._known[pod_uid].failed_at > FORGOTTEN_SECONDS:
                self._unpark(pod_uid)

    def _unpark(self, pod_uid: str) -> None:
        self._leave(pod_uid)
        waiting = self._known[pod_uid]
        if self._clock.monotonic() >= waiting.failed_at + waiting.backoff(*self._backoff):
            self._activate(pod_uid)
        else:
            self._delay(pod_uid)
            self._early[pod_uid] = None

    def _leave(self, pod_uid: str) -> None:
        """It is not parked any longer."""
        self._early.pop(pod_uid, None)
        if pod_uid not in self._parked:
            return
        self._parked.discard(pod_uid)
        waiting = self._known[pod_uid]
        members = self._groups[waiting.group]
        del members[pod_uid]
        if not members:
            del self._groups[waiting.group]
        if waiting.awaits:
            there = self._awaiting[waiting.awaits]
            there.discard(pod_uid)
            if not there:
                del self._awaiting[waiting.awaits]
            waiting.awaits = ""

    def _delay(self, pod_uid: str) -> None:
        waiting = self._known[pod_uid]
        self._in_backoff.add(pod_uid)
        ripe = waiting.failed_at + waiting.backoff(*self._backoff)
        heapq.heappush(self._backing_off, (ripe, next(self._order), pod_uid))
        self._woken.set()

    def _activate(self, pod_uid: str) -> None:
        waiting = self._known[pod_uid]
        priority = int(waiting.pod["spec"].get("priority") or 0)
        self._in_active.add(pod_uid)
        heapq.heappush(self._active, (-priority, waiting.since, next(self._order), pod_uid))
        self._woken.set()


def _group(waiting: Waiting) -> object:
    pod = waiting.pod
    spec = pod["spec"]
    if spec.get("volumes"):
        return uid(pod)
    looks_around = waiting.rules & {"PodTopologySpread", "InterPodAffinity"}
    own = (namespace(pod), tuple(sorted(labels(pod).items()))) if looks_around else ()
    policy = (spec.get("schedulerName"), spec.get("priority"), spec.get("preemptionPolicy"))
    return (waiting.rules, waiting.shaped(), policy, own)
