"""What has to change for running containers to have what is allotted, and what the status says meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.pods.lifecycle import Life
from agents.pods.memory import Memory
from agents.pods.patch import status_patch
from agents.pods.plan import plan
from agents.pods.resources import limits_of
from agents.pods.sizes import (
    Update,
    as_allotted,
    binary,
    changes,
    from_label,
    in_force,
    label_of,
    not_yet_again,
    remembered,
    same,
)
from agents.pods.sizing import Pending, Progress, Sizing
from agents.pods.status import build_status
from agents.pods.steps import Resize, SaveSizes, StartContainer, StopContainer
from agents.runtime.model import SIZES, ContainerInfo, Resources
from orca.api.builtin import PODS
from orca.api.objects import Obj
from orca.api.patching import strategic_merge
from tests.unit.pods.build import IMAGE, T0, at, info, pod, spec_container, up

SMALL = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
LARGE = {"requests": {"cpu": "300m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
RESTART = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]


def sized(name: str, resources: Obj, **more: Any) -> Obj:
    return spec_container(name, resources=resources, **more)


def made(container: Obj, state: str = "running", **more: Any) -> ContainerInfo:
    """As the engine shows a container made with its sizes."""
    one = info(container, state, **more)  # type: ignore[arg-type]
    return replace(one, labels={**one.labels, SIZES: label_of(container)}, resources=limits_of(container))


def allotting(memory: Memory, **allotted: Obj) -> Memory:
    memory.sizing.allotted = dict(allotted)
    return memory


def test_nothing_changes_for_what_is_there() -> None:
    container = sized("c", SMALL)
    assert not changes(pod(container), allotting(up(made(container)), c=SMALL))


def test_what_is_wished_changes_nothing_before_it_is_allotted() -> None:
    memory = allotting(up(made(sized("c", SMALL))), c=SMALL)
    assert not changes(pod(sized("c", LARGE)), memory)


def test_memory_comes_before_cpu_and_less_before_more() -> None:
    one, two = sized("a", SMALL), sized("b", LARGE)
    memory = allotting(up(made(one), made(two)), a=LARGE, b=SMALL)
    updates = changes(pod(one, two), memory).updates
    assert [(update.container, bool(update.limits.memory)) for update in updates] == [
        ("b", True),
        ("a", True),
        ("b", False),
        ("a", False),
    ]
    assert [update.shrinks_memory for update in updates] == [True, False, False, False]
    assert updates[1] == Update("a", "a-0", Resources(memory=128 << 20), grows=True, request=64 << 20)
    assert updates[3].limits == Resources(cpu_shares=307, cpu_quota=50_000, cpu_period=100_000)


def test_a_limit_where_there_was_none_takes_away() -> None:
    free = {"requests": {"cpu": "100m", "memory": "32Mi"}}
    memory = allotting(up(made(sized("c", free))), c=SMALL)
    update, cpu = changes(pod(sized("c", free)), memory).updates
    assert update.shrinks_memory
    assert not update.grows
    assert cpu.limits.cpu_quota == 20_000
    assert not cpu.grows


def test_a_request_for_memory_is_only_noted() -> None:
    wanted = {**SMALL, "requests": {"cpu": "100m", "memory": "48Mi"}}
    memory = allotting(up(made(sized("c", SMALL))), c=wanted)
    (update,) = changes(pod(sized("c", SMALL)), memory).updates
    assert (update.limits, update.request) == (Resources(), 48 << 20)
    memory.sizing.requested["c-0"] = 48 << 20
    assert not changes(pod(sized("c", SMALL)), memory)


@pytest.mark.parametrize(
    "wanted", [LARGE, {**SMALL, "limits": LARGE["limits"]}, {**SMALL, "requests": LARGE["requests"]}]
)
def test_the_policy_of_a_resource_that_changes_wants_a_restart(wanted: Obj) -> None:
    container = sized("c", SMALL, resizePolicy=RESTART)
    found = changes(pod(container), allotting(up(made(container)), c=wanted))
    assert (found.restarts, found.updates) == ({"c-0"}, ())


def test_the_policy_of_another_resource_does_not() -> None:
    container = sized("c", SMALL, resizePolicy=RESTART)
    wanted = {"requests": {**SMALL["requests"], "cpu": "150m"}, "limits": SMALL["limits"]}
    found = changes(pod(container), allotting(up(made(container)), c=wanted))
    assert not found.restarts
    assert len(found.updates) == 1


def test_only_main_containers_and_sidecars_are_resized() -> None:
    first, sidecar = sized("first", SMALL), sized("side", SMALL, restartPolicy="Always")
    memory = allotting(up(made(first), made(sidecar)), first=LARGE, side=LARGE)
    updates = changes(pod(sized("c", SMALL), init=[first, sidecar]), memory).updates
    assert {update.container for update in updates} == {"side"}


def test_a_container_that_does_not_run_is_made_right_when_it_starts() -> None:
    container = sized("c", SMALL)
    memory = allotting(up(made(container, "exited", code=1)), c=LARGE)
    assert not changes(pod(container), memory)
    allotted = as_allotted(pod(container), memory.sizing.allotted)
    assert allotted["spec"]["containers"][0]["resources"] == LARGE


def test_nothing_is_applied_before_it_is_on_disk() -> None:
    container = sized("c", SMALL, resizePolicy=RESTART)
    memory = allotting(up(made(container)), c=LARGE)
    memory.sizing.unsaved = True
    assert plan(pod(container), memory, T0).actions == (SaveSizes(),)
    memory.in_flight["sizes"] = T0
    assert plan(pod(container), memory, T0).actions == ()
    memory.in_flight.clear()
    memory.sizing.unsaved = False
    (action,) = plan(pod(container), memory, T0).actions
    assert action == StopContainer("c", "c-0", 30.0, "Container c resize requires restart", resized=True)


def test_one_resize_at_a_time_and_a_failed_one_waits() -> None:
    container = sized("c", SMALL)
    memory = allotting(up(made(container)), c=LARGE)
    (action,) = plan(pod(container), memory, T0).actions
    assert isinstance(action, Resize)
    assert len(action.updates) == 2
    memory.in_flight["resize"] = T0
    assert plan(pod(container), memory, T0).actions == ()
    assert plan(pod(sized("c", SMALL)), allotting(up(made(container)), c=SMALL), T0).actions == ()


def test_a_container_stopped_for_a_resize_starts_again_whatever_its_policy() -> None:
    container = sized("c", SMALL, resizePolicy=RESTART)
    memory = allotting(up(made(container, "exited", finished=5)), c=LARGE)
    obj = pod(container, restartPolicy="OnFailure")
    assert plan(obj, memory, at(6)).life is Life.FINISHED
    memory.sizing.restarting.add("c-0")
    memory.images["c"] = IMAGE
    decided = plan(obj, memory, at(6))
    assert StartContainer("c", 1) in decided.actions
    assert build_status(obj, memory, decided, at(6), ["192.0.2.1"])["phase"] == "Running"
    assert decided.life is Life.RUNNING


def test_one_that_was_only_created_does_not_end_a_restart() -> None:
    container = sized("c", SMALL)
    memory = allotting(up(made(container, "exited", finished=5), made(container, "created", attempt=1)), c=LARGE)
    memory.sizing.restarting.add("c-0")
    assert not_yet_again(memory) == {"c-0"}
    memory.observe(made(container, attempt=1))
    assert not_yet_again(memory) == set()


def test_the_status_tells_what_is_in_force() -> None:
    container = sized("c", SMALL)
    one = made(container)
    assert in_force(container, one, Sizing({"c": SMALL}), None) == (SMALL, SMALL["requests"])
    resources, allotted = in_force(container, one, Sizing({"c": LARGE}), None)
    assert allotted == LARGE["requests"]
    assert resources == {
        "limits": {"cpu": "200m", "memory": "64Mi"},
        # What the kernel does not know is as allotted.
        "requests": {"cpu": "100m", "memory": "64Mi"},
    }
    assert in_force(container, replace(one, state="exited"), Sizing({"c": LARGE}), None)[0] == LARGE


def test_a_limit_is_not_told_before_it_is_there() -> None:
    free = {"requests": {"cpu": "100m", "memory": "32Mi"}}
    one = made(sized("c", free))
    resources, allotted = in_force(sized("c", SMALL), one, Sizing({"c": SMALL}), None)
    assert (resources, allotted) == (free, free["requests"])


def test_sizes_where_there_were_none_wait_to_be_allotted() -> None:
    memory = allotting(up(made(sized("c", {}))), c={})
    assert not changes(pod(sized("c", SMALL)), memory)
    memory.sizing.allotted = {"c": SMALL}
    assert changes(pod(sized("c", SMALL)), memory)


def test_conditions_of_a_resize_come_and_go() -> None:
    container = sized("c", SMALL)
    obj, memory = pod(container), allotting(up(made(container)), c=SMALL)
    memory.sizing.pending = Pending("Deferred", "no room", 3, T0)
    memory.sizing.progress = Progress(2, "in the way")
    status = build_status(obj, memory, plan(obj, memory, T0), T0, ["192.0.2.1"])
    told = {one["type"]: one for one in status["conditions"]}
    pending, progress = told["PodResizePending"], told["PodResizeInProgress"]
    assert (pending["reason"], pending["message"], pending["observedGeneration"]) == ("Deferred", "no room", 3)
    assert (progress["reason"], progress["message"], progress["observedGeneration"]) == ("Error", "in the way", 2)
    assert told["Ready"]["observedGeneration"] == 1
    memory.sizing.pending, memory.sizing.progress = None, Progress(2)
    later = build_status({**obj, "status": status}, memory, plan(obj, memory, T0), at(9), ["192.0.2.1"])
    patch = status_patch(obj, status, later)
    assert patch is not None
    merged = strategic_merge(PODS.definition, {**obj, "status": status}, patch)
    left = {one["type"]: one for one in merged["status"]["conditions"]}
    assert "PodResizePending" not in left
    assert "reason" not in left["PodResizeInProgress"]
    assert left["PodResizeInProgress"]["lastTransitionTime"] == progress["lastTransitionTime"]


def test_an_agent_remembers_from_disk_then_from_labels() -> None:
    wish = sized("c", LARGE)
    labelled = made(sized("c", SMALL))
    assert remembered(pod(wish), None, []).allotted == {"c": LARGE}
    assert remembered(pod(wish), None, [labelled]).allotted == {"c": SMALL}
    assert remembered(pod(wish), None, [made(sized("c", {}))]).allotted == {"c": {}}
    saved = Sizing(allotted={"c": {"requests": {"cpu": "7"}}})
    assert remembered(pod(wish), saved, [labelled]).allotted == {"c": {"requests": {"cpu": "7"}}}
    conditions = [
        {"type": "PodResizePending", "status": "True", "reason": "Deferred", "message": "m", "observedGeneration": 4},
        {"type": "PodResizeInProgress", "status": "True", "reason": "Error", "message": "e", "observedGeneration": 3},
    ]
    told = remembered(pod(wish, status={"conditions": conditions}), None, [])
    assert told.pending is not None
    assert (told.pending.reason, told.pending.message, told.pending.generation) == ("Deferred", "m", 4)
    assert told.progress == Progress(3, "e")


def test_sizes_mean_the_same_however_written() -> None:
    assert same({"requests": {"cpu": "1"}}, {"requests": {"cpu": "1000m"}})
    assert same({}, {"limits": {}})
    assert not same(SMALL, LARGE)
    assert from_label(made(sized("c", SMALL))) == SMALL
    assert [binary(amount) for amount in (0, 1000, 128 << 20, 3 << 30, 1536)] == ["0", "1000", "128Mi", "3Gi", "1536"]


def test_an_engine_without_limits_is_not_asked_for_them_again_and_again() -> None:
    container = sized("c", SMALL)
    without = replace(made(container), resources=Resources(cpu_shares=102))
    assert not changes(pod(container), allotting(up(without), c=SMALL))
    assert in_force(container, without, Sizing({"c": SMALL}), None)[0] == SMALL
    (only,) = (one for one in changes(pod(container), allotting(up(without), c=LARGE)).updates if not one.request)
    assert only.limits == Resources(cpu_shares=307)
