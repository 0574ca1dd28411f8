"""Which events are about things that a workload once owned and that are gone. Pure.

Of what is gone nobody can say whose it was, but by its name, and by the owner's events that name it. Names are made of
the owner's: a Deployment's ReplicaSet is its name and a hash, a pod of a set its name and five letters or its number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orca.api.objects import Obj, meta, name

_RANDOM = "[a-z0-9]{5}"
_OF_SET = re.compile(r"replica set (\S+)")
_NAMED = re.compile(r"(?:[Cc]reated?|[Dd]eleted?) (?:pod|Pod|job):? (\S+)")
_PODS = {
    "ReplicaSet": _RANDOM,
    "ReplicationController": _RANDOM,
    "DaemonSet": _RANDOM,
    "Job": rf"(?:[0-9]+-)?{_RANDOM}",
    "StatefulSet": "[0-9]+",
    "CronJob": rf"[0-9]+-(?:[0-9]+-)?{_RANDOM}",
}


class Gone:
    """``objects``: the workload first, then what is left of what it owned."""

    def __init__(self, objects: Sequence[Obj], events: Sequence[Obj]) -> None:
        self._born = str(meta(objects[0]).get("creationTimestamp") or "") if objects else ""
        self._names: set[tuple[str, str]] = set()
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        uids = {meta(obj).get("uid") for obj in objects if obj["kind"] != "Pod"}
        told = [one for one in events if (one.get("involvedObject") or {}).get("uid") in uids]
        sets = {name(obj) for obj in objects if obj["kind"] == "ReplicaSet"}
        for event in told:
            message = str(event.get("message") or "")
            if event.get("reason") == "ScalingReplicaSet" and (found := _OF_SET.search(message)):
                sets.add(found[1])
                self._names.add(("ReplicaSet", found[1]))
            elif found := _NAMED.search(message):
                kind = "Job" if (event.get("involvedObject") or {}).get("kind") == "CronJob" else "Pod"
                self._names.add((kind, found[1].rstrip(".,")))
        for replicaset in sets:
            self._add("Pod", replicaset, _RANDOM)
        for obj in objects:
            if obj["kind"] in _PODS:
                self._add("Pod", name(obj), _PODS[obj["kind"]])
            if obj["kind"] == "CronJob":
                self._add("Job", name(obj), "[0-9]+")

    def _add(self, kind: str, owner: str, rest: str) -> None:
        self._patterns.append((kind, re.compile(rf"{re.escape(owner)}-{rest}")))

    def concerns(self, event: Obj) -> bool:
        """It is about something that was the workload's, and none that had its name before it."""
        about = event.get("involvedObject") or {}
        kind, called = str(about.get("kind") or ""), str(about.get("name") or "")
        last = str(event.get("lastTimestamp") or event.get("eventTime") or meta(event).get("creationTimestamp") or "")
        if last and last < self._born:
            return False
        if (kind, called) in self._names:
            return True
        return any(kind == of and pattern.fullmatch(called) is not None for of, pattern in self._patterns)
