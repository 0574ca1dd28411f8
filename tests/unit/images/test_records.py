"""Who may use an image that is here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.images.access import (
    ALLOWLISTED,
    ALWAYS_VERIFY,
    NEVER_VERIFY,
    PRELOADED,
    SecretUse,
    Verification,
    pattern_problem,
)
from agents.images.records import PullRecords
from agents.runtime.model import ImageInfo
from orca.client.clock import VirtualClock

IMAGE, ID = "reg.example/app:1", "sha256:" + "a" * 64
MINE = SecretUse("u1", "ns", "mine", "d1")


def records(path: Path, policy: str = PRELOADED) -> PullRecords:
    return PullRecords(path, Verification(policy), VirtualClock())


async def may(of: PullRecords, *logins: SecretUse, image: str = IMAGE) -> bool:
    async def known() -> Sequence[SecretUse]:
        return logins

    return await of.may_use(image, ID, known)


async def never() -> Sequence[SecretUse]:
    raise AssertionError("nobody needs to know the pod's secrets")


async def test_preloaded_images_are_for_everybody_and_secrets_are_not_even_read(tmp_path: Path) -> None:
    assert await records(tmp_path).may_use(IMAGE, ID, never)
    assert not await may(records(tmp_path, ALWAYS_VERIFY))


async def test_what_was_pulled_without_a_secret_is_for_everybody(tmp_path: Path) -> None:
    of = records(tmp_path)
    await of.pulling(IMAGE)
    await of.pulled(IMAGE, ID, None)
    assert await of.may_use(IMAGE, ID, never)


async def test_what_was_pulled_with_a_secret_is_for_those_who_have_it(tmp_path: Path) -> None:
    of = records(tmp_path)
    await of.pulling(IMAGE)
    await of.pulled(IMAGE, ID, MINE)
    assert await may(of, MINE)
    assert not await may(of)
    assert not await may(of, SecretUse("u2", "ns", "other", "d2"))
    # The same login in another secret, and the same secret with another login.
    assert await may(of, SecretUse("u3", "other", "copy", "d1"))
    assert await may(of, SecretUse("u1", "ns", "mine", "d9"))
    # That is remembered, by an agent that comes later too.
    assert await may(records(tmp_path), SecretUse("u4", "x", "y", "d9"))
    # A digest of the same repository is the same image, another repository is not.
    assert await may(of, MINE, image="reg.example/app@" + ID)
    assert not await may(of, MINE, image="reg.example/else:1")
    assert await may(records(tmp_path, NEVER_VERIFY))


async def test_a_pull_cut_short_by_a_crash_opens_the_image_to_nobody(tmp_path: Path) -> None:
    await records(tmp_path).pulling(IMAGE)
    after = records(tmp_path)
    assert not await may(after, MINE)
    await after.recover([ImageInfo(ID, (IMAGE,), (), 1)])
    assert not await may(after, MINE)
    assert not list((tmp_path / "pulling").iterdir())
    assert not await may(records(tmp_path), MINE)


async def test_a_failed_pull_leaves_nothing(tmp_path: Path) -> None:
    of = records(tmp_path)
    await of.pulling(IMAGE)
    await of.pulling(IMAGE)
    await of.failed(IMAGE)
    assert list((tmp_path / "pulling").iterdir())
    await of.failed(IMAGE)
    assert not list((tmp_path / "pulling").iterdir())
    assert await of.may_use(IMAGE, ID, never)


async def test_a_pull_given_up_while_it_is_noted_leaves_nothing(tmp_path: Path) -> None:
    """Its pod was deleted in that moment; the image is still everybody's."""
    of = records(tmp_path)
    noting = asyncio.create_task(of.pulling(IMAGE))
    await asyncio.sleep(0)
    noting.cancel()
    await asyncio.gather(noting, return_exceptions=True)
    await of.failed(IMAGE)
    assert not list((tmp_path / "pulling").iterdir())
    assert await of.may_use(IMAGE, ID, never)


async def test_records_go_with_their_images_and_a_broken_one_stays_closed(tmp_path: Path) -> None:
    of = records(tmp_path)
    await of.pulling(IMAGE)
    await of.pulled(IMAGE, ID, None)
    (file,) = (tmp_path / "pulled").iterdir()
    file.write_text("{")
    assert not await may(records(tmp_path), MINE)
    await of.forget_others(set())
    assert not list((tmp_path / "pulled").iterdir())


@pytest.mark.parametrize("pattern", ["reg.example/open/*", "reg.example/one", "docker.io/library/nginx"])
def test_an_allow_list_takes_repositories_and_prefixes(pattern: str) -> None:
    assert pattern_problem(pattern) == ""


@pytest.mark.parametrize("pattern", ["", " a.b/c", "a.b/*/c", "/*", "nginx", "a.b/c:1", "a.b/c@sha256:" + "0" * 64])
def test_an_allow_list_takes_nothing_else(pattern: str) -> None:
    assert pattern_problem(pattern)


@pytest.mark.parametrize(
    ("image", "verified"),
    [
        ("reg.example/open/app:1", False),
        ("reg.example/one@sha256:" + "b" * 64, False),
        ("reg.example/one/more", True),
        ("nginx", True),
        ("Bad/Name", True),
    ],
)
def test_an_allow_list_names_repositories_and_prefixes(image: str, verified: bool) -> None:
    rule = Verification(ALLOWLISTED, ("reg.example/open/*", "reg.example/one"))
    assert rule.required(image, pulled_by_us=False) is verified
