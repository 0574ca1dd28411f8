"""Autoscalers under a load: within bounds, no faster than asked, steady inside the tolerance, and at rest at last.

The world is a number of pods that share a load evenly; the metrics API reports each pod that is ready. Only the
autoscaler changes how many there are.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from math import ceil
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api.objects import Obj
from orca.api.times import format_time
from orca.controllers.horizontalpodautoscaler.behavior import DOWNSCALE_STABILIZATION, History
from orca.controllers.horizontalpodautoscaler.plan import Decision, Measured, Observed, decide, rescaled
from orca.controllers.horizontalpodautoscaler.readings import Reading
from tests.unit.controllers.properties.world import QUICK
from tests.unit.controllers.support import NOW, pod

FEW = settings(QUICK, max_examples=50)
PERIOD = timedelta(seconds=15)
REQUEST, TARGET = 1000, 50
"""What a pod requests, in thousandths of a core, and the percentage of it that it shall use."""
LONG_AGO = NOW - timedelta(hours=9)

policies = st.fixed_dictionaries(
    {"type": st.sampled_from(["Pods", "Percent"]), "value": st.integers(1, 120), "periodSeconds": st.integers(1, 300)}
)


def rules(window: int, *selects: str) -> st.SearchStrategy[Obj]:
    return st.fixed_dictionaries(
        {
            "selectPolicy": st.sampled_from(selects or ("Max", "Min")),
            "stabilizationWindowSeconds": st.integers(0, window),
            "policies": st.lists(policies, min_size=1, max_size=2),
        }
    )


def behaviors(*selects: str) -> st.SearchStrategy[Obj | None]:
    return st.none() | st.fixed_dictionaries({"scaleUp": rules(120, *selects), "scaleDown": rules(300, *selects)})


class Service:
    """Pods under a load (in thousandths of a core) that an autoscaler looks at every 15 seconds."""

    def __init__(self, replicas: int, behavior: Obj | None = None, *, least: int = 1, most: int = 20) -> None:
        metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": TARGET}}
        spec: dict[str, Any] = {
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": metric}],
        }
        if behavior is not None:
            spec["behavior"] = behavior
        self.autoscaler: Obj = {"metadata": {"generation": 1}, "spec": spec, "status": {}}
        self.behavior, self.least, self.most = behavior, least, most
        self.replicas, self.now, self.history = replicas, NOW, History()
        self.counts: list[tuple[datetime, int]] = [(NOW, replicas)]
        """Since when there were so many."""
        self.wishes: list[tuple[datetime, int]] = []
        """What metrics asked for, unbounded."""

    def use(self, load: int) -> int:
        """What each pod uses; more than four cores none can."""
        return min(load // max(self.replicas, 1), 4 * REQUEST)

    def look(self, load: int, *, silent: int = 0, starting: int = 0) -> Decision:
        """One look at so much load; of the pods so many are not reported, so many just start."""
        pods = [_pod(number, self.now if number < starting else LONG_AGO) for number in range(self.replicas)]
        reading = Reading(self.use(load), self.now, timedelta(seconds=10))
        told = {f"p{number}": reading for number in range(self.replicas - silent)}
        scale = {"spec": {"replicas": self.replicas}, "status": {"replicas": self.replicas, "selector": "app=web"}}
        found = decide(self.autoscaler, Observed(scale, pods, [Measured(readings=told)]), self.history, self.now)
        if not found.reason.startswith("Current number of replicas"):
            self.wishes.append((self.now, self.history.recommendations[-1].replicas))
        if found.replicas is not None:
            before, self.replicas = self.replicas, found.replicas
            rescaled(found, "", self.now)
            self.history.rescaled(before, self.replicas, self.now, self.behavior)
            self.counts.append((self.now, self.replicas))
        assert found.status["desiredReplicas"] == self.replicas
        self.autoscaler = {**self.autoscaler, "status": found.status}
        self.now += PERIOD
        return found

    def count_at(self, when: datetime) -> int:
        """How many there were at that time."""
        return next((count for since, count in reversed(self.counts) if since <= when), self.counts[0][1])


@cache
def _pod(number: int, started: datetime) -> Obj:
    made = pod(f"p{number}", since=started)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": f"{REQUEST}m"}}
    made["status"]["startTime"] = format_time(started)
    return made


loads = st.lists(st.tuples(st.integers(0, 12_000), st.integers(1, 8)), min_size=1, max_size=4)
"""How much, for how many looks."""


def run(service: Service, story: Sequence[tuple[int, int]], silent: int = 0, starting: int = 0) -> None:
    for load, looks in story:
        for _ in range(looks):
            before = service.replicas
            missing = min(silent, before - 1)
            found = service.look(load, silent=missing, starting=min(starting, before - missing - 1))
            _check_step(service, before, found)


def _check_step(service: Service, before: int, found: Decision) -> None:
    after, now = service.replicas, service.now - PERIOD
    assert service.least <= after <= service.most
    assert (found.replicas is None) == (after == before)
    if after == before or found.reason.startswith("Current number of replicas"):
        return
    wish, window = service.wishes[-1][1], DOWNSCALE_STABILIZATION
    if service.behavior is not None:
        window = service.behavior["scaleDown"]["stabilizationWindowSeconds"]
    recent = [wish, *(count for when, count in service.wishes if when > now - timedelta(seconds=window))]
    if after > before:
        assert after <= max(_limits(service, "scaleUp", before, now))
        assert before < (wish if service.behavior is not None else max(recent)), "nobody asked for more"
    else:
        assert after >= min(_limits(service, "scaleDown", before, now))
        assert after >= min(before, max(recent)), "somebody asked for more just now"


def _limits(service: Service, direction: str, before: int, now: datetime) -> list[int]:
    """The counts that the policies of a direction allow to reach, from what there was when their periods began."""
    if service.behavior is None:
        return [max(2 * before, 4)] if direction == "scaleUp" else [service.least]
    limits = []
    for policy in service.behavior[direction]["policies"]:
        start, value = service.count_at(now - timedelta(seconds=policy["periodSeconds"])), policy["value"]
        way = 1 if direction == "scaleUp" else -1
        if policy["type"] == "Pods":
            limits.append(start + way * value)
        else:
            share = start * (1 + way * value / 100)
            limits.append(ceil(share) if way == 1 else int(share))
    if service.behavior[direction]["selectPolicy"] == "Min":
        return [min(limits) if direction == "scaleUp" else max(limits)]
    return limits


@FEW
@given(st.integers(1, 20), behaviors(), st.tuples(st.integers(1, 5), st.integers(0, 15)), loads, st.integers(0, 3))
def test_stays_within_its_bounds_and_policies_whatever_the_load(
    start: int, behavior: Obj | None, bounds: tuple[int, int], story: list[tuple[int, int]], silent: int
) -> None:
    service = Service(start, behavior, least=bounds[0], most=bounds[0] + bounds[1])
    service.replicas = min(max(start, service.least), service.most)
    service.counts = [(NOW, service.replicas)]
    run(service, story, silent=silent, starting=silent)


@FEW
@given(st.integers(1, 20), behaviors("Disabled"), loads)
def test_goes_nowhere_where_that_is_disabled(start: int, behavior: Obj | None, story: list[tuple[int, int]]) -> None:
    if behavior is None:
        return
    service = Service(start, behavior)
    for load, looks in story:
        for _ in range(looks):
            assert service.look(load).replicas is None


@FEW
@given(st.integers(1, 20), behaviors(), st.lists(st.integers(91, 109), min_size=1, max_size=40))
def test_a_load_that_wavers_inside_the_tolerance_changes_nothing(
    start: int, behavior: Obj | None, percents: list[int]
) -> None:
    service = Service(start, behavior)
    for percent in percents:
        # A whole percent of use a pod, so that rounding leads nowhere else.
        use = ceil(TARGET * percent / 100) if percent < 100 else TARGET * percent // 100
        assert service.look(use * REQUEST // 100 * start).replicas is None


@FEW
@given(st.integers(1, 20), behaviors(), loads, st.integers(0, 12_000))
def test_comes_to_rest_where_the_load_is_served(
    start: int, behavior: Obj | None, story: list[tuple[int, int]], load: int
) -> None:
    service = Service(start, behavior)
    run(service, story)
    longest = 300 // 15 + 1  # looks that any window or period lasts
    quiet = 0
    for _ in range(20 * longest):
        quiet = quiet + 1 if service.look(load).replicas is None else 0
        if quiet > longest:
            break
    assert quiet > longest, "it never comes to rest"
    used = 100 * service.use(load) // REQUEST
    if service.replicas < service.most:
        assert used <= TARGET * 1.1, "too few"
    if service.replicas > service.least:
        assert ceil(service.replicas * used / TARGET) >= service.replicas or used >= TARGET * 0.9, "too many"


@FEW
@given(st.integers(2, 20), st.integers(0, 12_000), st.integers(0, 19), st.integers(0, 19))
def test_what_is_not_known_never_makes_it_go_further(start: int, load: int, silent: int, starting: int) -> None:
    """Pods that are not measured lead to a smaller change or to none, pods that start to no larger growth."""
    plain, partly = Service(start, most=1000), Service(start, most=1000)
    silent = min(silent, start - 1)
    starting = min(starting, start - silent - 1)
    plain.look(load)
    partly.look(load, silent=silent, starting=starting)
    full, part = plain.wishes[-1][1], partly.wishes[-1][1]
    assert part <= max(start, full)
    assert starting or part >= min(start, full)
