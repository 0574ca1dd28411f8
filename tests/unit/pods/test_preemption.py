"""Critical pods make room for themselves on the host they were bound to."""

from __future__ import annotations

import pytest

from agents.pods.admission import admission
from agents.pods.preemption import NoVictims, victims
from orca.api.objects import Obj
from tests.unit.resources.pods import pod, same, sizes

CRITICAL = 2_000_000_000
NODE: Obj = {
    "metadata": {"name": "n"},
    "spec": {},
    "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "3"}},
}


def named(name: str, resources: Obj, **spec: object) -> Obj:
    found = pod(resources, uid=name, **spec)  # type: ignore[arg-type]
    found["metadata"]["name"] = name
    return found


def chosen(others: list[Obj], missing: dict[str, int], wanted: Obj | None = None) -> list[str]:
    return [one["metadata"]["name"] for one in victims(wanted or pod({}, priority=CRITICAL), others, missing)]


BEST = named("best", {})
SMALL = named("small", sizes({"cpu": "100m"}))
LARGE = named("large", sizes({"cpu": "500m"}))
SURE = named("sure", same(cpu="800m", memory="512Mi"))


@pytest.mark.parametrize(
    ("others", "missing", "expected"),
    [
        ([SURE, LARGE, SMALL, BEST], {"pods": 1}, ["best"]),
        ([SURE, LARGE, SMALL], {"cpu": 100}, ["small"]),
        ([SURE, LARGE, SMALL], {"cpu": 300}, ["large"]),
        ([SURE, LARGE, SMALL], {"cpu": 600}, ["large", "small"]),
        # The Burstable ones alone are not enough, and with the Guaranteed one only the smallest of them is needed.
        ([SURE, LARGE, SMALL], {"cpu": 850}, ["small", "sure"]),
        ([SURE, LARGE, BEST], {"pods": 2, "cpu": 100}, ["best", "large"]),
    ],
)
def test_the_lowest_class_that_can_give_it_does(
    others: list[Obj], missing: dict[str, int], expected: list[str]
) -> None:
    assert chosen(others, missing) == expected


def test_critical_pods_do_not_end_each_other_but_by_priority() -> None:
    other = named("other", sizes({"cpu": "1"}), priority=CRITICAL)
    with pytest.raises(
        NoVictims, match=r"no set of running pods found to reclaim resources: \[\(res: cpu, q: 500\), \]"
    ):
        chosen([other], {"cpu": 500})
    assert chosen([other], {"cpu": 500}, pod({}, priority=CRITICAL + 1000)) == ["other"]


def test_who_is_not_critical_is_refused_and_who_is_ends_others() -> None:
    asking = sizes({"cpu": "700m"})
    found, ends = admission(pod(asking), [LARGE], NODE)
    assert ends == []
    assert found is not None
    assert (found.reason, found.message) == (
        "OutOfcpu",
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 700, used: 500, capacity: 1000",
    )
    assert admission(pod(asking, priority=CRITICAL), [LARGE], NODE) == (None, [LARGE])
    # One that is ending already is waited for, and no other ends instead.
    assert admission(pod(asking, priority=CRITICAL), [LARGE, BEST], NODE, [LARGE]) == (None, [LARGE])
    elsewhere = pod(asking, priority=CRITICAL, nodeSelector={"disk": "ssd"})
    found, ends = admission(elsewhere, [LARGE], NODE)
    assert found is not None
    assert (found.reason, ends) == ("NodeAffinity", [])
    found, ends = admission(pod(sizes({"cpu": "2"}), priority=CRITICAL), [LARGE], NODE)
    assert found is not None
    assert (found.reason, ends) == ("UnexpectedAdmissionError", [])
    assert "[(res: cpu, q: 1000), ]" in found.message


def test_static_pods_heed_no_taints() -> None:
    tainted = {**NODE, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}
    found, _ = admission(pod({}), [], tainted)
    assert found is not None
    assert found.reason == "TaintToleration"
    assert admission(pod({}, notes={"kubernetes.io/config.source": "file"}), [], tainted) == (None, [])


def test_pods_and_huge_pages_run_out_too() -> None:
    found, _ = admission(pod({}), [BEST, SMALL, LARGE], NODE)
    assert found is not None
    assert found.reason == "OutOfpods"
    found, _ = admission(pod(same(cpu="1", memory="1Mi", **{"hugepages-2Mi": "2Mi"})), [], NODE)
    assert found is not None
    assert found.event == "Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0"
