"""One pod as its worker holds it: the object, what is known of it, and how it speaks about it in events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agents.pods.containers import ephemeral_containers, init_containers
from agents.pods.memory import Failure, Memory, failed_again
from agents.pods.ports import Recorder
from agents.pods.sizes import as_allotted
from orca.api.objects import Obj
from orca.client.clock import Clock


@dataclass(slots=True)
class Subject:
    """``changed`` is called whenever memory changed, so that the worker decides again."""

    pod: Obj
    memory: Memory
    clock: Clock
    recorder: Recorder
    changed: Callable[[], None]

    @property
    def allotted(self) -> Obj:
        """The pod with the cpu and memory this host has allotted to its containers."""
        return as_allotted(self.pod, self.memory.sizing.allotted)

    def tell(self, reason: str, message: str, *, container: str = "", warning: bool = False) -> None:
        """An event about the pod or one of its containers."""
        kind = "Warning" if warning else "Normal"
        if not container:
            self.recorder.event(self.pod, kind, reason, message)
            return
        group = "containers"
        if any(item["name"] == container for item in init_containers(self.pod)):
            group = "initContainers"
        elif any(item["name"] == container for item in ephemeral_containers(self.pod)):
            group = "ephemeralContainers"
        self.recorder.event(self.pod, kind, reason, message, field_path=f"spec.{group}{{{container}}}")

    def failed(self, key: str, reason: str, message: str, *, first: float = 0.5, last: float = 30.0) -> Failure:
        """Note that an action failed; the next try waits longer each time."""
        failure = failed_again(self.memory.failures.get(key), reason, message, self.clock.now(), first=first, last=last)
        self.memory.failures[key] = failure
        return failure

    def succeeded(self, key: str) -> None:
        self.memory.failures.pop(key, None)
