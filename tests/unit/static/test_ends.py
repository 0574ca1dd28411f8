"""How containers ended, counted from what statuses tell."""

from __future__ import annotations

import itertools

from agents.static.ends import Ends
from orca.api.objects import Obj


def ended(container: str, code: int, reason: str) -> Obj:
    return {"terminated": {"containerID": container, "exitCode": code, "reason": reason}}


def of(state: Obj, last: Obj | None = None, *, part: str = "containerStatuses") -> Obj:
    return {part: [{"name": "c", "state": state, "lastState": last or {}}]}


def test_each_end_counts_once_however_it_is_told() -> None:
    ends = Ends()
    running: Obj = {"running": {}}
    story = [
        {},
        of(running),
        of(ended("a", 139, "Error")),
        of({"waiting": {"reason": "CrashLoopBackOff"}}, ended("a", 139, "Error")),
        of(running, ended("a", 139, "Error")),
        of(running, ended("b", 137, "OOMKilled")),  # b's own start and end were told of together
        of(ended("c", 0, "Completed"), ended("b", 137, "OOMKilled")),
    ]
    for before, after in itertools.pairwise(story):
        ends.count(before, after)
        ends.count(after, after)
    assert ends.counts == {
        ("container", "139", "Error"): 1,
        ("container", "137", "OOMKilled"): 1,
        ("container", "0", "Completed"): 1,
    }


def test_kinds_are_told_apart_and_lost_containers_count() -> None:
    ends = Ends()
    ends.count({}, of(ended("i", 0, "Completed"), part="initContainerStatuses"))
    ends.count({}, of(ended("e", 1, "Error"), part="ephemeralContainerStatuses"))
    lost = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}
    ends.count(of({"running": {}}), of(lost))
    ends.count(of(lost), of(lost))
    assert ends.counts == {
        ("init_container", "0", "Completed"): 1,
        ("ephemeral_container", "1", "Error"): 1,
        ("container", "137", "ContainerStatusUnknown"): 1,
    }
