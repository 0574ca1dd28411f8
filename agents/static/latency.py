"""How long pods take from their creation until they are seen to run, less what is not the host's doing. Pure.

Reference: k8s.io/kubernetes ``pkg/kubelet/util/pod_startup_latency_tracker.go``, by the definition of the service level
indicator: pods that could be scheduled at once, without the time to pull images and to run init containers, and without
pods that have volumes of other kinds than `STATELESS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from agents.static.starts import Starts
from orca.api.objects import Obj, meta, uid
from orca.api.podphase import is_finished
from orca.api.times import parse_time

STATELESS = frozenset({"secret", "configMap", "downwardAPI", "emptyDir", "projected"})


class Latency:
    """Told of pods of the API and of pulls; counts in ``starts``."""

    def __init__(self, starts: Starts) -> None:
        self._starts = starts
        self._pulls: dict[str, list[tuple[float, float]] | None] = {}
        """Uid of a pod that does not run yet -> when its images were pulled; None for one that does not count."""

    def __repr__(self) -> str:
        return f"<Latency of {len(self._pulls)} pods>"

    def seen(self, pod: Obj, now: datetime) -> None:
        """The API shows a pod so."""
        pod_uid = uid(pod)
        if is_finished(pod):
            self._pulls.pop(pod_uid, None)
            return
        if pod_uid not in self._pulls:
            if not (pod.get("status") or {}).get("startTime"):  # else it began under an agent before this one
                self._pulls[pod_uid] = None if _unschedulable(pod) else []
            return
        pulls = self._pulls[pod_uid]
        if pulls is None or not _runs(pod):
            return
        self._pulls[pod_uid] = None
        total = (now - parse_time(meta(pod)["creationTimestamp"])).total_seconds()
        self._starts.total.count(total)
        if _stateful(pod):
            return
        own = max(total - union(pulls) - _init_seconds(pod), 0.0)
        self._starts.own.count(own)
        if self._starts.first_network is None and not pod["spec"].get("hostNetwork"):
            self._starts.first_network = own

    def pulled(self, pod_uid: str, began: float, ended: float) -> None:
        """An image of the pod was pulled in that time, in monotonic seconds."""
        pulls = self._pulls.get(pod_uid)
        if pulls is not None:
            pulls.append((began, ended))

    def forget(self, pod: Obj) -> None:
        """It is gone."""
        self._pulls.pop(uid(pod), None)


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds in any of the spans."""
    total, until = 0.0, float("-inf")
    for began, ended in sorted(spans):
        total += max(ended - max(began, until), 0.0)
        until = max(until, ended)
    return total


def _unschedulable(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "PodScheduled" and one.get("status") == "False" for one in conditions)


def _runs(pod: Obj) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return bool(statuses) and all(((one.get("state") or {}).get("running") or {}).get("startedAt") for one in statuses)


def _stateful(pod: Obj) -> bool:
    return any(not STATELESS & volume.keys() for volume in pod["spec"].get("volumes") or ())


def _init_seconds(pod: Obj) -> float:
    """Of init containers that ended, as far as statuses tell."""
    seconds = 0.0
    for status in (pod.get("status") or {}).get("initContainerStatuses") or ():
        ended = (status.get("state") or {}).get("terminated") or {}
        if ended.get("startedAt") and ended.get("finishedAt"):
            seconds += max((parse_time(ended["finishedAt"]) - parse_time(ended["startedAt"])).total_seconds(), 0.0)
    return seconds
