"""Conditions and what is to be reclaimed, from look to look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agents.eviction.observations import Observation
from agents.eviction.planner import Round, State, look
from agents.eviction.thresholds import Signal, Threshold, parse_thresholds

MIB = 1 << 20
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HARD = parse_thresholds(hard={"memory.available": "100Mi", "nodefs.available": "10%"}, enforce=("pods",))


class Watch:
    """Looks at made-up figures, some seconds apart."""

    def __init__(self, thresholds: tuple[Threshold, ...] = HARD, transition: float = 300) -> None:
        self.thresholds = thresholds
        self.transition = transition
        self.state = State()
        self.now = BEGIN

    def look(self, after: float = 10, *, same: bool = False, **available: int) -> Round:
        """``memory=50`` MiB of 1000, ``disk=5`` of 100; ``same``: measured when the look before was."""
        self.now += timedelta(seconds=after)
        at = self.now - timedelta(seconds=after) if same else self.now
        observed = {}
        if "memory" in available:
            observed[Signal.MEMORY] = Observation(available["memory"] * MIB, 1000 * MIB, at)
        if "disk" in available:
            observed[Signal.NODE_FS] = Observation(available["disk"], 100, at)
        self.state, found = look(self.state, self.thresholds, observed, self.transition, self.now)
        return found


def test_nothing_runs_short() -> None:
    found = Watch().look(memory=500, disk=50)
    assert (found.conditions, found.threshold, found.resource) == ((), None, "")


def test_exactly_the_threshold_is_enough() -> None:
    assert Watch().look(memory=100).conditions == ()
    assert Watch().look(memory=99).conditions == ("MemoryPressure",)


def test_a_condition_outlives_its_cause_by_the_transition_period() -> None:
    watch = Watch()
    assert watch.look(memory=50).threshold is not None
    assert watch.look(memory=500).conditions == ("MemoryPressure",)
    assert watch.look(memory=500).threshold is None
    assert watch.look(270, memory=500).conditions == ("MemoryPressure",)
    assert watch.look(20, memory=500).conditions == ()


def test_a_flapping_signal_is_one_condition() -> None:
    watch = Watch()
    for memory in (50, 500, 50, 500):
        assert watch.look(200, memory=memory).conditions == ("MemoryPressure",)


def test_memory_comes_before_disk() -> None:
    found = Watch(HARD[::-1]).look(memory=50, disk=5)
    assert found.conditions == ("MemoryPressure", "DiskPressure")
    assert found.resource == "memory"
    assert {one.signal for one in found.due} == {Signal.MEMORY, Signal.NODE_FS}


def test_the_same_measurement_is_acted_upon_once() -> None:
    watch = Watch()
    assert watch.look(memory=50).threshold is not None
    again = watch.look(memory=50, same=True)
    assert again.threshold is None
    assert again.conditions == ("MemoryPressure",)
    assert watch.look(memory=50).threshold is not None


def test_a_soft_threshold_is_a_condition_at_once_and_acted_upon_after_its_grace() -> None:
    soft = parse_thresholds(hard={}, soft={"nodefs.available": "20%"}, soft_grace={"nodefs.available": "60s"})
    watch = Watch(soft)
    first = watch.look(disk=15)
    assert (first.conditions, first.threshold) == (("DiskPressure",), None)
    assert watch.look(30, disk=15).threshold is None
    assert watch.look(30, disk=15).threshold == soft[0]


def test_a_soft_threshold_that_recovers_begins_its_grace_anew() -> None:
    soft = parse_thresholds(hard={}, soft={"nodefs.available": "20%"}, soft_grace={"nodefs.available": "60s"})
    watch = Watch(soft)
    watch.look(disk=15)
    watch.look(50, disk=50)
    watch.look(10, disk=15)
    assert watch.look(50, disk=15).threshold is None
    assert watch.look(10, disk=15).threshold is not None


def test_reclaiming_goes_on_until_the_minimum_is_free() -> None:
    thresholds = parse_thresholds(hard={"nodefs.available": "10%"}, min_reclaim={"nodefs.available": "10%"})
    watch = Watch(thresholds)
    assert watch.look(disk=15).threshold is None  # never was below
    assert watch.look(disk=5).threshold is not None
    assert watch.look(disk=15).threshold is not None  # not yet 20
    assert watch.look(disk=20).threshold is None
    assert watch.look(disk=15).threshold is None


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 300), st.integers(0, 100)), min_size=1, max_size=30))
def test_whatever_is_seen(looks: list[tuple[int, int, int]]) -> None:
    watch = Watch()
    last_met: dict[str, datetime] = {}
    for after, memory, disk in looks:
        found = watch.look(after, memory=memory, disk=disk)
        short = {"MemoryPressure"} if memory < 100 else set()
        short |= {"DiskPressure"} if disk < 10 else set()
        last_met |= dict.fromkeys(short, watch.now)
        # What is short is a condition, acted upon, memory first; nothing else is acted upon.
        assert short <= set(found.conditions)
        assert (found.threshold is not None) is bool(short)
        if found.threshold is not None:
            assert found.threshold.signal is (Signal.MEMORY if "MemoryPressure" in short else Signal.NODE_FS)
        # A condition that was not short within the transition period is none.
        recent = {one for one, at in last_met.items() if (watch.now - at).total_seconds() < 300}
        assert set(found.conditions) == recent


def test_a_signal_that_cannot_be_measured_says_nothing() -> None:
    watch = Watch()
    assert watch.look(memory=50).threshold is not None
    found = watch.look()
    assert found.threshold is None
    assert found.conditions == ("MemoryPressure",)
