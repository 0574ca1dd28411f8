"""Runs the probes of containers, a task a probe; verdicts go to a callback, every failure to another."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from agents.probes.handlers import Handlers, Target
from agents.probes.outcome import Outcome
from agents.probes.tracker import Kind, ProbeSpec, Tracker, probe_specs
from orca.client.clock import Clock

log = structlog.get_logger()

FIRST_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""After the tries of a readiness probe that only wait for a server to listen."""

LATE_SECONDS = 1.0
"""By which a try's time may be over without anybody noticing. Later, whether it failed cannot be told."""

OnVerdict = Callable[[str, Kind, bool], None]
"""(container id, kind, verdict): called when a verdict changes."""
OnTold = Callable[[str, Kind, Outcome], None]
"""(container id, kind, outcome): called at every try that is worth an event, because it failed or is odd."""

OnTry = Callable[[str, Kind, Outcome, float], None]
"""(container id, kind, outcome, seconds): called at every try."""


class ContainerProbes:
    """All probes of one running container."""

    def __init__(
        self,
        handlers: Handlers,
        clock: Clock,
        target: Target,
        started_at: datetime,
        on_verdict: OnVerdict,
        on_told: OnTold,
        on_try: OnTry = lambda container_id, kind, outcome, seconds: None,
    ) -> None:
        self._handlers = handlers
        self._clock = clock
        self._target = target
        self._started_at = started_at
        self._on_verdict = on_verdict
        self._on_told = on_told
        self._on_try = on_try
        self._started = asyncio.Event()
        self._spread = False
        self._tasks: dict[Kind, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<ContainerProbes {self._target.container_id[:12]} {sorted(self._tasks)}>"

    def start(self, *, started: bool, spread: bool = False) -> None:
        """Begin. ``started``: the startup probe has succeeded before (an agent that adopts the container). ``spread``:
        wait for a random part of each period first, so that an agent with many pods does not ask all at once."""
        self._spread = spread
        specs = probe_specs(self._target.container)
        if "startup" not in specs or started:
            self._started.set()
            specs.pop("startup", None)
        for kind, spec in specs.items():
            name = f"probe {kind} {self._target.container_id[:12]}"
            self._tasks[kind] = asyncio.create_task(self._run(spec), name=name)

    async def stop(self, *kinds: Kind) -> None:
        """End these probes, all of them when none is named; a try under way is abandoned."""
        chosen = [self._tasks.pop(kind) for kind in kinds or tuple(self._tasks) if kind in self._tasks]
        for task in chosen:
            task.cancel()
        for task in chosen:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, spec: ProbeSpec) -> None:
        if spec.kind != "startup":
            await self._started.wait()
        tracker = Tracker(spec)
        # No longer than from now on: the wall clock may have been set back since the container started.
        due = min((self._started_at - self._clock.now()).total_seconds(), 0.0) + spec.initial_delay
        if self._spread:
            due = max(due, random.random() * spec.period)
        if due > 0:
            await self._clock.sleep(due)
        first: Outcome | None = None
        if spec.kind == "readiness" and not spec.initial_delay and not self._spread:
            first = await self._first_answer(spec)
        while not tracker.over:
            began = self._clock.monotonic()
            outcome, first = first or await self._try(spec), None
            self._on_try(self._target.container_id, spec.kind, outcome, self._clock.monotonic() - began)
            changed = not outcome.unknown and tracker.feed(outcome.ok)
            if not outcome.ok or outcome.warning:
                self._on_told(self._target.container_id, spec.kind, outcome)
            if changed and tracker.verdict is not None:
                if spec.kind == "startup" and tracker.verdict:
                    self._started.set()
                self._on_verdict(self._target.container_id, spec.kind, tracker.verdict)
            if not tracker.over:
                await self._clock.sleep(max(spec.period - (self._clock.monotonic() - began), 0))

    async def _first_answer(self, spec: ProbeSpec) -> Outcome | None:
        """Ask a container that has only just been started until it answers, for part of a second; as nothing is said
        of it, it is not ready meanwhile either way. Most servers listen some moments after their start: a try that
        counts would come too early, and the next only a whole period later. (A kubelet's comes later by itself.)"""
        if "exec" in spec.handler:
            return None  # a process each: dear
        for pause in FIRST_PAUSES:
            began = self._clock.monotonic()
            outcome = await self._try(spec)
            if outcome.ok:
                return outcome
            await self._clock.sleep(max(pause - (self._clock.monotonic() - began), 0))
        return None

    async def _try(self, spec: ProbeSpec) -> Outcome:
        loop = asyncio.get_running_loop()
        due, late = loop.time() + spec.timeout, 0.0

        def time_is_up() -> None:
            nonlocal late
            late = loop.time() - due

        timer = loop.call_later(spec.timeout, time_is_up)
        try:
            outcome = await self._handlers.run(spec.handler, self._target, spec.timeout)
        except Exception as error:
            # A bug must not end probing; what was not asked says nothing about the container.
            log.exception("probe broke", container=self._target.container_id[:12], kind=spec.kind)
            return Outcome(False, str(error), unknown=True)
        finally:
            timer.cancel()
        if not outcome.ok and late > LATE_SECONDS:
            # It may have answered in time: this process stood still, or its host did.
            return replace(outcome, unknown=True)
        return outcome
