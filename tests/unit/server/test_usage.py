"""What hosts tell of cpu and memory, and the NodeMetrics and PodMetrics it becomes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from orca.server.usage.collector import FAILED_SECONDS, FRESH_SECONDS, Collector, HostUse
from orca.server.usage.objects import node_metrics, pod_metrics
from orca.server.usage.samples import HOST_WINDOW, read, uses


def stats(second: int, total: int, memory: int = 4 << 20, rate: int | None = 7) -> Obj:
    at = f"2026-01-01T00:00:{second:02}Z"
    cpu: Obj = {"time": at, "usageCoreNanoSeconds": total}
    if rate is not None:
        cpu["usageNanoCores"] = rate
    return {"cpu": cpu, "memory": {"time": at, "workingSetBytes": memory}}


def summary(second: int, total: int, **extra: Any) -> Obj:
    container = {"name": "main", **stats(second, total)}
    pod = {"podRef": {"name": "web", "namespace": "default", "uid": "u"}, "containers": [container], **extra}
    return {"node": {"nodeName": "n", **stats(second, total * 10, 1 << 30)}, "pods": [pod]}


POD = {"metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}}}
NODE = {"metadata": {"name": "n", "labels": {"zone": "a"}}}


def host(now: Obj, before: Obj | None = None) -> HostUse:
    sample = read(now)
    return HostUse(uses(sample, read(before) if before is not None else None), sample.pods)


def test_a_rate_is_that_between_two_looks() -> None:
    use = host(summary(20, 5_000_000_000), summary(10, 2_000_000_000))
    made = pod_metrics(POD, use)
    assert made == {
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": "web",
            "creationTimestamp": "2026-01-01T00:00:20Z",
            "namespace": "default",
            "labels": {"app": "web"},
        },
        "timestamp": "2026-01-01T00:00:20Z",
        "window": "10s",
        "containers": [{"name": "main", "usage": {"cpu": "300000000n", "memory": "4096Ki"}}],
    }
    node = node_metrics(NODE, use)
    assert node is not None
    assert node["usage"] == {"cpu": "3000000000n", "memory": "1048576Ki"}
    assert node["metadata"]["labels"] == {"zone": "a"}


@pytest.mark.parametrize("before", [None, summary(18, 0), summary(20, 9_000_000_000)], ids=["none", "near", "restart"])
def test_else_it_is_the_hosts_own(before: Obj | None) -> None:
    made = pod_metrics(POD, host(summary(20, 5_000_000_000), before))
    assert made is not None
    assert made["containers"][0]["usage"]["cpu"] == "7n"
    assert timedelta(seconds=float(made["window"][:-1])) == HOST_WINDOW


def test_a_pod_of_which_a_container_is_not_measured_is_left_out() -> None:
    half = summary(20, 1, containers=[{"name": "main", **stats(20, 1)}, {"name": "starts"}])
    assert pod_metrics(POD, host(half)) is None
    unrated = summary(20, 1, containers=[{"name": "main", **stats(20, 1, rate=None)}])
    assert pod_metrics(POD, host(unrated)) is None


class Hosts(Collector):
    """A collector whose hosts answer what the test says."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(None, clock)  # type: ignore[arg-type]
        self.asked = 0
        self.answer: Obj | None = summary(10, 1)

    async def _summary(self, node: str) -> Obj:
        self.asked += 1
        if self.answer is None:
            raise OSError("nobody there")
        return self.answer


async def test_hosts_are_asked_once_for_all_who_ask() -> None:
    clock = VirtualClock()
    hosts = Hosts(clock)
    assert set(await hosts.of(["n", "n"])) == {"n"}
    await hosts.of(["n"])
    assert hosts.asked == 1
    await clock.advance(FRESH_SECONDS)
    hosts.answer = summary(20, 3_000_000_001)
    found = await hosts.of(["n"])
    assert hosts.asked == 2
    assert found["n"].uses["u", "main"].cpu == 300_000_000


async def test_a_host_that_does_not_answer_is_left_out_and_not_waited_for_again_soon() -> None:
    clock = VirtualClock()
    hosts = Hosts(clock)
    hosts.answer = None
    assert await hosts.of(["n"]) == {}
    assert await hosts.of(["n"]) == {}
    assert hosts.asked == 1
    hosts.answer = summary(10, 1)
    await clock.advance(FAILED_SECONDS)
    assert set(await hosts.of(["n"])) == {"n"}


async def test_answers_that_are_no_summary_are_no_answer() -> None:
    rated = summary(10, 1)
    rated["node"]["cpu"]["usageNanoCores"] = "much"
    answers: list[Obj] = [{"pods": []}, {"node": None}, {"node": {}, "pods": [None]}, rated]
    for wrong in answers:
        hosts = Hosts(VirtualClock())
        hosts.answer = wrong
        assert await hosts.of(["n"]) == {}
