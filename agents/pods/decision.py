"""What one decision has come to so far: the actions it asks for, and when it wants to be asked again. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from agents.pods.memory import Memory
from agents.pods.steps import Action, KillContainer, Remove, StopContainer, Waiting
from agents.runtime.model import ContainerInfo
from orca.api.objects import Obj

KILL_SLACK = 5.0


class Decision:
    """For one pod at one moment. Nothing is asked for twice: neither what is under way nor what has to wait after it
    failed."""

    def __init__(self, pod: Obj, memory: Memory, now: datetime) -> None:
        self.pod = pod
        self.memory = memory
        self.now = now
        self.actions: list[Action] = []
        self.waiting: dict[str, Waiting] = {}
        """Why containers are not there yet, by name."""
        self.wake_at: datetime | None = None

    def stop(
        self,
        info: ContainerInfo,
        grace: float,
        why: str,
        deadline: datetime,
        *,
        resized: bool = False,
        replaced: bool = False,
    ) -> None:
        """End a container within ``grace`` seconds; it is killed when one that was told to end is there past
        ``deadline``. ``why`` is the text of its event, ``resized`` and ``replaced`` are as in ``StopContainer``."""
        memory, name = self.memory, info.container
        if f"stop:{name}" not in memory.in_flight:
            if f"prestop:{info.id}" in memory.in_flight and self.now < deadline:
                self.wake(deadline)
                return
            # A postStart that hangs holds nobody back.
            begun = f"start:{name}" not in memory.in_flight or info.id in memory.hooks
            if begun and self.may_retry(f"stop:{name}"):
                hook = info.id not in memory.pre_stopped and f"prestop:{info.id}" not in memory.in_flight
                self.actions.append(StopContainer(name, info.id, grace, why, resized, replaced, hook))
            return
        # The stop under way may have been given a longer grace than is left now; else the engine kills in time.
        until = memory.stop_until.get(info.id)
        shortened = until is not None and deadline + timedelta(seconds=1) < until
        overdue = deadline if shortened else deadline + timedelta(seconds=KILL_SLACK)
        if self.now < overdue:
            self.wake(overdue)
        else:
            self.kill(info)

    def kill(self, info: ContainerInfo) -> None:
        """End a container at once."""
        if f"kill:{info.id}" not in self.memory.in_flight and self.may_retry(f"kill:{info.id}"):
            self.actions.append(KillContainer(info.id))

    def remove(self, info: ContainerInfo) -> None:
        """Delete a container, or a sandbox that may still run."""
        key = f"remove:{info.id}"
        if key not in self.memory.in_flight and self.may_retry(key):
            self.actions.append(Remove(info.id))

    def busy(self, container: Obj) -> bool:
        """The container is being started or ended."""
        name = container["name"]
        return f"start:{name}" in self.memory.in_flight or f"stop:{name}" in self.memory.in_flight

    def stopping_or_starting(self) -> bool:
        """Something of the pod is."""
        keys = self.memory.in_flight
        return any(key.startswith(("start:", "stop:", "kill:")) or key in ("sandbox", "network") for key in keys)

    def may_retry(self, key: str) -> bool:
        """False while an action has to wait after it failed; then the decision is made anew when that is over."""
        failure = self.memory.failures.get(key)
        if failure is None or failure.retry_at <= self.now:
            return True
        self.wake(failure.retry_at)
        return False

    def wake(self, at: datetime) -> None:
        """Decide again then, at the latest."""
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at
