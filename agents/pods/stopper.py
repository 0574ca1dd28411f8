"""Ending a container: preStop, its traffic let go of, the stop signal, SIGKILL."""

from __future__ import annotations

from typing import Protocol

from agents.pods import steps
from agents.pods.containers import find_container, spec_of
from agents.pods.deletion import is_deleting
from agents.pods.hooks import Hooks
from agents.pods.observer import Observer
from agents.pods.resizing import save_sizes
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.probes.tracker import Kind
from orca.api.objects import Obj

LEAST_AFTER_PRESTOP = 2.0
DRAIN_SECONDS = 10.0
"""A host whose agent is just starting again writes its rules within that."""
IN_FLIGHT_SECONDS = 0.25
"""What was on its way when the last host let go arrives, is accepted and mostly answered: a server that stops listening
resets what it has not accepted."""


class StopProbes(Protocol):
    """Ends a container's probes of these kinds, all of them when none is named."""

    async def __call__(self, container_id: str, *kinds: Kind) -> None: ...


class Stopper:
    """For the containers of one pod."""

    def __init__(
        self, subject: Subject, tools: Tools, observer: Observer, hooks: Hooks, stop_probes: StopProbes
    ) -> None:
        self._subject = subject
        self._tools = tools
        self._observer = observer
        self._hooks = hooks
        self._stop_probes = stop_probes

    async def stop(self, action: steps.StopContainer) -> None:
        """Returns when it has ended. Raises ``RuntimeFailure``."""
        container = find_container(self._subject.pod, action.container) or {"name": action.container}
        if action.resized or action.replaced:
            # An agent that comes meanwhile must not take it for one that ended by itself.
            sizing = self._subject.memory.sizing
            stopped = sizing.restarting if action.resized else sizing.replaced
            stopped.add(action.id)
            if not await save_sizes(self._subject, self._tools):
                stopped.discard(action.id)
                self._subject.failed(action.key, "", "allocation cannot be saved")
                return
        await self._end(container, action)

    async def _end(self, container: Obj, action: steps.StopContainer) -> None:
        """preStop within the grace period, then the stop signal for what is left of it, then SIGKILL."""
        left = action.grace
        self._hooks.give_up(action.id)
        if action.hook:
            self._tell_killing(container, action.why)
            # Readiness is asked to the end: whoever still sends traffic wants to know.
            await self._stop_probes(action.id, "liveness", "startup")
            took = await self._hooks.pre_stop(container, action.id, left)
            # Should the rest fail and be tried again, it does not begin with the hook.
            self._subject.memory.pre_stopped.add(action.id)
            if took is None:
                left = 0.0
            elif took:
                left = max(left - took, LEAST_AFTER_PRESTOP)
        if left > 0:
            left -= await drain(self._subject, self._tools, left)
        await self._tools.runtime.stop(action.id, left, info=self._subject.memory.find(action.id))
        await self._observer.look(action.id)

    async def pre_stop(self, action: steps.PreStop) -> None:
        """Run a sidecar's hook; its signal comes later."""
        container = find_container(self._subject.pod, action.container) or {"name": action.container}
        self._tell_killing(container, "")
        await self._stop_probes(action.id, "liveness", "startup")
        await self._hooks.pre_stop(container, action.id, action.limit)
        self._subject.memory.pre_stopped.add(action.id)

    async def kill(self, container_id: str) -> None:
        """At once."""
        self._hooks.give_up(container_id, also_pre_stop=True)
        await self._tools.runtime.kill(container_id)

    def _tell_killing(self, container: Obj, why: str) -> None:
        self._subject.tell("Killing", why or f"Stopping container {container['name']}", container=container["name"])


async def drain(subject: Subject, tools: Tools, left: float) -> float:
    """Hold the signal of a deleted pod back until Services have let go of it; the seconds that took, bounded.

    A process that gets its signal while rules still lead to it would refuse the connections that follow them. Half of
    the grace period is left to the process in any case.
    """
    traffic, memory, clock = tools.traffic, subject.memory, tools.clock
    own_address = bool(memory.ips) and not spec_of(subject.pod).get("hostNetwork")
    if traffic is None or not own_address or not is_deleting(subject.pod, memory):
        return 0.0
    began = clock.monotonic()
    longest = min(DRAIN_SECONDS, left / 2)
    if await traffic.released(memory.ips, longest):
        waited = clock.monotonic() - began
        await clock.sleep(max(min(IN_FLIGHT_SECONDS, longest - waited), 0))
    return clock.monotonic() - began
