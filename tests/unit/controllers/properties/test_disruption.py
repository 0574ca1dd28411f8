"""Disruption budgets: however evictions and the controller's looks mix, what has to stay healthy does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.objects import Obj, is_terminating, name, uid
from orca.api.times import format_time
from orca.controllers import podstate
from orca.controllers.disruption.plan import (
    CannotCount,
    Scale,
    count,
    expected_pods,
    failed_status,
    needs_scales,
    new_status,
    still_evicted,
)
from tests.unit.controllers.properties.world import NOW, QUICK, Story, World, stories
from tests.unit.controllers.support import pod

limits = st.one_of(
    st.tuples(st.sampled_from(["minAvailable", "maxUnavailable"]), st.integers(0, 6)),
    st.tuples(st.sampled_from(["minAvailable", "maxUnavailable"]), st.sampled_from(["0%", "30%", "50%", "100%"])),
)


class Guarded(World):
    """Six pods of one set under a budget; evictions are granted as the API server does."""

    def __init__(self, limit: tuple[str, int | str]) -> None:
        super().__init__([pod(f"p{number}", owner="rs-uid") for number in range(6)])
        self.budget: Obj = {"metadata": {"generation": 1}, "spec": {limit[0]: limit[1]}, "status": {}}

    def healthy(self) -> int:
        return sum(podstate.is_ready(one) for one in self.active())

    def sync(self) -> None:
        view = [one for one in self.view() if not podstate.is_finished(one)]
        evicted, _ = still_evicted(self.budget, view, self.now)
        expected, unmanaged = len(view), False
        if needs_scales(self.budget):
            expected, unmanaged = expected_pods(view, {"rs-uid": Scale("rs-uid", 6)})
        assert not unmanaged
        counts = count(self.budget, view, expected, evicted)
        assert 0 <= counts.allowed <= max(counts.healthy, 0)
        self.budget = {**self.budget, "status": new_status(self.budget, counts, evicted, self.now)}

    def evict(self, number: int) -> None:
        """As the eviction subresource: it takes from the allowance and notes the pod, then deletes it, or dies."""
        running = sorted(self.active(), key=name)
        status = self.budget["status"]
        if not running or not status.get("disruptionsAllowed"):
            return
        one = running[number % len(running)]
        noted = {**(status.get("disruptedPods") or {}), name(one): format_time(self.now)}
        status = {**status, "disruptionsAllowed": status["disruptionsAllowed"] - 1, "disruptedPods": noted}
        self.budget = {**self.budget, "status": status}
        super().happen("evict", sorted({*self.pods, *self.seen}).index(uid(one)))


@QUICK
@given(limits, stories("grant", "grant", troubles=()))
def test_evictions_leave_what_the_budget_asks_for(limit: tuple[str, int | str], story: Story) -> None:
    world = Guarded(limit)
    world.sync()
    floor = world.budget["status"]["desiredHealthy"]
    for what, number in story:
        if what == "sync":
            world.sync()
        elif what == "grant":
            world.evict(number)
        else:
            world.happen(what, number)
        assert world.healthy() >= min(floor, 6)
    world.settle()
    world.sync()
    assert not world.budget["status"].get("disruptedPods")
    assert world.budget["status"]["currentHealthy"] == world.healthy()
    assert not any(map(is_terminating, world.pods.values()))


owners = st.lists(st.sampled_from(["", "a", "b", "gone"]), max_size=8)


@QUICK
@given(owners, st.integers(0, 5), st.integers(0, 5))
def test_the_workloads_are_counted_once_each_or_not_at_all(found: list[str], of_a: int, of_b: int) -> None:
    pods = [pod(f"p{number}", owner=owner) for number, owner in enumerate(found)]
    scales = {"a": Scale("a", of_a), "b": Scale("b", of_b), "gone": None}
    if "gone" in found:
        with pytest.raises(CannotCount, match="found no controllers for pod"):
            expected_pods(pods, scales)
        return
    wanted = of_a * ("a" in found) + of_b * ("b" in found)
    assert expected_pods(pods, scales) == (wanted, "" in found)


def test_nothing_may_go_while_nobody_can_count() -> None:
    before = {"disruptionsAllowed": 3, "currentHealthy": 4, "observedGeneration": 2}
    status = failed_status({"metadata": {}, "spec": {}, "status": before}, "why", NOW)
    assert status["disruptionsAllowed"] == 0
    assert status["currentHealthy"] == 4
    assert [one["reason"] for one in status["conditions"]] == ["SyncFailed"]
