"""Lifecycle hooks of one pod's containers: postStart, and preStop with its events."""

from __future__ import annotations

import asyncio
import json

import structlog

from agents.pods.naming import pod_title
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.probes.handlers import Target
from orca.api.objects import Obj, name

log = structlog.get_logger()

HOOK_LIMIT = 3600.0


class Hooks:
    """Runs them; one that is under way can be given up."""

    def __init__(self, subject: Subject, tools: Tools) -> None:
        self._subject = subject
        self._tools = tools
        self._starting: dict[str, asyncio.Task[tuple[bool, str]]] = {}
        """postStart under way, by container id."""
        self._stopping: dict[str, asyncio.Task[tuple[bool, str]]] = {}
        """preStop under way, by container id."""

    def __repr__(self) -> str:
        return f"<Hooks, {len(self._starting)} of starts and {len(self._stopping)} of stops under way>"

    async def post_start(self, hook: Obj, container: Obj, container_id: str) -> None:
        """Run it while ``memory.hooks`` has the container; one that fails has it in ``memory.failed_hooks`` after."""
        subject, memory = self._subject, self._subject.memory
        task = asyncio.create_task(self._run(hook, container, container_id, HOOK_LIMIT))
        self._starting[container_id] = task
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            del self._starting[container_id]
            memory.hooks.discard(container_id)
        if task.cancelled():
            return  # the container is being ended
        ok, text = task.result()
        info = memory.find(container_id)
        if not ok and info is not None:
            # Not in the event: what a hook prints may be secret.
            log.warning("postStart failed", pod=name(subject.pod), container=container["name"], output=text)
            subject.tell("FailedPostStartHook", "PostStartHook failed", container=container["name"], warning=True)
            memory.failed_hooks[container_id] = _failed(hook, container, subject.pod, text)

    def not_run(self, hook: Obj, container: Obj, container_id: str, why: str) -> None:
        """A postStart that could not even be tried has failed: nobody may take its container for a whole one."""
        self._subject.memory.hooks.discard(container_id)
        self._subject.memory.failed_hooks[container_id] = _failed(hook, container, self._subject.pod, why)

    def busy(self, container_id: str) -> bool:
        """A hook of the container is under way."""
        return container_id in self._starting or container_id in self._stopping

    def give_up(self, container_id: str, *, also_pre_stop: bool = False) -> None:
        """Its container is to go: a postStart that is under way is not waited for; nor is a preStop, when the container
        is killed or gone."""
        for tasks in (self._starting, self._stopping) if also_pre_stop else (self._starting,):
            task = tasks.get(container_id)
            if task is not None:
                task.cancel()

    def give_up_the_dead(self) -> None:
        """Whose container has ended, or was removed: one that sleeps or asks elsewhere would go on for long."""
        find = self._subject.memory.find
        for container_id in (*self._starting, *self._stopping):
            info = find(container_id)
            if info is None or not info.running:
                self.give_up(container_id, also_pre_stop=True)

    async def pre_stop(self, container: Obj, container_id: str, limit: float) -> float | None:
        """Run it, if there is one, for at most ``limit`` seconds; the seconds that took, None when it was given up."""
        hook = (container.get("lifecycle") or {}).get("preStop")
        if not hook:
            return 0.0
        subject, clock = self._subject, self._tools.clock
        began = clock.monotonic()
        task = self._stopping[container_id] = asyncio.create_task(self._run(hook, container, container_id, limit))
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            del self._stopping[container_id]
        if task.cancelled():
            return None
        ok, text = task.result()
        if not ok:
            log.warning("preStop failed", pod=name(subject.pod), container=container["name"], output=text)
            subject.tell("FailedPreStopHook", "PreStopHook failed", container=container["name"], warning=True)
        return clock.monotonic() - began

    async def _run(self, hook: Obj, container: Obj, container_id: str, limit: float) -> tuple[bool, str]:
        if "sleep" in hook:
            await self._tools.clock.sleep(min(float(hook["sleep"].get("seconds") or 0), limit))
            return True, ""
        ips = self._subject.memory.ips
        target = Target(container_id, container, ips[0] if ips else "")
        outcome = await self._tools.handlers.run_hook(hook, target, limit)
        return outcome.ok, outcome.text


def _failed(hook: Obj, container: Obj, pod: Obj, text: str) -> str:
    """What upstream says of a postStart that failed, in the container's status."""
    whose = f'for Container "{container["name"]}" in Pod "{pod_title(pod)}" failed'
    if "exec" in hook:
        argv = " ".join(hook["exec"].get("command") or ())
        return f"Exec lifecycle hook ([{argv}]) {whose} - message: {json.dumps(text, ensure_ascii=False)}"
    return f"HTTP lifecycle hook ({(hook.get('httpGet') or {}).get('path', '')}) {whose} - error: {text}"
