"""Autoscalers: from measured values to a count, how fast it is reached, and what is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import DEPLOYMENTS, HORIZONTALPODAUTOSCALERS, PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.times import format_time
from orca.controllers import ControllersConfig
from orca.controllers.horizontalpodautoscaler import HorizontalPodAutoscalerController
from orca.controllers.horizontalpodautoscaler.behavior import History, next_step
from orca.controllers.horizontalpodautoscaler.readings import MetricsError, Reading
from orca.controllers.horizontalpodautoscaler.replicas import Tolerance, by_average, by_share, by_utilization, by_value
from tests.unit.controllers.support import NOW, Cluster, deployment, pod, running_one

LONG_AGO = NOW - timedelta(hours=1)
LATER = NOW + timedelta(minutes=1)


def member(name: str, request: str = "1", *, started: bool = True, **kwargs: Any) -> Obj:
    """A pod that requests cpu and started an hour ago (or now)."""
    made = pod(name, since=LONG_AGO if started else NOW, **kwargs)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": request}}
    made["status"]["startTime"] = format_time(LONG_AGO if started else NOW)
    return made


def readings(*values: int) -> dict[str, Reading]:
    """By pod p0, p1 …, in thousandths."""
    return {f"p{i}": Reading(value, LATER, timedelta(seconds=30)) for i, value in enumerate(values)}


def utilization(pods: list[Obj], values: dict[str, Reading], target: int, current: int | None = None) -> int:
    return by_utilization(
        pods,
        values,
        resource="cpu",
        container="",
        target=target,
        current=len(pods) if current is None else current,
        tolerance=Tolerance(),
        now=LATER,
    ).replicas


def group(count: int, **kwargs: Any) -> list[Obj]:
    return [member(f"p{i}", **kwargs) for i in range(count)]


@pytest.mark.parametrize(
    ("used", "target", "wanted"),
    [
        ((300, 500, 700), 30, 5),  # 50 % of what is requested, 30 % wanted
        ((100, 300, 500), 50, 2),
        ((1010, 1030, 1020), 100, 3),  # within tolerance
        ((1200, 1200, 1200), 100, 4),
        ((0, 0, 0), 50, 0),
    ],
)
def test_replicas_follow_the_share_of_requests_in_use(used: tuple[int, ...], target: int, wanted: int) -> None:
    assert utilization(group(3), readings(*used), target) == wanted


def test_pods_that_are_not_measured_argue_against_a_change() -> None:
    assert utilization(group(4), readings(400, 500, 700), 30) == 6, "as if the fourth used nothing"
    assert utilization(group(4), readings(100, 100, 100), 50) == 3, "as if the fourth used all it may"
    assert utilization(group(2), readings(600), 50) == 2, "the direction may not turn round"


def test_unready_pods_count_as_idle_only_when_it_goes_up() -> None:
    pods = [*group(2), member("p2", ready=False, started=False)]
    assert utilization(pods, readings(900, 900, 10), 50) == 4
    assert utilization(pods, readings(100, 100, 900), 50) == 1


def test_cpu_of_the_start_does_not_count_until_a_whole_window_is_past_it() -> None:
    pods = [*group(2), member("p2", started=False)]
    early = {**readings(500, 500), "p2": Reading(5000, NOW, timedelta(seconds=30))}
    assert utilization(pods, early, 50) == 3
    late = {**readings(500, 500), "p2": Reading(5000, LATER, timedelta(seconds=30))}
    assert utilization(pods, late, 50) == 12


def test_failed_and_ending_pods_are_left_out() -> None:
    pods = [*group(2), member("p2", phase="Failed"), member("p3", deletionTimestamp=format_time(NOW))]
    assert utilization(pods, readings(800, 800, 9000, 9000), 40, current=2) == 4


@pytest.mark.parametrize(
    ("pods", "values", "text"),
    [
        ([], readings(1), "no pods returned by selector"),
        (group(1), {}, "did not receive metrics for targeted pods (pods might be unready)"),
        ([pod("p0", since=LONG_AGO)], readings(1), "missing request for cpu in container main of Pod p0"),
    ],
)
def test_what_leads_to_no_count_says_why(pods: list[Obj], values: dict[str, Reading], text: str) -> None:
    for one in pods:
        one["status"].setdefault("startTime", format_time(LONG_AGO))
    with pytest.raises(MetricsError, match=text.replace("(", r"\(").replace(")", r"\)")):
        utilization(pods, values, 50)


def test_averages_and_whole_values() -> None:
    close = Tolerance()
    made = by_average(group(3), readings(20_000, 10_000, 30_000), target=15_000, current=3, tolerance=close, now=LATER)
    assert (made.replicas, made.value) == (4, 20_000)
    assert by_value(group(3), 20_000, target=15_000, current=3, tolerance=close).replicas == 4
    assert by_value(group(3), 15_900, target=15_000, current=3, tolerance=close).replicas == 3
    assert by_value([], 8_600, target=4_400, current=0, tolerance=close).replicas == 2, "from zero"
    assert by_share(60_000, target=10_000, current=3, tolerance=close).replicas == 6
    assert by_share(33_000, target=10_000, current=3, tolerance=close).replicas == 3


def test_tolerances_of_an_autoscaler_hold_in_their_direction() -> None:
    wide = Tolerance(down=0.5, up=0.0)
    assert by_value(group(4), 101, target=100, current=4, tolerance=wide).replicas == 5
    assert by_value(group(4), 60, target=100, current=4, tolerance=wide).replicas == 4


# --- how fast


RULES: Obj = {
    "scaleUp": {
        "selectPolicy": "Max",
        "stabilizationWindowSeconds": 0,
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    },
    "scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
}


def step(wanted: int, current: int, history: History | None = None, **kwargs: Any) -> tuple[int, str]:
    made = next_step(
        wanted,
        current,
        **{"least": 1, "most": 100, "behavior": None, "history": history or History(), "now": NOW, **kwargs},
    )
    return made.replicas, (made.limited or made.within)[0]


def test_without_behavior_a_step_doubles_at_most() -> None:
    assert step(50, 10) == (20, "ScaleUpLimit")
    assert step(50, 1) == (4, "ScaleUpLimit")
    assert step(50, 10, most=15) == (15, "TooManyReplicas")
    assert step(1, 10, least=3) == (3, "TooFewReplicas")
    assert step(7, 10) == (7, "DesiredWithinRange")


def test_going_down_waits_until_nothing_recent_asked_for_more() -> None:
    history = History()
    history.recommended(8, NOW - timedelta(seconds=100), 300)
    assert step(2, 8, history) == (8, "DesiredWithinRange")
    assert step(2, 8, history, now=NOW + timedelta(seconds=250)) == (2, "DesiredWithinRange")


@pytest.mark.parametrize(
    ("up", "wanted", "current", "reached"),
    [
        ({}, 50, 10, 20),
        ({}, 50, 2, 6),
        ({"selectPolicy": "Min"}, 50, 10, 14),
        ({"selectPolicy": "Disabled"}, 50, 10, 10),
        ({"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}, 50, 10, 11),
    ],
)
def test_policies_bound_the_way_up(up: Obj, wanted: int, current: int, reached: int) -> None:
    behavior = {**RULES, "scaleUp": {**RULES["scaleUp"], **up}}
    assert step(wanted, current, behavior=behavior)[0] == reached


def test_a_period_counts_what_was_added_in_it() -> None:
    behavior = {**RULES, "scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]}}
    history = History()
    history.rescaled(10, 13, NOW, behavior)
    assert step(50, 13, history, behavior=behavior, now=NOW + timedelta(seconds=30)) == (14, "ScaleUpLimit")
    assert step(50, 14, history, behavior=behavior, now=NOW + timedelta(seconds=61)) == (18, "ScaleUpLimit")


def test_policies_bound_the_way_down() -> None:
    behavior = {
        **RULES,
        "scaleDown": {
            "stabilizationWindowSeconds": 0,
            "policies": [
                {"type": "Percent", "value": 10, "periodSeconds": 60},
                {"type": "Pods", "value": 5, "periodSeconds": 60},
            ],
        },
    }
    assert step(1, 100, behavior=behavior) == (90, "ScaleDownLimit")
    least = {**behavior, "scaleDown": {**behavior["scaleDown"], "selectPolicy": "Min"}}
    assert step(1, 100, behavior=least) == (95, "ScaleDownLimit")


counts = st.integers(0, 60)
policy = st.fixed_dictionaries(
    {"type": st.sampled_from(["Pods", "Percent"]), "value": st.integers(1, 150), "periodSeconds": st.integers(1, 1800)}
)
rules = st.fixed_dictionaries(
    {
        "selectPolicy": st.sampled_from(["Max", "Min", "Disabled"]),
        "stabilizationWindowSeconds": st.integers(0, 3600),
        "policies": st.lists(policy, min_size=1, max_size=3),
    }
)


@given(
    wishes=st.lists(counts, min_size=1, max_size=12),
    behavior=st.none() | st.fixed_dictionaries({"scaleUp": rules, "scaleDown": rules}),
    start=st.integers(1, 20),
    pause=st.integers(1, 400),
)
def test_a_step_never_leaves_the_bounds_nor_goes_against_the_wish(
    wishes: list[int], behavior: Obj | None, start: int, pause: int
) -> None:
    history, current, now = History(), start, NOW
    for wanted in wishes:
        made = next_step(wanted, current, least=1, most=20, behavior=behavior, history=history, now=now).replicas
        assert 1 <= made <= 20
        if behavior is not None:
            assert min(wanted, current) <= made <= max(wanted, current, 1)
        if made > current:
            assert made <= max(wanted, *(one.replicas for one in history.recommendations))
        history.rescaled(current, made, now, behavior)
        current, now = made, now + timedelta(seconds=pause)


# --- the controller


class Metrics:
    """What metrics APIs answer: a document by path, or an error."""

    def __init__(self) -> None:
        self.documents: dict[str, Obj] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    async def get(self, path: str, query: Mapping[str, str]) -> Obj:
        self.asked.append((path, query))
        if path not in self.documents:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return self.documents[path]

    def use_cpu(self, cluster: Cluster, cpu: str) -> None:
        """Every pod uses that much."""
        self.documents["/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"] = {
            "items": [
                {
                    "metadata": {"name": one["metadata"]["name"]},
                    "timestamp": format_time(cluster.clock.now()),
                    "window": "15s",
                    "containers": [{"name": "main", "usage": {"cpu": cpu, "memory": "1Mi"}}],
                }
                for one in cluster.api.objects(PODS)
            ]
        }


def autoscaler(**spec: Any) -> Obj:
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default", "generation": 3},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1,
            "maxReplicas": 10,
            "metrics": [metric],
            **spec,
        },
    }


class Scaled:
    """A cluster with a Deployment of pods that started long ago, and what they use."""

    def __init__(self, cluster: Cluster, metrics: Metrics) -> None:
        self.cluster = cluster
        self.metrics = metrics

    async def fill(self, count: int) -> None:
        for i in range(count):
            self.cluster.api.seed(PODS, member(f"p{i}"))

    async def autoscaler(self) -> Obj:
        return await self.cluster.api.get(HORIZONTALPODAUTOSCALERS, "web", "default")

    async def replicas(self) -> int:
        return int((await self.cluster.api.get(DEPLOYMENTS, "web", "default"))["spec"]["replicas"])

    async def condition(self, kind: str) -> tuple[str, str]:
        found = {one["type"]: one for one in (await self.autoscaler())["status"]["conditions"]}
        return found[kind]["status"], found[kind]["reason"]


def config(metrics: Metrics) -> ControllersConfig:
    return ControllersConfig(pages=metrics)


async def test_load_scales_up_and_its_end_down_after_five_minutes() -> None:
    metrics = Metrics()
    async with running_one(HorizontalPodAutoscalerController, config=config(metrics)) as (cluster, _):
        here = Scaled(cluster, metrics)
        await here.fill(2)
        metrics.use_cpu(cluster, "900m")
        cluster.api.seed(DEPLOYMENTS, deployment(2))
        cluster.api.seed(HORIZONTALPODAUTOSCALERS, autoscaler())
        await cluster.settle(1)
        assert await here.replicas() == 4
        status = (await here.autoscaler())["status"]
        assert status["desiredReplicas"] == 4
        assert status["currentReplicas"] == 2
        assert status["observedGeneration"] == 3
        assert status["lastScaleTime"]
        (current,) = status["currentMetrics"]
        assert current["resource"] == {"name": "cpu", "current": {"averageUtilization": 90, "averageValue": "900m"}}
        assert await here.condition("AbleToScale") == ("True", "SucceededRescale")
        assert await here.condition("ScalingActive") == ("True", "ValidMetricFound")
        for i in (2, 3):
            cluster.api.seed(PODS, member(f"p{i}"))
        metrics.use_cpu(cluster, "10m")
        await cluster.settle(100)
        assert await here.replicas() == 4
        assert await here.condition("AbleToScale") == ("True", "ScaleDownStabilized")
        metrics.use_cpu(cluster, "10m")
        await cluster.settle(230)
        assert await here.replicas() == 1


async def test_bounds_hold_without_any_metric() -> None:
    metrics = Metrics()
    async with running_one(HorizontalPodAutoscalerController, config=config(metrics)) as (cluster, _):
        here = Scaled(cluster, metrics)
        cluster.api.seed(DEPLOYMENTS, deployment(12))
        cluster.api.seed(HORIZONTALPODAUTOSCALERS, autoscaler())
        await cluster.settle(1)
        assert await here.replicas() == 10


async def test_a_target_of_zero_is_left_alone() -> None:
    metrics = Metrics()
    async with running_one(HorizontalPodAutoscalerController, config=config(metrics)) as (cluster, _):
        here = Scaled(cluster, metrics)
        cluster.api.seed(DEPLOYMENTS, deployment(0))
        cluster.api.seed(HORIZONTALPODAUTOSCALERS, autoscaler())
        await cluster.settle(40)
        assert await here.replicas() == 0
        assert await here.condition("ScalingActive") == ("False", "ScalingDisabled")


async def test_what_is_missing_is_told_and_looked_for_again() -> None:
    metrics = Metrics()
    async with running_one(HorizontalPodAutoscalerController, config=config(metrics)) as (cluster, _):
        here = Scaled(cluster, metrics)
        cluster.api.seed(HORIZONTALPODAUTOSCALERS, autoscaler())
        await cluster.settle(1)
        assert await here.condition("AbleToScale") == ("False", "FailedGetScale")
        await here.fill(2)
        cluster.api.seed(DEPLOYMENTS, deployment(2))
        await cluster.settle(16)
        assert await here.condition("AbleToScale") == ("True", "SucceededGetScale")
        assert await here.condition("ScalingActive") == ("False", "FailedGetResourceMetric")
        metrics.use_cpu(cluster, "900m")
        await cluster.settle(16)
        assert await here.replicas() == 4


async def test_one_bad_metric_stops_only_the_way_down() -> None:
    metrics = Metrics()
    external = {
        "type": "External",
        "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "30"}},
    }
    async with running_one(HorizontalPodAutoscalerController, config=config(metrics)) as (cluster, _):
        here = Scaled(cluster, metrics)
        await here.fill(2)
        metrics.use_cpu(cluster, "100m")
        cluster.api.seed(DEPLOYMENTS, {**deployment(2), "status": {"replicas": 4}})
        both = autoscaler(metrics=[*autoscaler()["spec"]["metrics"], external])
        cluster.api.seed(HORIZONTALPODAUTOSCALERS, both)
        await cluster.settle(1)
        assert await here.replicas() == 2
        assert await here.condition("ScalingActive") == ("False", "FailedGetExternalMetric")
        metrics.use_cpu(cluster, "900m")
        await cluster.settle(16)
        assert await here.replicas() == 4
        metrics.documents["/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue"] = {
            "items": [{"value": "100"}, {"value": "80"}]
        }
        await cluster.settle(16)
        assert await here.replicas() == 6
        assert (await here.autoscaler())["status"]["currentMetrics"][1]["external"]["current"]["averageValue"] == "45"


async def test_two_autoscalers_of_the_same_pods_do_nothing() -> None:
    metrics = Metrics()
    async with running_one(HorizontalPodAutoscalerController, config=config(metrics)) as (cluster, _):
        here = Scaled(cluster, metrics)
        await here.fill(2)
        cluster.api.seed(DEPLOYMENTS, deployment(2))
        cluster.api.seed(HORIZONTALPODAUTOSCALERS, autoscaler())
        other = autoscaler()
        other["metadata"]["name"] = "other"
        cluster.api.seed(HORIZONTALPODAUTOSCALERS, other)
        await cluster.settle(16)
        metrics.use_cpu(cluster, "900m")
        await cluster.settle(16)
        assert await here.condition("ScalingActive") == ("False", "AmbiguousSelector")
        assert await here.replicas() == 2
