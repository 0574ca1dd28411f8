"""Who goes, who is spared, and what they are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agents.eviction import messages
from agents.eviction.admission import objection
from agents.eviction.local_storage import excess, is_limited
from agents.eviction.observations import Observation
from agents.eviction.ranking import is_critical, ranked
from agents.eviction.thresholds import Signal, parse_thresholds
from agents.stats.model import PodStats
from orca.api.objects import Obj
from tests.unit.eviction.made import MIB, NOW, pod, stats


def order(signal: Signal, *used: tuple[Obj, PodStats | None], dedicated: bool = False) -> list[str]:
    by_uid = {one["metadata"]["uid"]: measured for one, measured in used if measured is not None}
    pods = [one for one, _ in used]
    return [one["metadata"]["name"] for one in ranked(signal, pods, by_uid, dedicated_image_fs=dedicated)]


def test_memory_who_exceeds_its_request_then_low_priority_then_how_much() -> None:
    modest = pod("modest", requests={"memory": "500Mi"})
    low = pod("low", priority=-5, requests={"memory": "500Mi"})
    greedy = pod("greedy", requests={"memory": "100Mi"})
    greedier = pod("greedier", requests={"memory": "10Mi"})
    important = pod("important", priority=100)
    found = order(
        Signal.MEMORY,
        (modest, stats(modest, memory=400)),
        (important, stats(important, memory=900)),
        (low, stats(low, memory=10)),
        (greedy, stats(greedy, memory=300)),
        (greedier, stats(greedier, memory=250)),
    )
    assert found == ["greedier", "greedy", "important", "low", "modest"]


def test_of_whom_nothing_is_known_goes_first() -> None:
    known, unknown = pod("known"), pod("unknown", priority=1000)
    assert order(Signal.MEMORY, (known, stats(known, memory=900)), (unknown, None)) == ["unknown", "known"]


def test_pids_priority_then_how_many() -> None:
    few, many, important = pod("few"), pod("many"), pod("important", priority=10)
    found = order(
        Signal.PID,
        (few, stats(few, processes=2)),
        (important, stats(important, processes=900)),
        (many, stats(many, processes=50)),
    )
    assert found == ["many", "few", "important"]


def test_disk_counts_what_lies_on_the_file_system_in_question() -> None:
    scratch = {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}]}
    layer, volume, memory = pod("layer"), pod("volume", **scratch), pod("memory", **scratch)
    used = (
        (layer, stats(layer, root=500, logs=1)),
        (volume, stats(volume, volumes={"v": 300})),
        (memory, stats(memory, volumes={"m": 9000}, logs=2)),
    )
    assert order(Signal.NODE_FS, *used) == ["layer", "volume", "memory"]
    assert order(Signal.NODE_FS, *used, dedicated=True) == ["volume", "memory", "layer"]
    assert order(Signal.IMAGE_FS, *used, dedicated=True)[0] == "layer"


def test_disk_requests_count_and_inodes_are_compared_with_nothing() -> None:
    asked, other = pod("asked", requests={"ephemeral-storage": "1Ki"}), pod("other")
    used = ((asked, stats(asked, root=1000, inodes=90)), (other, stats(other, root=10, inodes=5)))
    assert order(Signal.NODE_FS, *used) == ["other", "asked"]
    used = ((other, stats(other, inodes=5)), (pod("asking"), stats(pod("asking"), inodes=90)))
    assert order(Signal.NODE_FS_INODES, *used) == ["asking", "other"]


@pytest.mark.parametrize(
    ("changes", "spared"),
    [
        ({}, False),
        ({"annotations": {"kubernetes.io/config.source": "file"}}, True),
        ({"annotations": {"kubernetes.io/config.source": "api"}}, False),
        ({"annotations": {"kubernetes.io/config.mirror": "x"}}, True),
    ],
)
def test_static_pods_are_spared(changes: dict[str, Any], spared: bool) -> None:
    one = pod("one")
    one["metadata"] |= changes
    assert is_critical(one) is spared


def test_pods_of_a_system_priority_are_spared() -> None:
    assert is_critical(pod("one", priority=2_000_000_000))
    assert not is_critical(pod("one", priority=1_999_999_999))


def test_the_text_of_an_eviction_is_upstreams() -> None:
    hog = pod("hog", requests={"memory": "10Mi"})
    due = parse_thresholds(hard={"memory.available": "100Mi"})
    observed = {Signal.MEMORY: Observation(92456 * 1024, 8 << 30, NOW)}
    found = messages.low_on("memory", hog, stats(hog, memory=300), due, observed)
    assert found.message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 92456Ki. "
        "Container c was using 300Mi, request is 10Mi, has larger consumption of memory. "
    )
    assert found.annotations == {
        "offending_containers": "c",
        "offending_containers_usage": "300Mi",
        "starved_resource": "memory",
    }


def test_disk_and_pid_texts() -> None:
    one = pod("one", requests={"ephemeral-storage": "1Ki"})
    due = parse_thresholds(hard={"nodefs.available": "10%", "pid.available": "50%"})
    observed = {
        Signal.NODE_FS: Observation(5 * MIB, 100 * MIB, NOW),
        Signal.PID: Observation(1000, 3000, NOW + timedelta(seconds=1)),
    }
    assert messages.low_on("ephemeral-storage", one, stats(one, root=2048, logs=2048), due, observed).message == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 10Mi, available: 5Mi. "
        "Container c was using 4Ki, request is 1Ki, has larger consumption of ephemeral-storage. "
    )
    assert messages.low_on("pids", one, stats(one), due, observed).message == (
        "The node was low on resource: pids. Threshold quantity: 1500, available: 1k. "
    )
    assert messages.low_on("inodes", one, None, due, {}).message == "The node was low on resource: inodes. "


def test_a_request_of_the_whole_pod_is_named() -> None:
    one = pod("one", resources={"requests": {"memory": "20Mi"}})
    found = messages.low_on("memory", one, stats(one, memory=30), (), {})
    assert found.message == (
        "The node was low on resource: memory. "
        "Pod one was using 30Mi, request is 20Mi, has larger consumption of memory. "
        "Container c was using 30Mi, request is 0, has larger consumption of memory. "
    )
    assert found.annotations["offending_pod_usage"] == "30Mi"


# --- local storage


def volume(limit: str, medium: str = "") -> dict[str, Any]:
    return {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": limit, "medium": medium}}]}


def told(one: Obj, measured: PodStats, *, dedicated: bool = False) -> tuple[str, str] | None:
    found = excess(one, measured, dedicated_image_fs=dedicated)
    return None if found is None else (found.signal, found.eviction.message)


def test_a_volume_past_its_limit() -> None:
    one = pod("one", **volume("1Mi"))
    assert is_limited(one)
    assert told(one, stats(one, volumes={"v": MIB})) is None
    text = 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert told(one, stats(one, volumes={"v": MIB + 1})) == ("emptydirfs.limit", text)
    assert not is_limited(pod("two", **volume("0")))


def test_a_pod_past_the_limits_of_its_containers_together() -> None:
    one = pod("one", limits={"ephemeral-storage": "1Mi"}, volumes=[{"name": "v", "emptyDir": {}}])
    assert told(one, stats(one, root=MIB // 2, volumes={"v": MIB // 2})) is None
    text = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
    assert told(one, stats(one, root=MIB // 2, volumes={"v": MIB // 2 + 1})) == ("ephemeralpodfs.limit", text)


def test_a_container_past_its_own_limit() -> None:
    one = pod("one", limits={"ephemeral-storage": "1Mi"})
    one["spec"]["containers"].append({"name": "d", "resources": {"limits": {"ephemeral-storage": "9Mi"}}})
    text = 'Container c exceeded its local ephemeral storage limit "1Mi". '
    assert told(one, stats(one, root=MIB, logs=MIB)) == ("ephemeralcontainerfs.limit", text)
    assert told(one, stats(one, root=2 * MIB), dedicated=True) is None
    assert told(one, stats(one, logs=2 * MIB), dedicated=True) is not None


def test_an_init_container_may_have_the_larger_limit() -> None:
    one = pod("one", limits={"ephemeral-storage": "1Mi"})
    one["spec"]["initContainers"] = [{"name": "i", "resources": {"limits": {"ephemeral-storage": "5Mi"}}}]
    assert told(one, stats(one, volumes={}, root=0)) is None
    sidecar = pod("two", limits={"ephemeral-storage": "1Mi"})
    limits = {"limits": {"ephemeral-storage": "2Mi"}}
    sidecar["spec"]["initContainers"] = [{"name": "s", "restartPolicy": "Always", "resources": limits}]
    text = "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "
    assert told(sidecar, stats(sidecar, root=3 * MIB + 1)) == ("ephemeralpodfs.limit", text)


# --- who may come


BEST_EFFORT, BURSTABLE = pod("b"), pod("r", requests={"memory": "1Mi"})
TOLERANT = pod("t", tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}])


@pytest.mark.parametrize(
    ("one", "conditions", "text"),
    [
        (BEST_EFFORT, (), ""),
        (BEST_EFFORT, ("MemoryPressure",), "The node had condition: [MemoryPressure]. "),
        (BURSTABLE, ("MemoryPressure",), ""),
        (TOLERANT, ("MemoryPressure",), ""),
        (BURSTABLE, ("DiskPressure",), "The node had condition: [DiskPressure]. "),
        (TOLERANT, ("MemoryPressure", "DiskPressure"), "The node had condition: [MemoryPressure DiskPressure]. "),
        (pod("system", priority=2_000_000_000), ("DiskPressure",), ""),
    ],
)
def test_who_may_come_under_pressure(one: Obj, conditions: tuple[str, ...], text: str) -> None:
    found = objection(one, conditions)
    assert (found.event if found is not None else "") == text
    if found is not None:
        assert (found.reason, found.message) == ("Evicted", f"Pod was rejected: {text}")
