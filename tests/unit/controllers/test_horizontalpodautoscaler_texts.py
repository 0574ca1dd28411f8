"""What autoscalers tell, word for word: people and their alerts search for it."""

from typing import Any

import pytest

from orca.api.builtin import DEPLOYMENTS, HORIZONTALPODAUTOSCALERS
from orca.api.objects import Obj
from orca.controllers.horizontalpodautoscaler import HorizontalPodAutoscalerController
from orca.controllers.horizontalpodautoscaler.behavior import History
from orca.controllers.horizontalpodautoscaler.describing import name_of
from orca.controllers.horizontalpodautoscaler.measuring import Measuring
from orca.controllers.horizontalpodautoscaler.plan import Observed, decide, rescaled
from orca.controllers.horizontalpodautoscaler.readings import MetricsError, resource_readings
from orca.controllers.horizontalpodautoscaler.replicas import Tolerance, by_value
from tests.unit.controllers.support import NOW, deployment, running_one
from tests.unit.controllers.test_horizontalpodautoscaler import Metrics, autoscaler, config, group

MISSING = "the server could not find the requested resource"
QUEUE: Obj = {"name": "queue", "selector": {"matchLabels": {"of": "web"}}}
QUEUE_TEXT = "&LabelSelector{MatchLabels:map[string]string{of: web,},MatchExpressions:[]LabelSelectorRequirement{},}"
UTILIZATION = {"type": "Utilization", "averageUtilization": 50}
AVERAGE = {"type": "AverageValue", "averageValue": "30"}
SERVICE = {"apiVersion": "v1", "kind": "Service", "name": "front"}
ENTRIES: dict[str, tuple[Obj, str, str, str]] = {
    "Resource": (
        {"resource": {"name": "cpu", "target": UTILIZATION}},
        "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource "
        f"metrics API: {MISSING}",
        "failed to get cpu resource metric value: ",
        "cpu resource utilization (percentage of request)",
    ),
    "ContainerResource": (
        {"containerResource": {"name": "memory", "container": "main", "target": AVERAGE}},
        "failed to get memory usage: unable to get metrics for resource memory: unable to fetch metrics from resource "
        f"metrics API: {MISSING}",
        "failed to get memory container resource metric value: ",
        "memory container resource",
    ),
    "Pods": (
        {"pods": {"metric": {"name": "hits"}, "target": AVERAGE}},
        f"unable to get metric hits: unable to fetch metrics from custom metrics API: {MISSING}",
        "failed to get pods metric value: ",
        "pods metric hits",
    ),
    "Object": (
        {"object": {"metric": {"name": "hits"}, "describedObject": SERVICE, "target": {"type": "Value", "value": "3"}}},
        f"unable to get metric hits: unable to fetch metrics from custom metrics API: {MISSING} on Service "
        "default/front",
        "failed to get object metric value: ",
        "Service metric hits",
    ),
    "External": (
        {"external": {"metric": QUEUE, "target": AVERAGE}},
        f"unable to get external metric default/queue/{QUEUE_TEXT}: unable to fetch metrics from external metrics API: "
        f"{MISSING}",
        "failed to get external metric value: failed to get queue external metric: ",
        f"external metric queue({QUEUE_TEXT})",
    ),
}


def scale(selector: str = "app=web") -> Obj:
    return {"spec": {"replicas": 2}, "status": {"replicas": 2, "selector": selector}}


@pytest.mark.parametrize("kind", ENTRIES)
async def test_a_metric_that_cannot_be_had(kind: str) -> None:
    details, text, before, called = ENTRIES[kind]
    metric = {"type": kind, **details}
    measured = await Measuring(Metrics()).measure(metric, "default", "app=web")
    decision = decide(autoscaler(metrics=[metric]), Observed(scale(), group(2), [measured]), History(), NOW)
    assert decision.events == [
        ("Warning", f"FailedGet{kind}Metric", text),
        (
            "Warning",
            "FailedComputeMetricsReplicas",
            f"invalid metrics (1 invalid out of 1), first error is: {before}{text}",
        ),
    ]
    (active,) = (one for one in decision.status["conditions"] if one["type"] == "ScalingActive")
    assert active["message"] == f"the HPA was unable to compute the replica count: {text}"
    assert name_of(metric) == called


@pytest.mark.parametrize(
    ("seen", "reason", "event", "text"),
    [
        ({"scale": scale("")}, "InvalidSelector", "SelectorRequired", "selector is required"),
        (
            {"unreadable": "unable to parse"},
            "InvalidSelector",
            "InvalidSelector",
            "couldn't convert selector into a corresponding internal selector object: unable to parse",
        ),
        (
            {"rivals": ("default/a", "default/b")},
            "AmbiguousSelector",
            "AmbiguousSelector",
            "pods by selector app=web are controlled by multiple HPAs: [default/a default/b]",
        ),
    ],
)
def test_pods_that_nobody_can_tell(seen: dict[str, Any], reason: str, event: str, text: str) -> None:
    made = Observed(**{"scale": scale(), "pods": group(2), "measured": (), **seen})
    decision = decide(autoscaler(), made, History(), NOW)
    assert decision.replicas is None
    assert decision.events == [("Warning", event, text), ("Warning", "FailedComputeMetricsReplicas", text)]
    (active,) = (one for one in decision.status["conditions"] if one["type"] == "ScalingActive")
    assert (active["status"], active["reason"]) == ("False", reason)


def test_a_rescale_that_is_refused_leaves_the_wanted_count_as_it_was() -> None:
    found = autoscaler(maxReplicas=1)
    found["status"] = {"desiredReplicas": 5}
    decision = decide(found, Observed(scale(), group(2), ()), History(), NOW)
    assert decision.replicas == 1
    rescaled(decision, "refused", NOW)
    assert decision.status["desiredReplicas"] == 5
    text = "New size: 1; reason: Current number of replicas above Spec.MaxReplicas; error: refused"
    assert decision.events == [("Warning", "FailedRescale", text)]


def test_a_container_that_a_pod_does_not_have() -> None:
    usage = {
        "metadata": {"name": "p0", "namespace": "default"},
        "timestamp": "2026-01-01T00:00:00Z",
        "containers": [{"name": "main", "usage": {"cpu": "1"}}],
    }
    with pytest.raises(MetricsError, match="container side not present in metrics for pod default/p0"):
        resource_readings([usage], "cpu", "side")


def test_one_value_for_no_pods() -> None:
    with pytest.raises(MetricsError, match="unable to calculate ready pods: no pods returned by selector"):
        by_value([], 200, target=100, current=2, tolerance=Tolerance())


async def test_a_target_of_an_unknown_kind() -> None:
    metrics = Metrics()
    async with running_one(HorizontalPodAutoscalerController, config=config(metrics)) as (cluster, _):
        cluster.api.seed(DEPLOYMENTS, deployment(2))
        reference = {"apiVersion": "example.com/v1", "kind": "Gadget", "name": "web"}
        cluster.api.seed(HORIZONTALPODAUTOSCALERS, autoscaler(scaleTargetRef=reference))
        await cluster.settle(1)
        found = await cluster.api.get(HORIZONTALPODAUTOSCALERS, "web", "default")
        (able,) = found["status"]["conditions"]
        assert able["message"] == (
            "the HPA controller was unable to get the target's current scale: "
            'no matches for kind "Gadget" in group "example.com"'
        )
