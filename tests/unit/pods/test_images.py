"""What a container shows of its images, and when they are asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agents.pods.images import ensure_image, format_took, pull_policy
from agents.pods.memory import Failure
from agents.pods.plan import plan
from agents.pods.pulls import FailedPull, failed_again
from agents.pods.steps import EnsureImage, EnsureVolume, StartContainer
from agents.runtime.errors import PullFailed
from agents.runtime.image_tally import ImageTally
from agents.runtime.model import ImageInfo
from orca.client.clock import VirtualClock
from tests.unit.pods.build import at, decide, pod, run, spec_container, up

BAD = spec_container(image="bad:1")
LATER = spec_container("d")
DATA = {"name": "data", "image": {"reference": "data:1"}}


@pytest.mark.parametrize(
    ("image", "policy"),
    [("a", "Always"), ("a:latest", "Always"), ("a:1", "IfNotPresent"), ("a@sha256:" + "0" * 64, "IfNotPresent")],
)
def test_pull_policy_by_tag(image: str, policy: str) -> None:
    assert pull_policy(image, "") == policy
    assert pull_policy(image, "Never") == "Never"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0s"),
        (0.3939, "393ms"),
        (1.2, "1.2s"),
        (59.9999, "59.999s"),
        (62.5, "1m2.5s"),
        (120, "2m0s"),
        (3603, "1h0m3s"),
    ],
)
def test_durations_are_cut_to_milliseconds_as_go_prints_them(seconds: float, text: str) -> None:
    assert format_took(seconds) == text


def test_pulls_back_off_from_ten_seconds_to_five_minutes_and_start_anew_after_ten_minutes() -> None:
    failed = None
    delays = []
    for turn in range(7):
        failed = failed_again(failed, "ErrImagePull", "no", at(turn * 300))
        delays.append(failed.seconds)
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert failed_again(failed, "ErrImagePull", "no", at(6 * 300 + 601)).seconds == 10


def test_an_image_that_cannot_be_pulled_holds_up_only_its_container() -> None:
    memory = up()
    memory.images.clear()
    memory.pulls.failed["bad:1"] = FailedPull("ErrImagePull", "no", at(0), 10)
    failing = pod(BAD, LATER)
    run(memory, EnsureImage("d"))
    assert plan(failing, memory, at(1)).waiting["c"].reason == "ErrImagePull"
    later = plan(failing, memory, at(6))
    assert later.waiting["c"].reason == "ImagePullBackOff"
    assert later.waiting["c"].message == 'Back-off pulling image "bad:1": ErrImagePull: no'
    assert later.wake_at == at(10)
    assert EnsureImage("c") in plan(failing, memory, at(10)).actions


def test_another_image_is_tried_at_once() -> None:
    memory = up()
    memory.images.clear()
    memory.pulls.failed["bad:1"] = FailedPull("ErrImagePull", "no", at(0), 300)
    memory.failures["image:c@Bad/2"] = Failure("InvalidImageName", "no", at(300), 300)
    assert EnsureImage("c") not in plan(pod(BAD), memory, at(1)).actions
    assert EnsureImage("c") in plan(pod(spec_container(image="good:1")), memory, at(1)).actions


def test_containers_with_the_same_image_wait_together() -> None:
    memory = up()
    memory.images.clear()
    memory.pulls.failed["bad:1"] = FailedPull("RegistryUnavailable", "down", at(0), 10)
    decided = decide(pod(BAD, {**BAD, "name": "d"}), memory, 1)
    assert {why.reason for why in decided.waiting.values()} == {"RegistryUnavailable"}
    assert not [action for action in decided.actions if isinstance(action, EnsureImage)]


def test_a_pull_under_way_shows_how_far_it_is() -> None:
    memory = up()
    memory.images.clear()
    run(memory, EnsureImage("c"))
    memory.pulls.progress["image:c"] = "42% (12.3/29.0 MB)"
    shown = decide(pod(), memory, 5).waiting["c"]
    assert (shown.reason, shown.message) == ("ContainerCreating", 'pulling image "app:1": 42% (12.3/29.0 MB)')


def test_a_retry_shows_the_back_off_until_it_moves() -> None:
    memory = up()
    memory.images.clear()
    memory.pulls.failed["bad:1"] = FailedPull("ErrImagePull", "no", at(0), 10)
    run(memory, EnsureImage("c"))
    assert decide(pod(BAD), memory, 12).waiting["c"].reason == "ImagePullBackOff"


def test_a_container_waits_for_the_images_it_mounts() -> None:
    container = spec_container(volumeMounts=[{"name": "data", "mountPath": "/data"}])
    mounting = pod(container, LATER, volumes=[DATA])
    memory = up()
    decided = decide(mounting, memory)
    assert EnsureVolume("data") in decided.actions
    assert StartContainer("d", 0) in decided.actions
    memory.pulls.failed["data:1"] = FailedPull("ErrImagePull", "no", at(0), 10)
    assert decide(mounting, memory, 1).waiting["c"].reason == "ErrImagePull"
    memory.pulls.volumes.add("data")
    assert StartContainer("c", 0) in decide(mounting, memory, 1).actions


@pytest.mark.parametrize("works", [True, False])
async def test_it_is_told_how_long_a_pull_took(works: bool) -> None:
    clock = VirtualClock()
    told: list[tuple[str, float, float]] = []

    async def nothing(*_: Any) -> Any:
        return ([], []) if _ and isinstance(_[0], dict) else None

    async def pull(*_: Any, **__: Any) -> float:
        await clock.advance(7)
        if not works:
            raise PullFailed("no")
        return 7.0

    async def inspect(_: str) -> ImageInfo:
        return ImageInfo("sha256:1", (), (), 1)

    memory = SimpleNamespace(pulls=SimpleNamespace(failed={}, progress={}), images={}, image_details={})
    subject: Any = SimpleNamespace(
        pod=pod(BAD), memory=memory, clock=clock, tell=lambda *_, **__: None, succeeded=lambda _: None
    )
    tools: Any = SimpleNamespace(
        runtime=SimpleNamespace(images=SimpleNamespace(tally=ImageTally(), inspect=inspect)),
        images=SimpleNamespace(
            records=SimpleNamespace(pulling=nothing, pulled=nothing, failed=nothing),
            puller=SimpleNamespace(pull=pull),
            node_logins=list,
        ),
        sources=SimpleNamespace(pull_secrets=nothing),
        clock=clock,
        pulled=lambda pod_uid, began, ended: told.append((pod_uid, began, ended)),
    )
    subject.pod["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    await ensure_image(subject, tools, "c")
    [(pod_uid, start, end)] = told
    assert (pod_uid, end - start) == (subject.pod["metadata"]["uid"], 7.0)
