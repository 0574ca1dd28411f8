"""A world of pods as a controller meets it: the truth, and a cache that lags behind it but for its own writes."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from orca.api.objects import Obj, finalizers, is_terminating, uid
from orca.api.times import format_time
from orca.controllers import podstate
from tests.unit.controllers.support import NOW

QUICK = settings(
    max_examples=220,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.large_base_example],
)
"""Every run tries the same worlds."""

TROUBLES = ("unready", "fail", "succeed", "evict", "vanish")
"""What befalls pods that the controller did not ask for."""
LIFE = ("start", "ready", "remove", "see", "see all", "tick")
"""What goes on in any world."""
Story = list[tuple[str, int]]
"""Happenings in their order, with a number that picks the pod."""


def stories(*more: str, troubles: Iterable[str] = TROUBLES, longest: int = 30) -> st.SearchStrategy[Story]:
    """`more` are the test's own happenings; "sync" is one look of the controller."""
    names = [*LIFE, "sync", "sync", "sync", *troubles, *more]
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 11)), max_size=longest)


class World:
    """Pods by uid. Objects are replaced, never changed in place."""

    def __init__(self, pods: Iterable[Obj] = ()) -> None:
        self.now: datetime = NOW + timedelta(hours=1)
        self.pods: dict[str, Obj] = {uid(pod): pod for pod in pods}
        self.seen: dict[str, Obj] = dict(self.pods)
        self.made = 0

    # --- what the controller does

    def view(self) -> list[Obj]:
        """The pods as the controller sees them."""
        return list(self.seen.values())

    def create(self, pod: Obj) -> Obj:
        """As the API server does. A name that is taken is an AssertionError: no plan may want that."""
        self.made += 1
        metadata = dict(pod["metadata"])
        metadata.setdefault("name", f"{metadata.get('generateName', 'pod-')}{self.made:05}")
        assert all(metadata["name"] != other["metadata"]["name"] for other in self.pods.values()), "the name is taken"
        metadata |= {"uid": f"made-{self.made}", "creationTimestamp": format_time(self.now)}
        made = {**pod, "metadata": metadata, "status": {"phase": "Pending"}}
        self._write(made)
        return made

    def delete(self, pod: Obj) -> None:
        """Gracefully; nothing when it is gone."""
        current = self.pods.get(uid(pod))
        if current is None:
            self.seen.pop(uid(pod), None)
        elif not is_terminating(current):
            self._write(self._condemned(current))

    def untrack(self, pod: Obj, finalizer: str) -> None:
        """Takes a finalizer off; a pod that only waited for that goes."""
        current = self.pods.get(uid(pod))
        if current is None:
            self.seen.pop(uid(pod), None)
            return
        kept = [one for one in finalizers(current) if one != finalizer]
        self._write({**current, "metadata": {**current["metadata"], "finalizers": kept}})

    def _write(self, pod: Obj) -> None:
        self.pods[uid(pod)] = self.seen[uid(pod)] = pod

    # --- what happens

    def happen(self, what: str, number: int) -> None:
        """One of `LIFE` or `TROUBLES`."""
        if what == "see all":
            self.seen = dict(self.pods)
        elif what == "tick":
            self.now += timedelta(seconds=3 * number)
        elif self.pods or self.seen:
            known = sorted({*self.pods, *self.seen})
            identity = known[number % len(known)]
            if what == "see":
                self._catch_up(identity)
            elif identity in self.pods:
                self._befall(what, self.pods[identity])

    def _catch_up(self, identity: str) -> None:
        if identity in self.pods:
            self.seen[identity] = self.pods[identity]
        else:
            self.seen.pop(identity, None)

    def _befall(self, what: str, pod: Obj) -> None:
        finished = podstate.is_finished(pod)
        match what:
            case "start" if podstate.phase(pod) == "Pending" and not is_terminating(pod):
                self.become(pod, "Running", ready=False)
            case "ready" if podstate.phase(pod) == "Running" and not is_terminating(pod):
                self.become(pod, "Running", ready=True)
            case "unready" if podstate.phase(pod) == "Running":
                self.become(pod, "Running", ready=False)
            case "fail" if not finished:
                self.become(pod, "Failed", ready=False)
            case "succeed" if podstate.phase(pod) == "Running":
                self.become(pod, "Succeeded", ready=False)
            case "evict" if not is_terminating(pod):
                self.pods[uid(pod)] = self._condemned(pod)
            case "remove" if is_terminating(pod):
                self.end(pod)
            case "vanish":
                self.end(pod)

    def end(self, pod: Obj) -> None:
        """Its processes end; it goes unless a finalizer holds it."""
        if not finalizers(pod):
            del self.pods[uid(pod)]
            return
        if not podstate.is_finished(pod):
            pod = self.become(pod, "Failed", ready=False)
        if not is_terminating(pod):
            self.pods[uid(pod)] = self._condemned(pod)

    def become(self, pod: Obj, phase: str, *, ready: bool) -> Obj:
        """Its host reports that."""
        state = "True" if ready else "False"
        if podstate.is_ready(pod) != ready or podstate.phase(pod) != phase:
            condition = {"type": "Ready", "status": state, "lastTransitionTime": format_time(self.now)}
            ended = {"name": "main", "state": {"terminated": {"exitCode": 1, "finishedAt": format_time(self.now)}}}
            status: dict[str, Any] = {"phase": phase, "conditions": [condition]}
            if phase == "Failed":
                status["containerStatuses"] = [ended]
            pod = self.pods[uid(pod)] = {**pod, "status": status}
        return pod

    def _condemned(self, pod: Obj) -> Obj:
        marks = {"deletionTimestamp": format_time(self.now + timedelta(seconds=30)), "deletionGracePeriodSeconds": 30}
        return {**pod, "metadata": {**pod["metadata"], **marks}}

    def settle(self, *, seconds: float = 60) -> None:
        """All is well for a while: what leaves is gone, what should run is ready, and everything is seen."""
        for pod in list(self.pods.values()):
            if is_terminating(pod):
                self.end(pod)
                held = self.pods.get(uid(pod))
                if held is not None and not finalizers(held):
                    del self.pods[uid(held)]
            elif not podstate.is_finished(pod):
                self.become(pod, "Running", ready=True)
        self.now += timedelta(seconds=seconds)
        self.seen = dict(self.pods)

    def active(self) -> list[Obj]:
        """Pods that really are neither finished nor on their way out."""
        return [pod for pod in self.pods.values() if podstate.is_active(pod)]
