"""What a pod counts for while it is resized."""

from __future__ import annotations

from typing import Any

import pytest

from orca.api.builtin import PODS
from orca.api.podsizes import held
from orca.api.quota.usage import usage_of
from orca.scheduler.shape import shape_of

INFEASIBLE = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]


def resizing(wished: str, allotted: str, actual: str, conditions: list[dict[str, str]] | None = None) -> dict[str, Any]:
    def cpu(amount: str) -> dict[str, Any]:
        return {"requests": {"cpu": amount}, "limits": {"cpu": amount}}

    told = {"name": "c", "resources": cpu(actual), "allocatedResources": {"cpu": allotted}}
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "resources": cpu(wished)}]},
        "status": {"phase": "Running", "containerStatuses": [told], "conditions": conditions or []},
    }


def test_a_pod_that_is_not_resized_counts_as_it_says() -> None:
    assert held(resizing("1", "1", "1")) == {}
    assert held({"spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Pending"}}) == {}


@pytest.mark.parametrize(
    ("wished", "allotted", "actual", "conditions", "millis"),
    [
        ("2", "1", "1", None, 2000),
        ("1", "1", "2", None, 2000),
        ("1", "2", "2", None, 2000),
        ("500m", "1500m", "1", None, 1500),
        ("9", "1", "1", INFEASIBLE, 1000),
        ("9", "2", "1", INFEASIBLE, 2000),
        ("2", "1", "1", [{"type": "PodResizePending", "status": "True", "reason": "Deferred"}], 2000),
    ],
)
def test_the_most_of_wished_allotted_and_in_force(
    wished: str, allotted: str, actual: str, conditions: Any, millis: int
) -> None:
    pod = resizing(wished, allotted, actual, conditions)
    assert shape_of(pod).requests == {"cpu": millis}
    assert usage_of(PODS, pod)["requests.cpu"].milli == millis


def test_limits_follow_what_is_in_force() -> None:
    assert usage_of(PODS, resizing("1", "1", "2"))["limits.cpu"].milli == 2000
    assert usage_of(PODS, resizing("9", "1", "2", INFEASIBLE))["limits.cpu"].milli == 2000


def test_a_pod_without_a_node_counts_for_what_it_wishes() -> None:
    pod = resizing("1", "2", "2")
    del pod["spec"]["nodeName"]
    assert shape_of(pod).requests == {"cpu": 1000}


def test_sidecars_count_and_other_init_containers_do_not() -> None:
    pod = resizing("1", "1", "1")
    small, large = {"requests": {"cpu": "1"}}, {"requests": {"cpu": "3"}}
    side = {"name": "s", "image": "i", "restartPolicy": "Always", "resources": small}
    first = {"name": "f", "image": "i", "resources": small}
    pod["spec"]["initContainers"] = [first, side]
    pod["status"]["initContainerStatuses"] = [{"name": one, "resources": large} for one in ("f", "s")]
    assert held(pod).keys() == {"s"}
    assert shape_of(pod).requests == {"cpu": 4000}
