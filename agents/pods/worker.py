"""One task a pod: notice, decide, start what was decided, tell the API; then wait for the next thing to happen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from agents.pods import steps
from agents.pods.actions import Actions
from agents.pods.allocation import told
from agents.pods.containers import find_container
from agents.pods.lifecycle import HOLDS_NOTHING, RISING, Life
from agents.pods.memory import Doom, Memory, adopted_crash, container_hash
from agents.pods.naming import pod_title
from agents.pods.observer import Observer
from agents.pods.paths import pod_files
from agents.pods.plan import plan
from agents.pods.ports import ContainerRefs, PodView, Tenant
from agents.pods.probing import Probing
from agents.pods.reporter import StatusReporter
from agents.pods.sizes import in_progress, not_yet_again
from agents.pods.sizing import Progress, Sizing
from agents.pods.status import build_status, lacks_addresses
from agents.pods.steps import Action, Plan
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.pods.verdict import save_verdict
from agents.runtime.errors import NoSuchContainer, RuntimeFailure
from agents.runtime.model import CONTAINER_NAME, SANDBOX_NAME, ContainerEvent, ContainerInfo
from orca.api.errors import ApiError
from orca.api.objects import Obj, key, meta, uid
from orca.api.podphase import is_finished

log = structlog.get_logger()

BROKEN_RETRY = 5.0


class PodWorker:
    """The pod ``pod`` on this host, from first sight until nothing is left of it."""

    def __init__(self, pod: Obj, tools: Tools, *, sizing: Sizing, removed: bool = False) -> None:
        self._tools = tools
        self._wake = asyncio.Event()
        self.memory = Memory(
            first_seen=tools.clock.now(),
            removed=removed,
            sizing=sizing,
            read_only_in_depth=tools.volumes.read_only_in_depth,
        )
        self._subject = Subject(pod, self.memory, tools.clock, tools.recorder, self._wake.set)
        self._observer = Observer(self._subject, tools)
        self._probing = Probing(self._subject, tools)
        self._actions = Actions(self._subject, tools, self._observer, self._probing.stop)
        self._reporter = StatusReporter(
            tools.records,
            tools.clock,
            lambda: self._subject.pod,
            self.take_object,
            self._object_gone,
            lambda: tools.gate.crowded,
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.Task[None] | None = None
        self._timer_at: datetime | None = None
        self._backing_off: dict[str, str] = {}
        self.over = asyncio.Event()
        """Set once nothing of the pod runs and nothing will."""

    def __repr__(self) -> str:
        life = self.memory.life.value if self.memory.life else "new"
        return f"<PodWorker {key(self.pod)} {life}, doing {sorted(self.memory.in_flight)}>"

    @property
    def pod(self) -> Obj:
        """The newest object known."""
        return self._subject.pod

    @property
    def uid(self) -> str:
        return uid(self._subject.pod)

    @property
    def allotted(self) -> Obj:
        """The newest object, with the cpu and memory its containers may have on this host."""
        return self._subject.allotted

    # What happens to it

    def resized(self) -> None:
        """Its sizing was changed by whoever allots."""
        self._wake.set()

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        """An event about the pod."""
        self._subject.tell(reason, message, warning=warning)

    async def condemn(self, doom: Doom) -> bool:
        """End the pod for a reason of this host's, also if the agent dies meanwhile; False when it is over already.
        Returns when that is certain, not when it is done. Who was condemned before is at most given less time."""
        memory = self.memory
        if memory.life in HOLDS_NOTHING or is_finished(self.pod):
            return False
        if memory.doom is not None:
            graces = [grace for grace in (memory.doom.grace, doom.grace) if grace is not None]
            doom = replace(memory.doom, grace=min(graces, default=None))
        try:
            await save_verdict(pod_files(self._tools.config, self.uid).directory, doom)
        except OSError as error:
            # A full disk may be why the pod has to go: only an agent that dies just now would forget it.
            log.warning("verdict not saved", pod=key(self.pod), error=str(error))
        memory.doom = doom
        self._wake.set()
        return True

    def take_object(self, pod: Obj) -> None:
        """A state of the object from watch or answer; an older one than known is ignored."""
        if uid(pod) != self.uid or _version(pod) < _version(self.pod):
            return
        self._subject.pod = pod
        self._wake.set()

    def object_removed(self, last: Obj) -> None:
        """The object is gone from the API: end whatever runs."""
        if uid(last) == self.uid:
            self.take_object(last)
            self._object_gone()

    def clock_moved(self, by: timedelta) -> None:
        """The host's clock was set."""
        self.memory.clock_moved(by, started=bool((self.pod.get("status") or {}).get("startTime")))
        self._wake.set()

    def _object_gone(self) -> None:
        self.memory.removed = True
        self._wake.set()

    def adopt(self, info: ContainerInfo) -> None:
        """A container found when agent or engine came up, or one that changed unnoticed."""
        task_key = f"look:{info.id}"
        self._spawn(task_key, self._look(self._adopt(info), self._tasks.get(task_key)))

    async def _adopt(self, info: ContainerInfo) -> None:
        first = self.memory.find(info.id) is None
        await self._observer.take_in(info)
        if first and info.is_sandbox and info.running and self.memory.sandbox is info:
            told = (self.pod.get("status") or {}).get("podIPs") or ()
            self.memory.ips = tuple(item["ip"] for item in told)
            self.memory.wired = self.memory.rewire = bool(told)
        if first and not info.is_sandbox and self.memory.newest(info.container) is info:
            container = find_container(self.pod, info.container)
            longest = self._tools.config.longest_restart_delay
            crash = adopted_crash(info, self._tools.clock.now(), last=longest)
            if container is not None and crash is not None:
                self.memory.crashes.setdefault(container_hash(container), crash)

    def look_at(self, container_id: str) -> None:
        """Observe a container anew: what is known of it may be old."""
        task_key = f"look:{container_id}"
        self._spawn(task_key, self._look(self._look_and_adopt(container_id), self._tasks.get(task_key)))

    async def _look_and_adopt(self, container_id: str) -> None:
        try:
            await self._adopt(await self._tools.runtime.inspect(container_id))
        except NoSuchContainer:
            self.memory.forget(container_id)

    def forget(self, container_id: str) -> None:
        """A container is gone from the engine."""
        self.memory.forget(container_id)
        self._wake.set()

    def happened(self, event: ContainerEvent) -> None:
        """An engine event. What our own actions cause they observe themselves."""
        if event.action == "destroy":
            if f"remove:{event.id}" not in self.memory.in_flight:
                self.forget(event.id)
            return
        if event.action in ("create", "start") and (
            self.memory.busy("start:") or "sandbox" in self.memory.in_flight or self.memory.find(event.id) is not None
        ):
            return
        container = event.labels.get(CONTAINER_NAME, "")
        if f"remove:{event.id}" in self.memory.in_flight:
            return
        if f"stop:{container}" in self.memory.in_flight and not self._actions.hooks.busy(event.id):
            return
        if container == SANDBOX_NAME and self.memory.life is Life.RELEASING:
            return  # it ended with the pod's cgroup, and will be removed
        task_key = f"look:{event.id}"
        self._spawn(task_key, self._look(self._observer.look(event.id), self._tasks.get(task_key)))

    # The loop

    async def run(self) -> None:
        """Until the pod is gone."""
        reporting = asyncio.create_task(self._reporter.run(), name=f"status {key(self.pod)}")
        try:
            while self.memory.life is not Life.GONE:
                self._wake.clear()
                if not any(running.startswith("look:") for running in self._tasks):
                    # Never decide on half of what was just found.
                    self._decide()
                if self.memory.life is not Life.GONE:
                    await self._wake.wait()
        finally:
            await self._end(reporting)

    def _decide(self) -> None:
        now = self._tools.clock.now()
        decided = plan(self.pod, self.memory, now)
        if decided.doom is not None and self.memory.doom is None:
            self.memory.doom = decided.doom
            event = decided.doom.event
            self._subject.tell(decided.doom.reason, event or decided.doom.message, warning=bool(event))
        if decided.life is Life.STOPPING and self.memory.stopping_since is None:
            self.memory.stopping_since = now
        if decided.life not in RISING:
            self._drop_preparations()
        if decided.life is not self.memory.life:
            log.debug("pod moves", pod=key(self.pod), to=decided.life.value)
        freed = decided.life in HOLDS_NOTHING and self.memory.life not in HOLDS_NOTHING
        self.memory.life = decided.life
        if freed:
            self.over.set()
            self._tools.freed(self.uid)
        self._follow_resize(decided)
        for action in decided.actions:
            self.memory.in_flight[action.key] = now
            if isinstance(action, steps.StopContainer):
                self.memory.stop_until[action.id] = now + timedelta(seconds=action.grace)
            elif isinstance(action, steps.MakeSandbox) and self.memory.everything():
                self.tell("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            self._spawn(action.key, self._perform(action))
        self._tell_backoff(decided)
        self._actions.hooks.give_up_the_dead()
        self._probing.begin()
        for container_id in self._probing.idle():
            self._spawn(f"probes:{container_id}", self._probing.stop(container_id))
        if not self.memory.removed and not self.memory.deleted and not lacks_addresses(self.memory):
            status = build_status(self.pod, self.memory, decided, now, self._tools.config.host_ips)
            self._reporter.offer(status, probing=self._probing.is_first_asked(now))
        self._arm(decided.wake_at)

    def _follow_resize(self, decided: Plan) -> None:
        """Note when what was allotted begins to be applied, and tell when it is there."""
        sizing = self.memory.sizing
        if decided.life in HOLDS_NOTHING or decided.life is Life.STOPPING:
            return
        if sizing.restarting:
            sizing.restarting = not_yet_again(self.memory)
        if in_progress(decided.changes, self.memory):
            sizing.progress = sizing.progress or Progress(int(meta(self.pod).get("generation") or 0))
        elif sizing.progress is not None:
            self.tell("ResizeCompleted", told("completed", self.allotted, sizing.progress.generation))
            sizing.progress = None

    async def _perform(self, action: Action) -> None:
        try:
            if isinstance(action, steps.DeleteObject):
                await self._delete_object()
            else:
                await self._actions.run(action)
        except Exception as error:
            # A bug in one action must not leave the pod without a worker.
            log.exception("action broke", pod=key(self.pod), action=action.key)
            self._subject.failed(action.key, "InternalError", repr(error), first=BROKEN_RETRY)

    async def _look(self, work: Awaitable[None], before: asyncio.Task[None] | None) -> None:
        """One look at a container at a time: a later answer must not be overtaken by an earlier one."""
        try:
            if before is not None:
                await asyncio.wait({before})
            await work
        except RuntimeFailure as error:
            log.warning("cannot look at container", pod=key(self.pod), error=str(error))

    def _spawn(self, task_key: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside the loop; the loop decides again when it ends, however it ends."""
        task = asyncio.create_task(work, name=f"{task_key} {key(self.pod)}")
        self._tasks[task_key] = task

        def ended(done: asyncio.Task[None]) -> None:
            if self._tasks.get(task_key) is done:
                del self._tasks[task_key]
                self.memory.in_flight.pop(task_key, None)
            self._wake.set()

        task.add_done_callback(ended)

    def _drop_preparations(self) -> None:
        """A pod that is to go needs neither images nor volumes; a pull may hang for long."""
        for task_key, task in self._tasks.items():
            if (task_key == "volumes" or task_key.startswith("image:")) and not task.cancelling():
                task.cancel()

    def _arm(self, at: datetime | None) -> None:
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at is not None:
            self._timer = asyncio.create_task(self._sleep_until(at), name=f"timer {key(self.pod)}")

    async def _sleep_until(self, at: datetime) -> None:
        await self._tools.clock.sleep((at - self._tools.clock.now()).total_seconds())
        self._timer, self._timer_at = None, None
        self._wake.set()

    async def _end(self, reporting: asyncio.Task[None]) -> None:
        """Leave no task behind. Containers stay: another agent adopts them."""
        self._arm(None)
        await self._probing.stop_all()
        mine = [reporting, *self._tasks.values()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    # Telling

    async def _delete_object(self) -> None:
        await self._reporter.flushed()
        if self.memory.removed:
            return
        try:
            await self._tools.records.delete(self.pod)
        except ApiError as error:
            self._subject.failed("delete", "", str(error), last=10.0)
            return
        self.memory.deleted = True

    def _tell_backoff(self, decided: Plan) -> None:
        """One event each time a container begins to wait."""
        now_waiting = {
            container: why.reason
            for container, why in decided.waiting.items()
            if why.reason in ("CrashLoopBackOff", "ImagePullBackOff")
        }
        for container, reason in now_waiting.items():
            if self._backing_off.get(container) == reason:
                continue
            if reason == "ImagePullBackOff":
                # Without what failed: that was told when it did. An image's name has no space in it.
                text = decided.waiting[container].message.partition(": ")[0]
                self._subject.tell("BackOff", text, container=container)
                self._subject.tell("Failed", "Error: ImagePullBackOff", container=container, warning=True)
                continue
            text = f"Back-off restarting failed container {container} in pod {pod_title(self.pod)}"
            self._subject.tell("BackOff", text, container=container, warning=True)
        self._backing_off = now_waiting

    # Being asked

    def view(self) -> PodView:
        """For the agent's HTTPS server."""
        containers = {}
        for container_name, known in self.memory.containers.items():
            if known:
                previous = known[1].id if len(known) > 1 else ""
                containers[container_name] = ContainerRefs(known[0].id, previous, known[0].running)
        sandbox = self.memory.sandbox
        pid = sandbox.pid if sandbox is not None and sandbox.running else 0
        return PodView(self.pod, containers, pid, self.memory.ips)

    def tenant(self) -> Tenant:
        """For those who measure."""
        sandbox = self.memory.sandbox
        newest = (known[0] for known in self.memory.containers.values() if known)
        return Tenant(
            self.pod,
            sandbox if sandbox is not None and sandbox.running else None,
            tuple(info for info in newest if info.running),
            {volume: str(getattr(ready, "path", ready)) for volume, ready in (self.memory.volumes or {}).items()},
        )


def _version(pod: Obj) -> int:
    text = meta(pod).get("resourceVersion") or "0"
    return int(text) if text.isdigit() else 0
