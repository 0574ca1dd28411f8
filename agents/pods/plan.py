"""What to do next for a pod: a pure decision from its object, what is known of it, and the time.

The worker calls :func:`plan` whenever anything changed, starts the actions that are not running yet, and calls again
when they end. A decision never waits for an answer; it says when it wants to be asked again (``wake_at``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agents.pods.containers import (
    RESTART_ALL,
    Ended,
    ended,
    ephemeral_containers,
    every_container,
    find_container,
    in_sandbox,
    init_containers,
    is_changed,
    is_sidecar,
    is_started,
    main_containers,
    may_restart,
    next_attempt,
    policy_of,
    rule_for,
    spec_of,
)
from agents.pods.lifecycle import Life, move
from agents.pods.memory import Doom, Memory, container_hash
from agents.pods.pulls import image_volumes, look
from agents.pods.refusal import refusal
from agents.pods.sizes import Changes, changes
from agents.pods.steps import (
    Action,
    DeleteObject,
    EnsureImage,
    EnsureVolume,
    KillContainer,
    MakeSandbox,
    Plan,
    PrepareVolumes,
    PreStop,
    Release,
    Remove,
    Resize,
    SaveSizes,
    StartContainer,
    StopContainer,
    Waiting,
    Wire,
)
from agents.runtime.model import ContainerInfo
from orca.api.objects import Obj, meta
from orca.api.times import parse_time

KEPT_PER_CONTAINER = 2
"""The newest attempt and the one before it, for ``kubectl logs --previous``."""
MINIMUM_GRACE = 1.0
DEFAULT_GRACE = 30.0
SIDECAR_GRACE = 2.0
KILL_SLACK = 5.0


def plan(pod: Obj, memory: Memory, now: datetime) -> Plan:
    """Decide. Raises ``IllegalMove`` on a bug."""
    return _Planner(pod, memory, now).decide()


def is_deleting(pod: Obj, memory: Memory) -> bool:
    """The object is marked for deletion or already gone."""
    return memory.removed or bool(meta(pod).get("deletionTimestamp"))


def grace_of(pod: Obj, memory: Memory) -> float:
    """Seconds a pod has to end: the deletion's when there is one, otherwise the spec's; those of this host's own
    decision come before the spec's, and only ever shorten a deletion's."""
    seconds = meta(pod).get("deletionGracePeriodSeconds") if is_deleting(pod, memory) else None
    if seconds is None:
        seconds = spec_of(pod).get("terminationGracePeriodSeconds")
        if memory.doom is not None and memory.doom.grace is not None:
            seconds = memory.doom.grace
    elif memory.doom is not None and memory.doom.grace is not None:
        seconds = min(seconds, memory.doom.grace)
    return max(float(DEFAULT_GRACE if seconds is None else seconds), MINIMUM_GRACE)


def restarts_all(pod: Obj, memory: Memory) -> bool:
    """A container ended so that all of the pod's are to start anew, and that has not been seen to yet."""
    return bool(_asking_for_all(pod, memory))


def _asking_for_all(pod: Obj, memory: Memory) -> list[tuple[Obj, ContainerInfo, Ended]]:
    """The containers whose end asks for it. That they exist is the only trace of it: they are the last to be removed,
    so that an agent that comes meanwhile goes on."""
    found = []
    for container in (*init_containers(pod), *main_containers(pod)):
        info = memory.newest(container["name"]) if container.get("restartPolicyRules") else None
        end = ended(info) if info is not None else None
        if info is not None and end is not None and rule_for(container, end.exit_code) == RESTART_ALL:
            found.append((container, info, end))
    return found


class _Planner:
    def __init__(self, pod: Obj, memory: Memory, now: datetime) -> None:
        self.pod = pod
        self.memory = memory
        self.now = now
        self.actions: list[Action] = []
        self.waiting: dict[str, Waiting] = {}
        self.wake_at: datetime | None = None
        self.doom = memory.doom
        self.ready = False
        self.starting = any(key.startswith("start:") for key in memory.in_flight)
        self.changes = Changes()

    def decide(self) -> Plan:
        self._check_refusal()
        self._check_deadline()
        if self._is_over():
            life = self._take_down()
        else:
            life = self._keep_up()
        return Plan(
            life=move(self.memory.life, life),
            actions=tuple(self.actions),
            wake_at=self.wake_at,
            waiting=self.waiting,
            doom=self.doom,
            changes=self.changes,
        )

    # Which way

    def _check_refusal(self) -> None:
        over = (self.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        begun = over or self.memory.everything() or self.memory.in_flight
        if self.doom is None and not begun and not is_deleting(self.pod, self.memory):
            self.doom = self.memory.refused or refusal(self.pod)

    def _check_deadline(self) -> None:
        seconds = spec_of(self.pod).get("activeDeadlineSeconds")
        started = (self.pod.get("status") or {}).get("startTime")
        began = parse_time(started) if started else self.memory.first_seen
        if seconds is None or began is None or self.memory.life in (Life.FINISHED, Life.RELEASING, Life.GONE):
            return
        end = began + timedelta(seconds=seconds)
        if self.now < end:
            self._wake(end)
        elif self.doom is None:
            self.doom = Doom("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")

    def _is_over(self) -> bool:
        if is_deleting(self.pod, self.memory) or self.doom is not None:
            return True
        if self.memory.life in (Life.STOPPING, Life.FINISHED, Life.RELEASING, Life.GONE):
            return True
        if (self.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return True
        return self._work_is_done()

    def _work_is_done(self) -> bool:
        """No main container runs or will; or an init container failed for good."""
        if restarts_all(self.pod, self.memory):
            return False
        for container in init_containers(self.pod):
            info = self.memory.newest(container["name"])
            end = ended(info) if info is not None else None
            if (
                end is not None
                and not is_sidecar(container)
                and end.exit_code != 0
                and not may_restart(container, policy_of(self.pod, container, init=True), end)
                and not self._busy(container)
            ):
                return True
        for container in main_containers(self.pod):
            info = self.memory.newest(container["name"])
            end = ended(info) if info is not None else None
            if info is None or end is None or self._busy(container) or is_changed(container, info):
                return False
            if info.id in self.memory.sizing.restarting:
                return False
            if may_restart(container, policy_of(self.pod, container, init=False), end):
                return False
        return bool(main_containers(self.pod))

    # Down

    def _take_down(self) -> Life:
        memory, deleting = self.memory, is_deleting(self.pod, self.memory)
        if memory.life is Life.GONE:
            return Life.GONE
        if self._stop_everything():
            return Life.STOPPING
        if not deleting:
            for info in self._sandboxes():
                self._remove(info)
            if not memory.released and "release" not in memory.in_flight and self._may_retry("release"):
                self.actions.append(Release(files=False))
            return Life.FINISHED
        told = memory.removed or memory.deleted
        # As a kubelet does, the API hears first: nothing of the pod runs but its sandbox, which has lost its network.
        # Containers are removed before only if they may be what stands in the way.
        if told or not memory.failures.keys().isdisjoint(("release", "delete")):
            for info in memory.everything():
                self._remove(info)
        if not memory.cleaned and not {"release", "sizes"} & memory.in_flight.keys() and self._may_retry("release"):
            self.actions.append(Release(files=True))
        if not memory.cleaned:
            return Life.RELEASING
        if told:
            left = memory.everything() or memory.in_flight
            return Life.RELEASING if left else move(memory.life, Life.GONE)
        if "delete" not in memory.in_flight and self._may_retry("delete"):
            self.actions.append(DeleteObject())
        return Life.RELEASING

    def _stop_everything(self) -> bool:
        """Stop what runs: main containers at once, then sidecars from the last to the first. True while any is left."""
        memory = self.memory
        grace = grace_of(self.pod, memory)
        deadline = (memory.stopping_since or self.now) + timedelta(seconds=grace)
        running = {info.id: info for info in memory.all_containers() if info.running}
        order = [container["name"] for container in init_containers(self.pod) if is_sidecar(container)]
        sidecars = [info for info in running.values() if info.container in order]
        mains = [info for info in running.values() if info.container not in order]
        if mains:
            for info in mains:
                self._stop(info, grace, "", deadline)
        elif sidecars and not self._stopping_or_starting():
            last = max(sidecars, key=lambda info: order.index(info.container))
            left = max((deadline - self.now).total_seconds(), SIDECAR_GRACE)
            self._stop(last, left, "", deadline + timedelta(seconds=SIDECAR_GRACE))
        for info in sidecars:
            self._pre_stop(info, deadline)
        return bool(running) or self._stopping_or_starting()

    def _stopping_or_starting(self) -> bool:
        keys = self.memory.in_flight
        return any(key.startswith(("start:", "stop:", "kill:")) or key in ("sandbox", "network") for key in keys)

    def _pre_stop(self, info: ContainerInfo, deadline: datetime) -> None:
        """Sidecars hear at once that the pod ends; their signal waits for their turn."""
        memory, flying = self.memory, self.memory.in_flight
        hook = ((find_container(self.pod, info.container) or {}).get("lifecycle") or {}).get("preStop")
        done = info.id in memory.pre_stopped or f"stop:{info.container}" in flying
        stopping = any(isinstance(action, StopContainer) and action.id == info.id for action in self.actions)
        if hook and not done and not stopping and not {f"prestop:{info.id}", f"start:{info.container}"} & flying.keys():
            left = (deadline - self.now).total_seconds()
            if left > 0:
                self.actions.append(PreStop(info.container, info.id, left))

    def _stop(self, info: ContainerInfo, grace: float, why: str, deadline: datetime, *, resized: bool = False) -> None:
        memory, name = self.memory, info.container
        if f"stop:{name}" not in memory.in_flight:
            if f"prestop:{info.id}" in memory.in_flight and self.now < deadline:
                self._wake(deadline)
                return
            # A postStart that hangs holds nobody back.
            begun = f"start:{name}" not in memory.in_flight or info.id in memory.hooks
            if begun and self._may_retry(f"stop:{name}"):
                hook = info.id not in memory.pre_stopped and f"prestop:{info.id}" not in memory.in_flight
                self.actions.append(StopContainer(name, info.id, grace, why, resized, hook))
            return
        # The stop under way may have been given a longer grace than is left now; else the engine kills in time.
        until = memory.stop_until.get(info.id)
        shortened = until is not None and deadline + timedelta(seconds=1) < until
        overdue = deadline if shortened else deadline + timedelta(seconds=KILL_SLACK)
        if self.now < overdue:
            self._wake(overdue)
        else:
            self._kill(info)

    def _kill(self, info: ContainerInfo) -> None:
        if f"kill:{info.id}" not in self.memory.in_flight and self._may_retry(f"kill:{info.id}"):
            self.actions.append(KillContainer(info.id))

    def _remove(self, info: ContainerInfo) -> None:
        key = f"remove:{info.id}"
        if key not in self.memory.in_flight and self._may_retry(key):
            self.actions.append(Remove(info.id))

    def _sandboxes(self) -> list[ContainerInfo]:
        current = [self.memory.sandbox] if self.memory.sandbox is not None else []
        return [*current, *self.memory.old_sandboxes.values()]

    # Up

    def _keep_up(self) -> Life:
        memory = self.memory
        self.changes = changes(self.pod, memory)
        for old in memory.old_sandboxes.values():
            self._remove(old)
        up = self._have_sandbox()
        if memory.volumes is None and "volumes" not in memory.in_flight and self._may_retry("volumes"):
            self.actions.append(PrepareVolumes())
        self.ready = up and memory.volumes is not None
        if self._restart_all():
            return Life.RUNNING if self.ready else Life.PREPARING
        if self._initialize():
            for container in main_containers(self.pod):
                self._tend(container, policy_of(self.pod, container, init=False))
            for container in ephemeral_containers(self.pod):
                self._tend(container, "Never")
        self._resize()
        self._prune()
        return Life.RUNNING if self.ready else Life.PREPARING

    def _restart_all(self) -> bool:
        """Kill and remove all containers, without hooks and grace; sandbox, addresses and volumes stay. True while
        that is not done."""
        sources = _asking_for_all(self.pod, self.memory)
        if not sources:
            return False
        names = {container["name"] for container in (*init_containers(self.pod), *main_containers(self.pod))}
        kept = {info.id for _, info, _ in sources}
        others = [info for info in self.memory.all_containers() if info.container in names and info.id not in kept]
        for info in others:
            if info.running:
                self._kill(info)
            else:
                self._remove(info)
        if others or self._stopping_or_starting():
            return True
        # None goes before all may: what is left of them would be taken for all there is to do.
        waiting = [container["name"] for container, _, end in sources if self._backs_off(container, end)]
        for _, info, _ in sources if not waiting else ():
            self._remove(info)
        return True

    def _backs_off(self, container: Obj, end: Ended) -> bool:
        """A container that ended waits before it is started again."""
        crash = self.memory.crashes.get(container_hash(container))
        ready_at = crash.ready_at(end.at) if crash is not None else end.at
        if crash is None or ready_at <= self.now:
            return False
        self._wake(ready_at)
        name = container["name"]
        self.waiting[name] = Waiting(
            "CrashLoopBackOff",
            f"back-off {_duration(crash.seconds)} restarting failed container={name} pod={_pod_id(self.pod)}",
        )
        return True

    def _have_sandbox(self) -> bool:
        """True when the sandbox runs and is wired."""
        memory, sandbox = self.memory, self.memory.sandbox
        if "sandbox" in memory.in_flight:
            return False
        if sandbox is not None and sandbox.running:
            wired = memory.wired and not memory.rewire
            if not wired and "network" not in memory.in_flight and self._may_retry("network"):
                self.actions.append(Wire())
            return wired
        orphans = [info for info in memory.all_containers() if info.running]
        grace = grace_of(self.pod, memory)
        for info in orphans:
            # Its network namespace has lost its holder; it goes and comes again in the new sandbox.
            self._stop(info, grace, "", self.now + timedelta(seconds=grace))
        if not orphans and not self._stopping_or_starting() and self._may_retry("sandbox"):
            self.actions.append(MakeSandbox(attempt=sandbox.attempt + 1 if sandbox is not None else 0))
        return False

    def _initialize(self) -> bool:
        """Tend init containers in order; True when the main containers may run."""
        memory = self.memory
        begun = any(in_sandbox(memory.newest(container["name"]), memory) for container in main_containers(self.pod))
        for container in init_containers(self.pod):
            info = memory.newest(container["name"])
            current = info if in_sandbox(info, memory) else None
            if is_sidecar(container):
                self._tend(container, "Always")
                if not begun and (current is None or not is_started(container, current, memory)):
                    return False
                continue
            if begun:
                continue
            end = ended(current) if current is not None else None
            if end is not None and end.exit_code == 0:
                continue
            self._tend(container, policy_of(self.pod, container, init=True), fresh=current is None)
            return False
        return True

    def _tend(self, container: Obj, policy: str, *, fresh: bool = False) -> None:
        """Keep one container as it should be. ``fresh``: run it even though one of an older sandbox has ended."""
        name, memory = container["name"], self.memory
        info = memory.newest(name)
        if self._busy(container):
            return
        if info is not None and info.running:
            self._check_running(container, info)
            return
        end = ended(info) if info is not None else None
        resized = info is not None and info.id in memory.sizing.restarting
        if info is not None and end is not None and not fresh and not is_changed(container, info) and not resized:
            if not may_restart(container, policy, end):
                return
            if self._backs_off(container, end):
                return
        self._start(container)

    def _check_running(self, container: Obj, info: ContainerInfo) -> None:
        name = container["name"]
        grace = grace_of(self.pod, self.memory)
        results = self.memory.probes.get(info.id)
        resized = False
        if is_changed(container, info):
            why = f"Container {name} definition changed, will be restarted"
        elif info.id in self.memory.failed_hooks:
            why = "FailedPostStartHook"
        elif results is not None and results.startup is False:
            why, grace = (
                f"Container {name} failed startup probe{self._and_then(container)}",
                _grace(container, "startup", grace),
            )
        elif results is not None and results.liveness is False:
            why, grace = (
                f"Container {name} failed liveness probe{self._and_then(container)}",
                _grace(container, "liveness", grace),
            )
        elif info.id in self.changes.restarts and not self.memory.sizing.unsaved:
            why, resized = f"Container {name} resize requires restart", True
        else:
            return
        self._stop(info, grace, why, self.now + timedelta(seconds=grace), resized=resized)

    def _and_then(self, container: Obj) -> str:
        """Upstream's words for what follows a failed probe; it looks at policies, not at rules."""
        policy = container.get("restartPolicy") or spec_of(self.pod).get("restartPolicy")
        return "" if policy == "Never" else ", will be restarted"

    def _start(self, container: Obj) -> None:
        name, memory = container["name"], self.memory
        failure = memory.failures.get(f"start:{name}")
        if failure is not None and failure.retry_at > self.now:
            self.waiting[name] = Waiting(failure.reason, failure.message)
            self._wake(failure.retry_at)
            return
        if self._lacks_images(container):
            return
        if not self.ready or self.starting:
            return
        self.starting = True  # one after the other, as the spec's order promises
        self.actions.append(StartContainer(name, next_attempt(self.pod, name, memory)))

    def _lacks_images(self, container: Obj) -> bool:
        """Ask for the container's image and for those it mounts; True while one is not there. Together, but what is
        shown is the first that fails."""
        name, memory = container["name"], self.memory
        wanted: list[tuple[Action, str]] = []
        for volume, reference in image_volumes(self.pod, container):
            if volume not in memory.pulls.volumes:
                wanted.append((EnsureVolume(volume), reference))
        if name not in memory.images:
            wanted.append((EnsureImage(name), container.get("image", "")))
        for action, image in reversed(wanted):
            self._want_image(name, action, image)
        return bool(wanted)

    def _want_image(self, name: str, action: Action, image: str) -> None:
        flying = action.key in self.memory.in_flight
        trouble = self.memory.failures.get(f"{action.key}@{image}")
        if trouble is not None:
            self.waiting[name] = Waiting(trouble.reason, trouble.message)
            if trouble.retry_at > self.now and not flying:
                self._wake(trouble.retry_at)
                return
        creating = "PodInitializing" if init_containers(self.pod) else "ContainerCreating"
        found = look(self.memory.pulls, action.key, image, flying=flying, creating=creating, now=self.now)
        if found.reason:
            self.waiting[name] = Waiting(found.reason, found.message)
        if found.wake_at is not None:
            self._wake(found.wake_at)
        if found.go and not flying and action not in self.actions:
            self.actions.append(action)

    def _resize(self) -> None:
        """Running containers get what was allotted to them, once that is on disk."""
        flying = self.memory.in_flight
        if self.memory.sizing.unsaved and "sizes" not in flying and self._may_retry("sizes"):
            self.actions.append(SaveSizes())
        elif not {"sizes", "resize"} & flying.keys() and self._may_retry("resize"):
            # After a restart of the agent nobody knows what the pod's own cgroup has.
            whole = not self.memory.sizing.whole and self.memory.sandbox is not None and "sandbox" not in flying
            if self.changes.updates or self.changes.placements or whole:
                self.actions.append(Resize(self.changes.updates, self.changes.placements))

    def _prune(self) -> None:
        """Remove attempts nobody can ask for any more, and containers the spec does not know."""
        names = {container["name"] for container in every_container(self.pod)}
        for name, known in self.memory.containers.items():
            for info in known[KEPT_PER_CONTAINER:] if name in names else ():
                if not info.running:
                    self._remove(info)

    # Helpers

    def _busy(self, container: Obj) -> bool:
        name = container["name"]
        return f"start:{name}" in self.memory.in_flight or f"stop:{name}" in self.memory.in_flight

    def _may_retry(self, key: str) -> bool:
        failure = self.memory.failures.get(key)
        if failure is None or failure.retry_at <= self.now:
            return True
        self._wake(failure.retry_at)
        return False

    def _wake(self, at: datetime) -> None:
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at


def _grace(container: Obj, probe: str, default: float) -> float:
    seconds = (container.get(f"{probe}Probe") or {}).get("terminationGracePeriodSeconds")
    return default if seconds is None else max(float(seconds), MINIMUM_GRACE)


def _pod_id(pod: Obj) -> str:
    """As upstream's messages name a pod."""
    metadata = meta(pod)
    return f"{metadata.get('name')}_{metadata.get('namespace')}({metadata.get('uid')})"


def _duration(seconds: float) -> str:
    """As Go prints durations: ``10s``, ``1m20s``, ``5m0s``."""
    whole = int(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
