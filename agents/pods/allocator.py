"""Who on this host gets the cpu and memory they ask for anew: decides for one resize after the other, and again when
room is left by others. Reference: k8s.io/kubernetes ``pkg/kubelet/allocation`` (manager).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from agents.pods.allocation import DEFERRED, INFEASIBLE, objection, told, turn
from agents.pods.deletion import is_deleting
from agents.pods.lifecycle import HOLDS_NOTHING
from agents.pods.memory import Memory
from agents.pods.sizes import as_allotted, settled, wished
from agents.pods.sizing import POD, Pending, Progress
from orca.api.objects import Obj, meta
from orca.api.podphase import is_finished
from orca.client.clock import Clock

RETRY_SECONDS = 180.0
"""Room is told of; this is for what nobody tells (the node's allocatable)."""


class Sized(Protocol):
    """A pod's worker, as far as its sizes go."""

    memory: Memory

    @property
    def pod(self) -> Obj: ...

    @property
    def uid(self) -> str: ...

    def resized(self) -> None:
        """Its sizing changed."""

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        """An event about the pod."""


class Allocator:
    """``active`` answers the workers of all pods that hold resources; ``node`` this host's Node from a cache."""

    def __init__(
        self,
        active: Callable[[], Iterable[Sized]],
        node: Callable[[], Obj | None],
        clock: Clock,
        *,
        pinned: bool = False,
    ) -> None:
        """``pinned``: containers have cpus for themselves here, as many as they asked for when they came."""
        self._pinned = pinned
        self._active = active
        self._node = node
        self._clock = clock
        self._waiting: dict[str, Sized] = {}
        self._open = False

    def __repr__(self) -> str:
        return f"<Allocator {len(self._waiting)} waiting>"

    def open(self) -> None:
        """From now on decide: every pod of this host is known."""
        self._open = True
        self.retry()

    def seen(self, worker: Sized) -> None:
        """A state of a pod's object, perhaps with other wishes."""
        sizing, generation = worker.memory.sizing, meta(worker.pod).get("generation") or 0
        if generation == sizing.judged:
            return
        sizing.judged = generation
        if settled(worker.pod, sizing.allotted):
            self._waiting.pop(worker.uid, None)
            if sizing.pending is not None:
                sizing.pending = None
                worker.resized()
            return
        self._waiting[worker.uid] = worker
        self.retry()

    def gone(self, worker: Sized) -> None:
        """A pod does not hold anything any more."""
        self._waiting.pop(worker.uid, None)
        self.retry()

    def retry(self) -> None:
        """Look at every resize that waits."""
        if not self._open or not self._waiting:
            return
        now = self._clock.now()

        def order(worker: Sized) -> tuple[object, ...]:
            sizing = worker.memory.sizing
            return turn(worker.pod, sizing.allotted, sizing.pending.since if sizing.pending else None, now)

        for worker in sorted(self._waiting.values(), key=order):
            if not self._waits(worker):
                del self._waiting[worker.uid]

    async def run(self) -> None:
        """Retry now and then, until cancelled."""
        while True:
            await self._clock.sleep(RETRY_SECONDS)
            self.retry()

    def _waits(self, worker: Sized) -> bool:
        """Decide for one; whether it is to be looked at again."""
        pod, sizing = worker.pod, worker.memory.sizing
        over = worker.memory.life in HOLDS_NOTHING or is_finished(pod)
        if over or is_deleting(pod, worker.memory) or settled(pod, sizing.allotted):
            return False
        others = [
            as_allotted(other.pod, other.memory.sizing.allotted) for other in self._active() if other.uid != worker.uid
        ]
        against = objection(pod, sizing.allotted, others, self._node(), pinned=self._pinned)
        generation = meta(pod).get("generation") or 0
        before = sizing.pending
        if against is None:
            if sizing.whole:
                sizing.in_force = sizing.allotted.get(POD)
            sizing.allotted, sizing.unsaved, sizing.whole = wished(pod), True, False
            sizing.pending, sizing.progress = None, Progress(generation)
            worker.memory.failures.pop("resize", None)
            worker.tell("ResizeStarted", told("started", pod, generation))
            worker.resized()
            return False
        if before is None or (before.reason, before.message) != (against.reason, against.message):
            event = "ResizeInfeasible" if against.reason == INFEASIBLE else "ResizeDeferred"
            text = told(against.reason, pod, generation, against.message)
            worker.tell(event, text, warning=True)
        since = before.since if before is not None else self._clock.now()
        sizing.pending = Pending(against.reason, against.message, generation, since)
        if sizing.pending != before:
            worker.resized()
        return against.reason == DEFERRED
