"""Pods that this host ends by its own decision: kept on disk, carried through, told as upstream tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.pods.deletion import grace_of
from agents.pods.lifecycle import Life
from agents.pods.memory import Doom
from agents.pods.patch import status_patch
from agents.pods.status import build_status
from agents.pods.steps import StopContainer
from agents.pods.verdict import load_verdict, save_verdict
from orca.api.objects import Obj
from tests.unit.pods.build import at, decide, deleting, info, pod, spec_container, up

C = spec_container()
EVICTED = Doom("Evicted", "The node was low on resource: memory.", grace=1, disruption="Low on memory.")


async def test_a_verdict_is_there_for_the_agent_that_comes_next(tmp_path: Path) -> None:
    await save_verdict(tmp_path / "u1", EVICTED)
    assert load_verdict(tmp_path / "u1") == EVICTED


@pytest.mark.parametrize("text", ["", "{", "[]", '{"reason": "Evicted"}'])
def test_a_damaged_verdict_ends_nobody(tmp_path: Path, text: str) -> None:
    assert load_verdict(tmp_path) is None
    (tmp_path / "verdict.json").write_text(text)
    assert load_verdict(tmp_path) is None


def test_a_condemned_pod_ends_within_the_grace_of_the_verdict() -> None:
    memory = up(info(C))
    memory.doom = EVICTED
    decided = decide(pod(), memory)
    assert decided.life is Life.STOPPING
    assert [action.grace for action in decided.actions if isinstance(action, StopContainer)] == [1.0]


@pytest.mark.parametrize(("deletion", "verdict", "grace"), [(30, 5, 5), (5, 30, 5), (30, None, 30)])
def test_a_verdict_only_shortens_the_grace_of_a_deletion(deletion: int, verdict: float | None, grace: float) -> None:
    memory = up(info(C))
    memory.doom = Doom("Terminated", "", grace=verdict)
    assert grace_of(deleting(pod(), deletion), memory) == grace


def test_a_condemned_pod_is_failed_only_when_nothing_of_it_runs() -> None:
    memory = up(info(C))
    memory.doom = EVICTED
    running = pod(status={"phase": "Running"})
    told = build_status(running, memory, decide(running, memory), at(1), ("192.0.2.1",))
    assert told["phase"] == "Running"
    assert "reason" not in told
    assert "DisruptionTarget" not in {item["type"] for item in told["conditions"]}

    memory.observe(info(C, "exited", code=143, finished=2))
    told = build_status(running, memory, decide(running, memory, 2), at(2), ("192.0.2.1",))
    assert (told["phase"], told["reason"], told["message"]) == ("Failed", "Evicted", EVICTED.message)
    condition = next(item for item in told["conditions"] if item["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    assert condition["message"] == "Low on memory."
    patch = status_patch(running, {"phase": "Running"}, told)
    assert patch is not None
    assert "DisruptionTarget" in {item["type"] for item in patch["status"]["conditions"]}


def test_a_pod_with_a_sidecar_is_not_over_before_the_sidecar_is() -> None:
    sidecar: Obj = spec_container("s", restartPolicy="Always")
    obj = pod(C, init=[sidecar], restartPolicy="Never", status={"phase": "Running"})
    memory = up(info(C, "exited"), info(sidecar))
    told = build_status(obj, memory, decide(obj, memory, 1), at(1), ("192.0.2.1",))
    assert told["phase"] == "Running"
    memory.observe(info(sidecar, "exited", code=143))
    told = build_status(obj, memory, decide(obj, memory, 2), at(2), ("192.0.2.1",))
    assert told["phase"] == "Succeeded"
