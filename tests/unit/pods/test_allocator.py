"""Who gets the room of a host, in which order, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agents.pods.allocation import objection, told, turn
from agents.pods.allocator import Allocator
from agents.pods.memory import Memory
from agents.pods.sizes import wished
from orca.api.objects import Obj
from orca.client.clock import VirtualClock

NODE = {"status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "10"}}}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sized(name: str, cpu: str, memory: str = "1Gi", *, generation: int = 1, **spec: Any) -> Obj:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name, "generation": generation},
        "spec": {"containers": [container], **spec},
    }


@dataclass
class Worker:
    pod: Obj
    memory: Memory = field(default_factory=Memory)
    events: list[tuple[str, str, bool]] = field(default_factory=list)
    woken: int = 0

    def __post_init__(self) -> None:
        self.memory.sizing.allotted = wished(self.pod)

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    def resized(self) -> None:
        self.woken += 1

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        self.events.append((reason, message, warning))

    @property
    def cpu(self) -> str:
        found: str = self.memory.sizing.allotted["c"]["requests"]["cpu"]
        return found


class Host:
    def __init__(self, *workers: Worker) -> None:
        self.workers = list(workers)
        self.node: Obj | None = NODE
        self.allocator = Allocator(lambda: self.workers, lambda: self.node, VirtualClock())
        for worker in workers:
            self.allocator.seen(worker)
        self.allocator.open()

    def wish(self, worker: Worker, cpu: str, **more: Any) -> None:
        generation = worker.pod["metadata"]["generation"] + 1
        worker.pod = sized(worker.uid, cpu, generation=generation, **more)
        self.allocator.seen(worker)


def test_a_resize_with_room_is_allotted_and_told() -> None:
    one = Worker(sized("one", "1"))
    host = Host(one)
    host.wish(one, "2")
    sizing = one.memory.sizing
    assert (one.cpu, sizing.unsaved, sizing.pending) == ("2", True, None)
    assert sizing.progress is not None
    assert sizing.progress.generation == 2
    text = 'Pod resize started: {"containers":[{"name":"c","resources":{"requests":{"cpu":"2","memory":"1Gi"}}}]'
    assert one.events == [("ResizeStarted", f'{text},"generation":2}}', False)]


def test_one_that_waits_gets_what_another_leaves() -> None:
    one, two = Worker(sized("one", "1")), Worker(sized("two", "3"))
    host = Host(one, two)
    host.wish(one, "2")
    pending = one.memory.sizing.pending
    assert pending is not None
    assert (one.cpu, pending.reason, pending.generation) == ("1", "Deferred", 2)
    host.allocator.retry()
    assert [event for event, _, _ in one.events] == ["ResizeDeferred"]
    host.workers.remove(two)
    host.allocator.gone(two)
    assert (one.cpu, one.memory.sizing.pending) == ("2", None)


def test_room_left_by_a_smaller_resize_is_given_at_once() -> None:
    one, two = Worker(sized("one", "1")), Worker(sized("two", "3"))
    host = Host(one, two)
    host.wish(one, "2")
    host.wish(two, "1")
    assert (one.cpu, two.cpu) == ("2", "1")


def test_what_can_never_be_is_not_tried_again_until_wished_anew() -> None:
    one = Worker(sized("one", "1"))
    host = Host(one)
    host.wish(one, "9")
    pending = one.memory.sizing.pending
    assert pending is not None
    assert (pending.reason, one.events[0][0]) == ("Infeasible", "ResizeInfeasible")
    host.node = {"status": {"allocatable": {"cpu": "16", "memory": "4Gi"}}}
    host.allocator.retry()
    assert one.cpu == "1"
    host.wish(one, "1")
    assert one.memory.sizing.pending is None
    host.wish(one, "9")
    assert one.cpu == "9"


def test_the_important_come_first() -> None:
    workers = [Worker(sized(name, "1")) for name in ("a", "b", "c")]
    host = Host(*workers, Worker(sized("full", "1")))
    low, high, mid = workers
    host.allocator._open = False
    host.wish(low, "2", priority=1)
    host.wish(high, "2", priority=9)
    host.wish(mid, "2", priority=5)
    host.workers[3].pod = sized("full", "0", generation=1)
    host.workers[3].memory.sizing.allotted = wished(host.workers[3].pod)
    host.allocator.open()
    assert [worker.cpu for worker in (low, high, mid)] == ["1", "2", "1"]


def test_nobody_is_judged_before_everybody_is_known() -> None:
    one = Worker(sized("one", "1"))
    allocator = Allocator(lambda: [one], lambda: NODE, VirtualClock())
    one.pod = sized("one", "2", generation=2)
    allocator.seen(one)
    assert one.cpu == "1"
    allocator.open()
    assert one.cpu == "2"


def test_a_pod_that_goes_asks_for_nothing() -> None:
    one = Worker(sized("one", "1"))
    host = Host(one)
    one.pod = sized("one", "2", generation=2)
    one.pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    host.allocator.seen(one)
    assert (one.cpu, one.events) == ("1", [])


def test_objections_name_the_numbers() -> None:
    pod = sized("p", "5", "1Gi")
    had = wished(sized("p", "1", "1Gi"))
    found = objection(pod, had, [], NODE)
    assert found is not None
    assert found.message == "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"
    found = objection(sized("p", "5", "8Gi"), had, [], NODE)
    assert found is not None
    assert found.message.startswith("Node didn't have enough capacity: memory, requested: 8589934592, capacity: ")
    found = objection(sized("p", "2"), had, [sized("q", "3")], NODE)
    assert found is not None
    text = "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"
    assert (found.reason, found.message) == ("Deferred", text)
    # A host that is too full already does not refuse to take less.
    assert objection(sized("p", "500m"), had, [sized("q", "6")], NODE) is None


def test_turns() -> None:
    had = wished(sized("p", "1"))
    sure = {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    guaranteed = sized("g", "2")
    guaranteed["spec"]["containers"][0]["resources"] = sure
    waiting = [
        (sized("late", "2"), NOW),
        (sized("early", "2"), datetime(2025, 1, 1, tzinfo=UTC)),
        (guaranteed, NOW),
        (sized("high", "2", priority=1), NOW),
        (sized("less", "500m"), NOW),
    ]
    ordered = sorted(waiting, key=lambda one: turn(one[0], had, one[1], NOW))
    assert [pod["metadata"]["name"] for pod, _ in ordered] == ["less", "high", "g", "early", "late"]


def test_an_event_lists_all_containers_in_order_of_the_api() -> None:
    pod = sized("p", "1", initContainers=[{"name": "i"}])
    assert told("error", pod, 3, "why") == (
        'Pod resize error: {"initContainers":[{"name":"i","resources":{}}],"containers":[{"name":"c","resources":'
        '{"requests":{"cpu":"1","memory":"1Gi"}}}],"generation":3,"error":"why"}'
    )
