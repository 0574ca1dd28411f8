"""Priority and fairness without a server: who matches what, who waits, who goes first, who borrows."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections import Counter
from time import perf_counter

import pytest

from orca.api.builtin import BUILTIN, FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from orca.api.errors import ApiError
from orca.api.objects import Obj, thaw
from orca.auth import UserInfo
from orca.server.fairness import Fairness, FairnessConfig, Level
from orca.server.fairness.classify import deal
from orca.server.fairness.defaults import MANDATORY, SUGGESTED
from orca.server.fairness.demand import Demand
from orca.server.fairness.dumps import dump
from orca.server.fairness.fairness import seats_of
from orca.server.fairness.levels import Waiting, borrow, fair_fraction, share_out
from orca.server.fairness.turns import Turns
from orca.server.metrics.fairness import FlowControl
from orca.server.paths import parse_path

SCHEMAS = [obj for resource, obj in (*MANDATORY, *SUGGESTED) if resource is FLOWSCHEMAS]
LEVELS = [obj for resource, obj in (*MANDATORY, *SUGGESTED) if resource is PRIORITYLEVELCONFIGURATIONS]


def user(name: str, *groups: str) -> UserInfo:
    return UserInfo(name, groups=(*groups, "system:authenticated"))


def fairness(schemas: list[Obj] | None = None, **config: int) -> Fairness:
    made = Fairness(FairnessConfig(**config))
    made.configure(SCHEMAS if schemas is None else schemas, LEVELS)
    return made


@pytest.mark.parametrize(
    ("who", "verb", "path", "schema", "level"),
    [
        (user("admin", "system:masters"), "list", "/api/v1/pods", "exempt", "exempt"),
        (user("someone"), "get", "/readyz", "probes", "exempt"),
        (UserInfo("system:anonymous", groups=("system:unauthenticated",)), "get", "/livez", "probes", "exempt"),
        (user("someone"), "get", "/metrics", "global-default", "global-default"),
        (
            user("system:node:n1", "system:nodes"),
            "update",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
            "system-node-high",
            "node-high",
        ),
        (user("system:node:n1", "system:nodes"), "patch", "/api/v1/nodes/n1/status", "system-node-high", "node-high"),
        (user("system:node:n1", "system:nodes"), "list", "/api/v1/pods", "system-nodes", "system"),
        (
            user("system:kube-scheduler"),
            "update",
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/s",
            "system-leader-election",
            "leader-election",
        ),
        (user("system:kube-scheduler"), "list", "/api/v1/pods", "kube-scheduler", "workload-high"),
        (
            user("system:serviceaccount:kube-system:x", "system:serviceaccounts"),
            "list",
            "/api/v1/pods",
            "kube-system-service-accounts",
            "workload-high",
        ),
        (
            user("system:serviceaccount:default:x", "system:serviceaccounts"),
            "list",
            "/api/v1/pods",
            "service-accounts",
            "workload-low",
        ),
        (user("someone"), "list", "/api/v1/pods", "global-default", "global-default"),
        (UserInfo("strange"), "list", "/api/v1/pods", "catch-all", "catch-all"),
    ],
)
def test_requests_find_their_level(who: UserInfo, verb: str, path: str, schema: str, level: str) -> None:
    flow = fairness().classify(who, verb, parse_path(path, BUILTIN))
    assert (flow.schema.name, flow.level.name) == (schema, level)


def test_own_schemas_match_by_verb_group_namespace_and_precedence() -> None:
    def schema(name: str, precedence: int, **rule: object) -> Obj:
        subjects = [{"kind": "User", "user": {"name": "bob"}}]
        base = {"verbs": ["list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}
        spec = {
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": "workload-low"},
            "distinguisherMethod": {"type": "ByNamespace"},
            "rules": [{"subjects": subjects, "resourceRules": [{**base, **rule}]}],
        }
        return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec}

    made = fairness([*SCHEMAS, schema("team", 50, namespaces=["a"]), schema("cluster", 60, clusterScope=True)])

    def found(verb: str, path: str) -> str:
        return made.classify(user("bob"), verb, parse_path(path, BUILTIN)).schema.name

    assert found("list", "/api/v1/namespaces/a/pods") == "team"
    assert found("list", "/api/v1/namespaces/b/pods") == "global-default"
    assert found("list", "/api/v1/pods") == "cluster"
    assert found("get", "/api/v1/namespaces/a/pods/x") == "global-default"
    assert found("list", "/api/v1/namespaces/a/secrets") == "global-default"
    assert made.classify(user("bob"), "list", parse_path("/api/v1/namespaces/a/pods", BUILTIN)).distinguisher == "a"


def test_mandatory_levels_work_whatever_is_stored() -> None:
    made = Fairness(FairnessConfig())
    broken = [thaw(obj) for obj in LEVELS]
    for obj in broken:
        if obj["metadata"]["name"] == "exempt":
            obj["spec"] = {"type": "Limited", "limited": {"nominalConcurrencyShares": 0}}
    made.configure([], broken)
    flow = made.classify(user("admin", "system:masters"), "list", parse_path("/api/v1/pods", BUILTIN))
    assert flow.level.exempt
    assert made.classify(user("x"), "list", parse_path("/api/v1/pods", BUILTIN)).schema.name == "catch-all"


def test_a_schema_whose_level_is_missing_matches_nothing() -> None:
    dangling = thaw(SCHEMAS[-1])
    dangling["metadata"]["name"] = "dangling"
    dangling["spec"] |= {"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": "nowhere"}}
    made = fairness([*SCHEMAS, dangling])
    assert made.classify(user("x"), "list", parse_path("/api/v1/pods", BUILTIN)).schema.name == "global-default"


def test_seats_are_allotted_by_shares() -> None:
    made = fairness()
    assert {level.name: (level.nominal, level.least) for level in made.levels.values()} == {
        "exempt": (0, 0),
        "catch-all": (13, 13),
        "system": (74, 50),
        "node-high": (98, 74),
        "leader-election": (25, 25),
        "workload-high": (98, 49),
        "workload-low": (245, 25),
        "global-default": (49, 25),
    }


def level(*, seats: int, queues: int = 4, hand: int = 2, length: int = 10) -> Level:
    made = Level("test")
    queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": length}
    response = {"type": "Queue", "queuing": queuing} if queues else {"type": "Reject"}
    limited = {"nominalConcurrencyShares": 1, "limitResponse": response, "borrowingLimitPercent": 0}
    made.configure({"metadata": {"name": "test"}, "spec": {"type": "Limited", "limited": limited}})
    made.allot(seats, 1)
    return made


def test_seats_queues_and_limits() -> None:
    one = level(seats=2, queues=1, hand=1, length=2)
    assert one.enter(1, 0.0)
    assert one.enter(1, 0.0)
    assert not one.enter(1, 0.0)
    order: list[str] = []
    for name in "ab":
        assert one.enqueue(Waiting(1, 0.0, lambda name=name: order.append(name), name), (0,), 0.0)
    assert not one.enqueue(Waiting(1, 0.0, lambda: None, "c"), (0,), 0.0)
    one.leave(1, 1.0)
    assert order == ["a"]
    one.leave(1, 1.0)
    assert order == ["a", "b"]
    assert (one.executing, one.running, one.waiting) == (2, 2, 0)


def test_a_level_without_queues_turns_away() -> None:
    one = level(seats=1, queues=0)
    assert one.enter(1, 0.0)
    assert not one.enqueue(Waiting(1, 0.0, lambda: None, "x"), (), 0.0)


def test_a_request_wider_than_the_level_runs_alone() -> None:
    one = level(seats=4, queues=1, hand=1)
    assert one.enter(1, 0.0)
    granted: list[bool] = []
    assert one.enqueue(Waiting(10, 0.0, lambda: granted.append(True), "wide"), (0,), 0.0)
    assert not granted
    one.leave(1, 1.0)
    assert granted
    assert not one.enter(1, 1.0)


def test_flows_are_served_evenly_however_much_one_asks() -> None:
    one = level(seats=1, queues=8, hand=1, length=1000)
    assert one.enter(1, 0.0)
    served: list[str] = []
    for _ in range(500):
        one.enqueue(Waiting(1, 0.0, lambda: served.append("noisy"), None), (3,), 0.0)
    for _ in range(5):
        one.enqueue(Waiting(1, 0.0, lambda: served.append("quiet"), None), (5,), 0.0)
    now = 0.0
    for _ in range(12):
        now += 0.003
        one.leave(1, now)
    assert Counter(served)["quiet"] == 5


def test_wide_requests_cost_their_flow_more() -> None:
    """Two flows that always want more get the same share of seats over time, not of requests."""
    one = level(seats=10, queues=2, hand=1, length=1000)
    assert one.enter(10, 0.0)
    running: list[tuple[int, int]] = []  # (queue, seats)
    for _ in range(200):
        one.enqueue(Waiting(5, 0.0, lambda: running.append((0, 5)), None), (0,), 0.0)
        one.enqueue(Waiting(1, 0.0, lambda: running.append((1, 1)), None), (1,), 0.0)
    one.leave(10, 0.0)
    used, now = Counter[int](), 0.0
    for _ in range(40):
        now += 0.01
        done, running[:] = list(running), []
        for queue, seats in done:
            used[queue] += seats
            one.leave(seats, now, one.queues[queue], 0.01)
    assert 0.6 < used[0] / used[1] < 1.7


def test_hands_are_different_cards_and_flows_differ() -> None:
    hands = {deal(number * 0x9E3779B97F4A7C15 % 2**64, 64, 6) for number in range(200)}
    assert len(hands) > 190
    assert all(len(set(hand)) == 6 and max(hand) < 64 for hand in hands)


def test_idle_levels_lend_and_busy_ones_borrow() -> None:
    made = fairness()
    busy, idle = made.levels["workload-high"], made.levels["workload-low"]
    now = perf_counter()
    busy.demand.begin(now)  # a busy machine may have taken long to get here
    assert busy.enter(90, now)
    busy.demand.note(90, 1, 210, 210, now + 10)
    factor = borrow(list(made.levels.values()), made.total, now + 10)
    assert factor > 0
    assert (round(busy.demand.average), busy.demand.high) == (300, 300)
    assert busy.limit > busy.nominal
    assert idle.limit < idle.nominal
    assert idle.limit >= idle.least
    assert abs(sum(one.limit for one in made.levels.values()) - 600) <= 8


def test_sharing_out_keeps_the_bounds() -> None:
    def shared(*wants: tuple[float, float, float]) -> list[int]:
        return share_out(list(wants), fair_fraction(list(wants), 60))

    assert shared((100, 10, 100), (1, 10, 50)) == [50, 10]
    assert shared((1, 40, 50), (1, 40, 50)) == [40, 40]
    assert shared((1, 1, 5), (1, 1, 5)) == [5, 5]
    assert shared() == []


def test_time_is_shared_out_by_how_much_was_used() -> None:
    demand = Demand()
    demand.begin(10.0)
    demand.note(0, 0, 0, 0, 14.0)
    demand.note(10, 5, 0, 0, 15.0)
    demand.note(20, 20, 20, 10, 16.0)
    demand.fold(nominal=20, limit=20, capacity=40)
    seconds = 10**9
    seated = dict(demand.seated.cumulative())
    assert (seated["0"], seated["0.5"], seated["+Inf"]) == (4 * seconds, 5 * seconds, 6 * seconds)
    demanded = dict(demand.demanded.cumulative())
    assert (demanded["0.2"], demanded["0.6"], demanded["1.7"], demanded["2"]) == tuple(
        number * seconds for number in (4, 5, 5, 6)
    )
    assert dict(demand.requested.cumulative())["0.25"] == 5 * seconds
    assert dict(demand.waited.cumulative())["0.1"] == 5 * seconds
    assert demand.seated.total == 1.5 * seconds
    demand.close(wanted=3)
    assert (demand.high, round(demand.average, 3), round(demand.deviation, 2)) == (40, 8.333, 14.62)
    demand.close(wanted=3)
    assert (demand.high, demand.average) == (3, 0.0), "a period without time has no average"


@pytest.mark.parametrize(
    ("count", "query", "seats"),
    [
        (0, {}, 1),
        (100, {}, 1),
        (101, {}, 2),
        (950, {}, 10),
        (30_000, {}, 10),
        (30_000, {"limit": "100"}, 1),
        (30_000, {"limit": "500"}, 5),
        (30_000, {"limit": "²"}, 10),
        (30_000, {"limit": "9" * 5000}, 10),
        (30_000, {"limit": "100", "labelSelector": "a=b"}, 10),
    ],
)
def test_lists_are_as_wide_as_what_they_look_at(count: int, query: dict[str, str], seats: int) -> None:
    assert seats_of(count, query) == seats


async def test_waiting_ends_with_a_seat_a_refusal_or_the_clients_patience() -> None:
    made = Fairness(FairnessConfig(reading=1, writing=0, queue_seconds=0.05))
    limited = {
        "nominalConcurrencyShares": 100,
        "limitResponse": {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}},
    }
    low = {"metadata": {"name": "low", "uid": "u"}, "spec": {"type": "Limited", "limited": limited}}
    schema = thaw(SCHEMAS[-1])
    schema["spec"]["priorityLevelConfiguration"]["name"] = "low"
    made.configure([schema], [low])
    flow = made.classify(user("x"), "list", parse_path("/api/v1/pods", BUILTIN))
    assert made.enter(flow, 1, perf_counter())
    second = asyncio.create_task(made.wait(flow, 1))
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as told:
        await made.wait(flow, 1)
    assert (told.value.code, told.value.reason) == (429, "TooManyRequests")
    assert told.value.retry_after
    assert "low, system" not in (dump(made, "dump_requests") or "")
    assert ", x, " in (dump(made, "dump_requests") or "")
    with pytest.raises(ApiError):
        await second
    assert flow.stats.rejected == {"queue-full": 1, "time-out": 1}
    third = asyncio.create_task(made.wait(flow, 1))
    await asyncio.sleep(0)
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    fourth = asyncio.create_task(made.wait(flow, 1))
    await asyncio.sleep(0)
    made.leave(flow, 1, None, perf_counter())
    waiting = await fourth
    made.leave(flow, 1, waiting, perf_counter())
    assert (flow.level.executing, flow.level.running, flow.level.waiting) == (0, 0, 0)
    stats = flow.stats
    assert (stats.came, stats.running, stats.served.count, stats.begun.count) == (5, 0, 2, 0)
    assert (stats.queued, stats.queued_seats, stats.beside) == (0, 0, 0)
    assert (stats.lengths, stats.passed_over >= 3) == ({1: 3}, True)
    assert made.enter(flow, 4, perf_counter())
    assert (stats.running, stats.beside, stats.wide) == (1, 3, {4: 1})
    made.leave(flow, 4, None, perf_counter(), watch=True)
    assert (stats.running, stats.beside, stats.begun.count) == (0, 0, 1)
    assert (dump(made, "dump_priority_levels") or "").count("\n") == 1 + len(made.levels)
    assert dump(made, "dump_nothing") is None


async def test_counts_of_who_came_never_go_back() -> None:
    """Also while somebody waits for a turn of the event loop, and when they go before it is theirs."""

    class Never(Turns):
        def has_room(self, now: float) -> bool:
            return False

        async def wait(self, lane: object) -> None:
            await asyncio.Event().wait()

    made = fairness()
    made.turns = Never()
    flow = made.classify(user("x"), "list", parse_path("/api/v1/pods", BUILTIN))

    def buckets() -> list[float]:
        [widths] = [one for one in FlowControl(made).collect() if one.name.endswith("work_estimated_seats")]
        of = {"priority_level": flow.level.name, "flow_schema": flow.schema.name}
        return [
            one.value for one in widths.samples if one.name.endswith("_bucket") and of.items() <= one.labels.items()
        ]

    async def came(seats: int) -> asyncio.Task[Waiting | None]:
        assert not made.enter(flow, seats, perf_counter())
        task = asyncio.create_task(made.wait(flow, seats))
        await asyncio.sleep(0)
        return task

    tasks = [await came(seats) for seats in (1, 3, 1, 10)]
    assert buckets() == [2, 2, 3, 4, 4]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert buckets() == [2, 2, 3, 4, 4]
    assert flow.stats.rejected == {"cancelled": 4}
    assert (flow.stats.turning, flow.level.executing) == (0, 0)


async def test_metrics_tell_of_who_runs_and_who_waits() -> None:
    made = Fairness(FairnessConfig(reading=1, writing=0, queue_seconds=5))
    schema = thaw(SCHEMAS[-1])
    schema["spec"]["priorityLevelConfiguration"]["name"] = "low"
    queuing = {"queues": 1, "handSize": 1, "queueLengthLimit": 5}
    limited = {"nominalConcurrencyShares": 100, "limitResponse": {"type": "Queue", "queuing": queuing}}
    made.configure([schema], [{"metadata": {"name": "low"}, "spec": {"type": "Limited", "limited": limited}}])
    flow = made.classify(user("x"), "list", parse_path("/api/v1/pods", BUILTIN))

    def sample(name: str, **labels: str) -> float | None:
        of = {"priority_level": "low", **labels}
        found = [
            one.value
            for family in FlowControl(made).collect()
            for one in family.samples
            if one.name == f"apiserver_flowcontrol_{name}" and of.items() <= one.labels.items()
        ]
        return found[0] if found else None

    assert made.enter(flow, 1, perf_counter())
    assert sample("next_s_bounds", bound="min") is None
    waiting = asyncio.create_task(made.wait(flow, 3))
    await asyncio.sleep(0)
    assert (sample("current_executing_requests"), sample("current_executing_seats")) == (1, 1)
    assert (sample("current_inqueue_requests"), sample("current_inqueue_seats")) == (1, 3)
    assert sample("request_queue_length_after_enqueue_bucket", le="10") == 1
    least, discounted = sample("next_s_bounds", bound="min"), sample("next_discounted_s_bounds", bound="max")
    assert least is not None
    assert least == discounted, "nobody of that queue runs"
    made.leave(flow, 1, None, perf_counter())
    granted = await waiting
    assert (sample("current_executing_requests"), sample("current_executing_seats")) == (1, 3)
    assert sample("request_execution_seconds_count", type="regular") == 1
    assert sample("request_dispatch_no_accommodation_total") == 1
    made.leave(flow, 3, granted, perf_counter())
    assert (sample("current_executing_requests"), sample("current_executing_seats")) == (0, 0)
    assert (sample("dispatched_requests_total"), sample("request_wait_duration_seconds_count")) == (2, 2)
    taken, whole = sample("priority_level_seat_utilization_bucket", le="0"), sample("demand_seats_count")
    assert taken is not None
    assert whole is not None
    assert 0 < taken < whole


def test_classification_and_seats_cost_little() -> None:
    made = fairness()
    target = parse_path("/api/v1/namespaces/default/pods/x", BUILTIN)
    who = user("someone")
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    async def measure() -> None:
        flow = made.classify(who, "get", target)
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            for _ in range(100):
                flow = made.classify(who, "get", target)
                flow.level.enter(1, 1.0)
                flow.stats.dispatched += 1
                made.leave(flow, 1, None, 1.0)
        finally:
            sys.setprofile(before)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(measure())
    finally:
        loop.close()
    assert calls / 100 < 30, "calls of functions for each request: a dozen, and not one for each schema or queue"


def test_queues_that_nobody_stands_in_take_little_memory() -> None:
    """There are more than five hundred from the start."""
    tracemalloc.start()
    try:
        made = fairness()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    count = sum(len(level.queues) for level in made.levels.values())
    assert count > 500
    assert taken < count * 400
