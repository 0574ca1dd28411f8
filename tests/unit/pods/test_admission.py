"""Pods that name their node themselves: whether they fit there."""

from __future__ import annotations

from typing import Any

import pytest

from agents.pods.admission import admission
from agents.resources.amounts import requests_of
from orca.api.objects import Obj
from tests.unit.pods.build import pod, spec_container


def node(taints: list[Obj] | None = None, **allocatable: str) -> Obj:
    return {
        "metadata": {"name": "n1", "labels": {"disk": "ssd"}},
        "spec": {"taints": taints or []},
        "status": {"allocatable": {"cpu": "4", "memory": "1Gi", "pods": "3", **allocatable}},
    }


def asking(cpu: str = "", **more: Any) -> Obj:
    return pod(spec_container(resources={"requests": {"cpu": cpu} if cpu else {}}), **more)


def told(wanted: Obj, *others: Obj, **given: Any) -> tuple[str, str] | None:
    found, _ = admission(wanted, others, node(**given))
    return (found.reason, found.message) if found is not None else None


def test_room_is_counted_as_the_kubelet_does() -> None:
    assert told(asking("2"), asking("2")) is None
    assert told(asking("500m"), asking("3800m")) == (
        "OutOfcpu",
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 3800, capacity: 4000",
    )
    assert told(asking(), asking(), asking(), asking()) == (
        "OutOfpods",
        "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
    )
    assert told(pod(spec_container(resources={"requests": {"example.com/gpu": "1"}}))) is None
    # A full host still takes a pod that asks for nothing.
    assert told(asking(), asking("5")) is None
    assert admission(asking("50"), [], None) == (None, [])


def test_requests_of_init_containers_and_sidecars() -> None:
    def one(name: str, cpu: str, **more: Any) -> Obj:
        return spec_container(name, resources={"requests": {"cpu": cpu}}, **more)

    subject = pod(one("c", "1"), init=[one("s", "500m", restartPolicy="Always"), one("i", "2")], overhead={"cpu": "1"})
    assert requests_of(subject) == {"cpu": 3500}


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, True),
        ({"nodeSelector": {"disk": "hdd"}}, False),
        ({"affinity": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}, True),
        ({"affinity": [{"key": "disk", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selector_and_affinity(spec: Obj, fits: bool) -> None:
    if "affinity" in spec:
        terms = {"nodeSelectorTerms": [{"matchExpressions": spec["affinity"]}]}
        spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    found = told(pod(**spec))
    assert (found is None) is fits
    if found:
        text = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        assert found == ("NodeAffinity", text)


def test_only_taints_that_evict_count() -> None:
    evicting = {"key": "k", "value": "v", "effect": "NoExecute"}
    assert told(pod(), taints=[{**evicting, "effect": "NoSchedule"}]) is None
    found = told(pod(), taints=[evicting])
    assert found is not None
    assert found[0] == "TaintToleration"
    brief = {"key": "k", "operator": "Exists", "tolerationSeconds": 5}
    assert told(pod(tolerations=[brief]), taints=[evicting]) is None
    assert told(pod(tolerations=[{"key": "k", "value": "w"}]), taints=[evicting]) is not None
