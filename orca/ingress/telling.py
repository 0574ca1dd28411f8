"""Events about Ingresses: each problem once for as long as it lasts, and that an Ingress was taken up."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orca.api.objects import Obj, key, uid
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.ingress.model import Problem

SETTLING_SECONDS = 5.0
"""How long something may be missing, as while a manifest is being applied, before it is told."""


class Teller:
    """Only the leader's teller is switched on: all controllers see the same."""

    def __init__(self, recorder: EventRecorder, ingress: Callable[[str], Obj | None], *, clock: Clock) -> None:
        self._recorder = recorder
        self._ingress = ingress
        self._clock = clock
        self._first_seen: dict[Problem, float] = {}
        self._told: set[Problem] = set()
        self._taken_up: dict[str, int] = {}
        self.is_on = False

    def look(self, problems: Iterable[Problem], served: Iterable[Obj]) -> float | None:
        """Tells what is new. Answers in how many seconds to look again, None when nothing is waited for."""
        now = self._clock.monotonic()
        current = list(problems)
        self._first_seen = {problem: self._first_seen.get(problem, now) for problem in current}
        self._told &= self._first_seen.keys()
        if not self.is_on:
            return None
        self._sync(served)
        pending = []
        for problem in current:
            wait = self._first_seen[problem] + SETTLING_SECONDS - now if problem.settling else 0.0
            ingress = self._ingress(problem.ingress)
            if problem in self._told or ingress is None:
                continue
            if wait > 0:
                pending.append(wait)
                continue
            self._told.add(problem)
            self._recorder.event(ingress, "Warning", problem.reason, problem.message)
        return min(pending, default=None)

    def _sync(self, served: Iterable[Obj]) -> None:
        taken_up: dict[str, int] = {}
        for ingress in served:
            generation = int(ingress["metadata"].get("generation") or 0)
            taken_up[key(ingress) + uid(ingress)] = generation
            if self._taken_up.get(key(ingress) + uid(ingress)) != generation:
                self._recorder.event(ingress, "Normal", "Sync", "Scheduled for sync")
        self._taken_up = taken_up
