"""Disruption budgets in the particulars that users of kube-controller-manager know."""

from datetime import timedelta
from typing import Any

from orca.api.builtin import EVENTS, PODDISRUPTIONBUDGETS, PODS, REPLICASETS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.times import format_time
from orca.controllers import conditions
from orca.controllers.disruption import DisruptionController
from orca.controllers.disruption.plan import called_off, count, failed_status, new_status, overdue, stale_in
from orca.controllers.selectortext import selector_text
from tests.unit.controllers.support import NOW, Cluster, pod, replicaset, running_one

LATER = NOW + timedelta(minutes=5)


def budget(budget_name: str = "web", **spec: Any) -> Obj:
    return {
        "metadata": {"name": budget_name, "namespace": "default", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


def announced(reason: str = "EvictionByEvictionAPI", **more: Any) -> Obj:
    made = pod("p0", **more)
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": format_time(NOW)}
    made["status"]["conditions"] = [condition, *made["status"]["conditions"]]
    return made


async def told(cluster: Cluster, controller: Any) -> dict[str, str]:
    await controller.recorder.flush()
    return {event["reason"]: event["message"] for event in cluster.api.objects(EVENTS)}


async def status_of(cluster: Cluster) -> Obj:
    """Of the budget."""
    found: Obj = (await cluster.api.get(PODDISRUPTIONBUDGETS, "web", "default"))["status"]
    return found


async def guarded(cluster: Cluster, replicas: int) -> None:
    """A ReplicaSet whose pods are all ready, and a budget by which one of them may go."""
    cluster.api.seed(REPLICASETS, replicaset(replicas))
    for index in range(replicas):
        cluster.api.seed(PODS, pod(f"p{index}", owner="rs-uid"))
    cluster.api.seed(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1))
    await cluster.settle(1)


def test_the_condition_always_says_for_which_generation_it_holds() -> None:
    found = budget(minAvailable=1)
    counts = count(found, [pod("a"), pod("b")], 2, {})
    first = new_status(found, counts, {}, NOW)
    found = {**found, "metadata": {**found["metadata"], "generation": 3}, "status": first}
    second = new_status(found, counts, {}, LATER)
    assert second["conditions"] == [{**first["conditions"][0], "observedGeneration": 3}]
    failed = failed_status({**found, "status": second}, "one", LATER)
    again = failed_status({**found, "status": failed}, "other", LATER + timedelta(minutes=1))
    assert again["conditions"][0]["message"] == "other"
    assert again["conditions"][0]["lastTransitionTime"] == format_time(LATER)


def test_an_announced_disruption_is_called_off_after_two_minutes() -> None:
    found = announced()
    assert stale_in(found, NOW + timedelta(seconds=50)) == 70
    assert stale_in(found, LATER) == 0
    assert stale_in(announced("TerminationByKubelet"), LATER) is None
    assert stale_in(announced(deletionTimestamp=format_time(NOW)), LATER) is None
    assert stale_in(announced(phase="Failed"), LATER) is None
    assert stale_in(pod("p1"), LATER) is None
    after = {**found, "status": called_off(found, LATER)}
    condition = {"type": "DisruptionTarget", "status": "False", "lastTransitionTime": format_time(LATER)}
    assert after["status"]["conditions"] == [condition, found["status"]["conditions"][1]]
    assert stale_in(after, LATER + timedelta(hours=1)) is None


def test_pods_that_were_granted_and_not_deleted_are_noticed() -> None:
    found = budget(minAvailable=1)
    found["status"] = {"disruptedPods": {"a": format_time(NOW), "b": format_time(LATER), "c": format_time(NOW)}}
    pods = [pod("a"), pod("b"), pod("c", deletionTimestamp=format_time(NOW)), pod("d")]
    assert overdue(found, pods, LATER) == [pods[0]]


def test_selectors_read_as_go_prints_them() -> None:
    assert selector_text(None) == "nil"
    rule = {"key": "tier", "operator": "In", "values": ["a", "b"]}
    assert selector_text({"matchLabels": {"x": "1", "app": "web"}, "matchExpressions": [rule]}) == (
        "&LabelSelector{MatchLabels:map[string]string{app: web,x: 1,},MatchExpressions:[]LabelSelectorRequirement{"
        "LabelSelectorRequirement{Key:tier,Operator:In,Values:[a b],},},}"
    )


async def test_what_is_told_of_budgets_and_pods() -> None:
    async with running_one(DisruptionController) as (cluster, controller):
        cluster.api.seed(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1))
        await cluster.settle(1)
        assert (await told(cluster, controller))["NoPods"] == "No matching pods found"
        cluster.api.seed(PODDISRUPTIONBUDGETS, budget("also", minAvailable=1))
        await cluster.settle(1)
        cluster.api.seed(PODS, pod("p0"))
        await cluster.settle(1)
        found = await told(cluster, controller)
        assert found["MultiplePodDisruptionBudgets"] == (
            'Pod "default"/"p0" matches multiple PodDisruptionBudgets.  Chose "also" arbitrarily.'
        )
        assert found["UnmanagedPods"].startswith(
            "Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:map[string]string{app: "
            "web,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged. As a result, "
        )


async def test_finished_pods_are_expected_but_not_healthy() -> None:
    async with running_one(DisruptionController) as (cluster, _):
        cluster.api.seed(PODS, pod("p0"))
        cluster.api.seed(PODS, pod("p1", phase="Succeeded", ready=False))
        cluster.api.seed(PODDISRUPTIONBUDGETS, budget(minAvailable=1))
        await cluster.settle(1)
        status = await status_of(cluster)
        assert (status["expectedPods"], status["currentHealthy"], status["disruptionsAllowed"]) == (2, 1, 0)


async def test_takes_a_stale_announcement_back() -> None:
    async with running_one(DisruptionController) as (cluster, _):
        found = announced()
        found["status"]["conditions"][0]["lastTransitionTime"] = format_time(cluster.clock.now())
        cluster.api.seed(PODS, found)
        await cluster.settle(119)
        seen = await cluster.api.get(PODS, "p0", "default")
        assert conditions.status_of(seen, "DisruptionTarget") == "True"
        await cluster.settle(2)
        seen = await cluster.api.get(PODS, "p0", "default")
        assert conditions.status_of(seen, "DisruptionTarget") == "False"
        assert conditions.status_of(seen, "Ready") == "True"


async def test_nothing_may_go_while_the_server_does_not_answer() -> None:
    async with running_one(DisruptionController) as (cluster, controller):
        await guarded(cluster, 2)
        assert (await status_of(cluster))["disruptionsAllowed"] == 1

        async def fail(*_: object) -> None:
            raise ApiError(500, "InternalError", "out of order")

        controller._scale_of = fail
        cluster.api.seed(PODS, pod("p2", owner="rs-uid"))
        await cluster.settle(1)
        status = await status_of(cluster)
        assert status["disruptionsAllowed"] == 0
        assert status["conditions"][0]["message"] == "out of order"


async def test_a_scale_that_leaves_its_count_out_wants_none() -> None:
    """As the API shows one of a custom workload that was scaled to zero."""
    async with running_one(DisruptionController) as (cluster, controller):
        ask = controller.client.get

        async def get(*arguments: Any, **options: Any) -> Obj:
            if options.get("subresource") == "scale":
                return {"metadata": {"name": "web", "uid": "custom"}, "spec": {}, "status": {"replicas": 1}}
            return await ask(*arguments, **options)  # type: ignore[no-any-return]

        controller.client.get = get
        cluster.api.seed(PODS, pod("p0", owner="custom", kind="Deployment"))
        cluster.api.seed(PODDISRUPTIONBUDGETS, budget(maxUnavailable=0))
        await cluster.settle(1)
        status = await status_of(cluster)
        assert (status["expectedPods"], status["desiredHealthy"]) == (0, 0)


def test_budgets_in_numbers_and_percent() -> None:
    pods = [*(pod(f"p{i}") for i in range(4)), pod("sick", ready=False)]
    assert count(budget(minAvailable=3), pods, 5, {}).allowed == 1
    assert count(budget(minAvailable="50%"), pods, 5, {}).allowed == 1
    assert count(budget(maxUnavailable=1), pods, 5, {}).allowed == 0
    assert count(budget(maxUnavailable="40%"), pods, 5, {}).allowed == 1
    assert count(budget(maxUnavailable=2), pods, 5, {"p0": "2026-01-01T00:00:00Z"}).allowed == 0
    assert count(budget(minAvailable=0), [], 0, {}).allowed == 0


async def test_a_budget_follows_its_pods() -> None:
    async with running_one(DisruptionController) as (cluster, _):
        await guarded(cluster, 3)
        status = await status_of(cluster)
        assert (status["expectedPods"], status["currentHealthy"], status["desiredHealthy"]) == (3, 3, 2)
        assert status["disruptionsAllowed"] == 1
        assert status["conditions"][0]["reason"] == "SufficientPods"
        await cluster.api.delete(PODS, "p0", "default", grace_seconds=0)
        await cluster.settle(1)
        status = await status_of(cluster)
        assert status["disruptionsAllowed"] == 0
        before = len(cluster.api.calls)
        await cluster.settle(600)
        assert len(cluster.api.calls) == before


async def test_a_budget_that_cannot_be_counted_allows_nothing() -> None:
    async with running_one(DisruptionController) as (cluster, _):
        daemon = pod("p0", owner="ds-uid", kind="DaemonSet")
        cluster.api.seed(PODS, daemon)
        cluster.api.seed(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1))
        await cluster.settle(1)
        status = await status_of(cluster)
        assert status["disruptionsAllowed"] == 0
        told = status["conditions"][0]
        assert (told["status"], told["reason"]) == ("False", "SyncFailed")
        assert told["message"] == "daemonsets.apps does not implement the scale subresource"
        # In pods it can be counted.
        change = {"spec": {"maxUnavailable": None, "minAvailable": 0}}
        await cluster.api.patch(PODDISRUPTIONBUDGETS, "web", change, "default")
        await cluster.settle(1)
        status = await status_of(cluster)
        assert (status["disruptionsAllowed"], status["conditions"][0]["reason"]) == (1, "SufficientPods")
