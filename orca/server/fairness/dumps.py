"""``/debug/api_priority_and_fairness/…``: what stands where, as tables of text.

Reference: k8s.io/apiserver ``pkg/util/flowcontrol/apf_controller_debug.go``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import perf_counter

from orca.api.times import format_micro
from orca.server.fairness.classify import Flow
from orca.server.fairness.fairness import Fairness

ROOT = "/debug/api_priority_and_fairness/"


def dump(fairness: Fairness, what: str) -> str | None:
    """The table ``dump_…`` asks for; None when there is none of that name."""
    rows = {
        "dump_priority_levels": _levels,
        "dump_queues": _queues,
        "dump_requests": _requests,
    }.get(what)
    if rows is None:
        return None
    return "".join(", ".join(cells) + "\n" for cells in rows(fairness))


def _levels(fairness: Fairness) -> Iterator[list[str]]:
    yield [
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ]
    for level in sorted(fairness.levels.values(), key=lambda one: one.name):
        stats = [one for one in fairness.stats.values() if one.level == level.name]

        def refused(*reasons: str, stats: list = stats) -> int:  # type: ignore[type-arg]
            return sum(one.rejected.get(reason, 0) for one in stats for reason in reasons)

        yield [
            level.name,
            str(sum(1 for queue in level.queues if queue.waiting or queue.executing)),
            str(not level.running and not level.waiting).lower(),
            "false",
            str(level.waiting),
            str(level.running),
            str(sum(one.dispatched for one in stats)),
            str(refused("queue-full", "concurrency-limit")),
            str(refused("time-out")),
            str(refused("cancelled")),
        ]


def _queues(fairness: Fairness) -> Iterator[list[str]]:
    yield [
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
    ]
    for level in sorted(fairness.levels.values(), key=lambda one: one.name):
        for queue in level.queues:
            yield [
                level.name,
                str(queue.index),
                str(len(queue.waiting)),
                str(queue.executing),
                str(queue.executing),
                f"{queue.next_r:.8f}ss",
                str(queue.seats),
            ]


def _requests(fairness: Fairness) -> Iterator[list[str]]:
    yield [
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "FlowDistingsher",  # as upstream spells it
        "ArriveTime",
        "InitialSeats",
    ]
    now, clock = datetime.now(UTC), perf_counter()
    for level in sorted(fairness.levels.values(), key=lambda one: one.name):
        for queue in level.queues:
            for at, waiting in enumerate(queue.waiting):
                flow = waiting.label
                assert isinstance(flow, Flow)
                yield [
                    level.name,
                    flow.schema.name,
                    str(queue.index),
                    str(at),
                    flow.distinguisher,
                    format_micro(now - timedelta(seconds=clock - waiting.arrived)),
                    str(waiting.seats),
                ]
