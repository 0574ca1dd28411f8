"""Which images go, and in what order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agents.images.garbage import Policy, bytes_to_free, candidates, observe, old_enough, outdated
from agents.runtime.model import ImageInfo

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def image(name: str, size: int = 1) -> ImageInfo:
    return ImageInfo(name, (f"{name}:1",), (), size)


def test_what_was_used_longest_ago_goes_first_and_what_never_was_before_it() -> None:
    uses = observe({}, [image("old"), image("busy"), image("idle")], {"idle", "busy"}, at(0))
    uses = observe(uses, [image("old"), image("busy"), image("idle"), image("new")], {"busy"}, at(5))
    assert candidates(uses, {"busy"}, ()) == ["old", "new", "idle"]
    assert candidates(uses, {"busy"}, {"old"}) == ["new", "idle"]
    assert set(observe(uses, [image("new")], (), at(6))) == {"new"}


def test_thresholds_are_percentages_of_the_disk() -> None:
    policy = Policy(high=85, low=80)
    assert bytes_to_free(1000, 160, policy) == 0
    assert bytes_to_free(1000, 150, policy) == 50
    assert bytes_to_free(1000, 0, policy) == 200
    assert bytes_to_free(1000, 2000, policy) == 0


def test_the_maximum_age_counts_from_the_last_use_or_from_the_beginning() -> None:
    uses = observe({}, [image("used"), image("never")], {"used"}, at(0))
    uses = observe(uses, [image("used"), image("never"), image("fresh")], {"used"}, at(50))
    policy = Policy(maximum_age=3600)
    assert outdated(uses, uses, policy, at(61)) == ["never"]
    assert outdated(uses, uses, policy, at(111)) == ["used", "never", "fresh"]
    assert outdated(uses, uses, Policy(), at(10_000)) == []


def test_what_came_a_moment_ago_stays() -> None:
    uses = observe({}, [image("a")], (), at(0))
    assert not old_enough(uses["a"], Policy(), at(1))
    assert old_enough(uses["a"], Policy(), at(2))
