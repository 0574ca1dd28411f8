"""Keeping a pod that is to run as its spec says: sandbox, volumes, images, containers in their order, sizes. Pure."""

from __future__ import annotations

from datetime import timedelta

from agents.pods.containers import (
    Ended,
    asked_for_again,
    asking_for_all,
    ended,
    ephemeral_containers,
    every_container,
    in_sandbox,
    init_containers,
    is_changed,
    is_sidecar,
    is_started,
    main_containers,
    may_restart,
    next_attempt,
    policy_of,
    spec_of,
)
from agents.pods.decision import Decision
from agents.pods.deletion import MINIMUM_GRACE, grace_of
from agents.pods.lifecycle import Life
from agents.pods.memory import container_hash
from agents.pods.naming import pod_title
from agents.pods.pulls import image_volumes, look
from agents.pods.sizes import changes
from agents.pods.steps import (
    Action,
    EnsureImage,
    EnsureVolume,
    MakeSandbox,
    PrepareVolumes,
    Resize,
    SaveSizes,
    StartContainer,
    Waiting,
    Wire,
)
from agents.runtime.model import ContainerInfo
from orca.api.durations import format_duration
from orca.api.objects import Obj

KEPT_PER_CONTAINER = 2
"""The newest attempt and the one before it, for ``kubectl logs --previous``."""


class Upkeep:
    """Adds to a decision what a pod that is to run lacks."""

    def __init__(self, decision: Decision) -> None:
        self._decision = decision
        self._pod = decision.pod
        self._memory = decision.memory
        self.changes = changes(self._pod, self._memory)
        """What running containers lack of the sizes allotted to them."""
        self._ready = False
        self._starting = self._memory.busy("start:")

    def keep_up(self) -> Life:
        """How far the pod is."""
        memory = self._memory
        for old in memory.old_sandboxes.values():
            self._decision.remove(old)
        up = self._have_sandbox()
        if memory.volumes is None and "volumes" not in memory.in_flight and self._decision.may_retry("volumes"):
            self._decision.actions.append(PrepareVolumes())
        self._ready = up and memory.volumes is not None
        if self._restart_all():
            return Life.RUNNING if self._ready else Life.PREPARING
        if self._initialize():
            for container in main_containers(self._pod):
                self._tend(container, policy_of(self._pod, container, init=False))
            for container in ephemeral_containers(self._pod):
                self._tend(container, "Never")
        self._resize()
        self._prune()
        return Life.RUNNING if self._ready else Life.PREPARING

    def _restart_all(self) -> bool:
        """Kill and remove all containers, without hooks and grace; sandbox, addresses and volumes stay. True while
        that is not done."""
        sources = asking_for_all(self._pod, self._memory)
        if not sources:
            return False
        names = {container["name"] for container in (*init_containers(self._pod), *main_containers(self._pod))}
        kept = {info.id for _, info, _ in sources}
        others = [info for info in self._memory.all_containers() if info.container in names and info.id not in kept]
        for info in others:
            if info.running:
                self._decision.kill(info)
            else:
                self._decision.remove(info)
        if others or self._decision.stopping_or_starting():
            return True
        # None goes before all may: what is left of them would be taken for all there is to do.
        waiting = [container["name"] for container, _, end in sources if self._backs_off(container, end)]
        for _, info, _ in sources if not waiting else ():
            self._decision.remove(info)
        return True

    def _backs_off(self, container: Obj, end: Ended) -> bool:
        """A container that ended waits before it is started again."""
        crash = self._memory.crashes.get(container_hash(container))
        info = self._memory.newest(container["name"])
        at = end.at + self._memory.moved.get(info.id, timedelta()) if info is not None else end.at
        ready_at = crash.ready_at(at) if crash is not None else at
        if crash is None or ready_at <= self._decision.now:
            return False
        self._decision.wake(ready_at)
        name = container["name"]
        self._decision.waiting[name] = Waiting(
            "CrashLoopBackOff",
            f"back-off {format_duration(crash.seconds)} restarting failed container={name} pod={pod_title(self._pod)}",
        )
        return True

    def _have_sandbox(self) -> bool:
        """True when the sandbox runs and is wired."""
        memory, sandbox = self._memory, self._memory.sandbox
        if "sandbox" in memory.in_flight:
            return False
        if sandbox is not None and sandbox.running:
            wired = memory.wired and not memory.rewire
            if not wired and "network" not in memory.in_flight and self._decision.may_retry("network"):
                self._decision.actions.append(Wire())
            return wired
        orphans = [info for info in memory.all_containers() if info.running]
        grace = grace_of(self._pod, memory)
        for info in orphans:
            # Its network namespace has lost its holder; it goes and comes again in the new sandbox.
            self._decision.stop(info, grace, "", self._decision.now + timedelta(seconds=grace))
        if not orphans and not self._decision.stopping_or_starting() and self._decision.may_retry("sandbox"):
            self._decision.actions.append(MakeSandbox(attempt=sandbox.attempt + 1 if sandbox is not None else 0))
        return False

    def _initialize(self) -> bool:
        """Tend init containers in order; True when the main containers may run."""
        memory = self._memory
        begun = any(in_sandbox(memory.newest(container["name"]), memory) for container in main_containers(self._pod))
        for container in init_containers(self._pod):
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
            self._tend(container, policy_of(self._pod, container, init=True), fresh=current is None)
            return False
        return True

    def _tend(self, container: Obj, policy: str, *, fresh: bool = False) -> None:
        """Keep one container as it should be. ``fresh``: run it even though one of an older sandbox has ended."""
        name, memory = container["name"], self._memory
        info = memory.newest(name)
        if self._decision.busy(container):
            if info is None or not info.running:
                self._told_failure(name)
            return
        if info is not None and info.running:
            self._check_running(container, info, policy)
            return
        end = ended(info) if info is not None else None
        again = info is not None and asked_for_again(info, memory)
        if info is not None and end is not None and not fresh and not again:
            if not may_restart(container, policy, end):
                return
            if self._backs_off(container, end):
                return
        self._start(container)

    def _check_running(self, container: Obj, info: ContainerInfo, policy: str) -> None:
        name = container["name"]
        grace = grace_of(self._pod, self._memory)
        results = self._memory.probes.get(info.id)
        resized = replaced = False
        if is_changed(container, info):
            # One that ended by itself is none of it: whether it comes again, its policy says.
            replaced = policy != "Always"
            why = f"Container {name} definition changed, will be restarted"
        elif info.id in self._memory.failed_hooks:
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
        elif info.id in self.changes.restarts and not self._memory.sizing.unsaved:
            why, resized = f"Container {name} resize requires restart", True
        else:
            return
        deadline = self._decision.now + timedelta(seconds=grace)
        self._decision.stop(info, grace, why, deadline, resized=resized, replaced=replaced)

    def _and_then(self, container: Obj) -> str:
        """Upstream's words for what follows a failed probe; it looks at policies, not at rules."""
        policy = container.get("restartPolicy") or spec_of(self._pod).get("restartPolicy")
        return "" if policy == "Never" else ", will be restarted"

    def _start(self, container: Obj) -> None:
        name, memory = container["name"], self._memory
        failure = memory.failures.get(f"start:{name}")
        self._told_failure(name)
        if failure is not None and failure.retry_at > self._decision.now:
            self._decision.wake(failure.retry_at)
            return
        if self._lacks_images(container):
            return
        if not self._ready or self._starting:
            return
        self._starting = True  # one after the other, as the spec's order promises
        self._decision.actions.append(StartContainer(name, next_attempt(self._pod, name, memory)))

    def _told_failure(self, name: str) -> None:
        """Why the last start failed is shown until one succeeds, also while the next is being tried."""
        failure = self._memory.failures.get(f"start:{name}")
        if failure is not None:
            self._decision.waiting[name] = Waiting(failure.reason, failure.message)

    def _lacks_images(self, container: Obj) -> bool:
        """Ask for the container's image and for those it mounts; True while one is not there. Together, but what is
        shown is the first that fails."""
        name, memory = container["name"], self._memory
        wanted: list[tuple[Action, str]] = []
        for volume, reference in image_volumes(self._pod, container):
            if volume not in memory.pulls.volumes:
                wanted.append((EnsureVolume(volume), reference))
        if name not in memory.images:
            wanted.append((EnsureImage(name), container.get("image", "")))
        for action, image in reversed(wanted):
            self._want_image(name, action, image)
        return bool(wanted)

    def _want_image(self, name: str, action: Action, image: str) -> None:
        flying = action.key in self._memory.in_flight
        trouble = self._memory.failures.get(f"{action.key}@{image}")
        if trouble is not None:
            self._decision.waiting[name] = Waiting(trouble.reason, trouble.message)
            if trouble.retry_at > self._decision.now and not flying:
                self._decision.wake(trouble.retry_at)
                return
        creating = "PodInitializing" if init_containers(self._pod) else "ContainerCreating"
        found = look(self._memory.pulls, action.key, image, flying=flying, creating=creating, now=self._decision.now)
        if found.reason:
            self._decision.waiting[name] = Waiting(found.reason, found.message)
        if found.wake_at is not None:
            self._decision.wake(found.wake_at)
        if found.go and not flying and action not in self._decision.actions:
            self._decision.actions.append(action)

    def _resize(self) -> None:
        """Running containers get what was allotted to them, once that is on disk."""
        flying = self._memory.in_flight
        if self._memory.sizing.unsaved and "sizes" not in flying and self._decision.may_retry("sizes"):
            self._decision.actions.append(SaveSizes())
        elif not {"sizes", "resize"} & flying.keys() and self._decision.may_retry("resize"):
            # After a restart of the agent nobody knows what the pod's own cgroup has.
            whole = not self._memory.sizing.whole and self._memory.sandbox is not None and "sandbox" not in flying
            if self.changes.updates or self.changes.placements or whole:
                self._decision.actions.append(Resize(self.changes.updates, self.changes.placements))

    def _prune(self) -> None:
        """Remove attempts nobody can ask for any more, and containers the spec does not know."""
        names = {container["name"] for container in every_container(self._pod)}
        for name, known in self._memory.containers.items():
            for info in known[KEPT_PER_CONTAINER:] if name in names else ():
                if not info.running:
                    self._decision.remove(info)


def _grace(container: Obj, probe: str, default: float) -> float:
    seconds = (container.get(f"{probe}Probe") or {}).get("terminationGracePeriodSeconds")
    return default if seconds is None else max(float(seconds), MINIMUM_GRACE)
