"""The service level indicator of starting pods: what counts, and what is taken off."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.static.latency import Latency, union
from agents.static.starts import Starts
from orca.api.objects import Obj
from orca.api.times import format_time

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return CREATED + timedelta(seconds=seconds)


def pod(uid: str = "u1", **spec: Any) -> Obj:
    """As the scheduler leaves it."""
    meta = {"name": "web", "namespace": "default", "uid": uid, "creationTimestamp": format_time(CREATED)}
    token = {"name": "token", "projected": {}}
    return {"metadata": meta, "spec": {"volumes": [token], **spec}, "status": {"phase": "Pending"}}


def running(one: Obj, *, others: bool = True, inits: float = 0.0) -> Obj:
    one = copy.deepcopy(one)
    started = {"running": {"startedAt": format_time(at(3))}}
    states = [started, started if others else {"waiting": {}}]
    one["status"] = {
        "phase": "Running",
        "startTime": format_time(CREATED),
        "containerStatuses": [{"state": state} for state in states],
    }
    if inits:
        ended = {"startedAt": format_time(at(1)), "finishedAt": format_time(at(1 + inits))}
        one["status"]["initContainerStatuses"] = [{"state": {"terminated": ended}}, {"state": {"running": {}}}]
    return one


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
def latency(starts: Starts) -> Latency:
    return Latency(starts)


def test_from_creation_until_all_containers_are_seen_to_run_once(latency: Latency, starts: Starts) -> None:
    latency.seen(pod(), at(1))
    latency.seen(running(pod(), others=False), at(3))
    assert (sum(starts.total.buckets), starts.first_network) == (0, None)
    latency.seen(running(pod()), at(4))
    latency.seen(running(pod()), at(60))
    assert (starts.total.seconds, sum(starts.total.buckets)) == (4, 1)
    assert (starts.own.seconds, sum(starts.own.buckets), starts.first_network) == (4, 1, 4)


def test_pulls_that_overlap_and_init_containers_are_taken_off(latency: Latency, starts: Starts) -> None:
    latency.seen(pod(), at(1))
    for span in ((100.0, 103.0), (102.0, 105.0), (110.0, 111.0)):
        latency.pulled("u1", *span)
    latency.pulled("nobody", 0.0, 50.0)
    latency.seen(running(pod(), inits=2), at(20))
    assert (starts.total.seconds, starts.own.seconds) == (20, 20 - 6 - 2)


def test_what_does_not_count(latency: Latency, starts: Starts) -> None:
    late = pod("late")
    late["status"]["conditions"] = [{"type": "PodScheduled", "status": "False"}]
    latency.seen(late, at(1))
    latency.seen(running(pod("late")), at(9))
    latency.seen(running(pod("of before")), at(9))
    latency.seen(running(pod("of before")), at(10))
    failed = pod("failed")
    latency.seen(failed, at(1))
    latency.seen({**failed, "status": {"phase": "Failed"}}, at(2))
    gone = pod("gone")
    latency.seen(gone, at(1))
    latency.forget(gone)
    latency.seen(running(gone), at(9))
    assert sum(starts.total.buckets) == 0
    claim = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    latency.seen(pod("stateful", volumes=claim), at(1))
    latency.seen(running(pod("stateful", volumes=claim)), at(9))
    assert (sum(starts.total.buckets), sum(starts.own.buckets)) == (1, 0)
    latency.seen(pod("host", hostNetwork=True), at(1))
    latency.seen(running(pod("host", hostNetwork=True)), at(9))
    assert (sum(starts.own.buckets), starts.first_network) == (1, None)


def test_seconds_in_any_span() -> None:
    assert union([]) == 0
    assert union([(5, 6), (0, 4), (1, 2), (3, 5)]) == 6
