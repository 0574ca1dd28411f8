"""The arithmetic of rollouts: safety from any state, and that every rollout ends."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.controllers.deployment import sizes
from orca.controllers.deployment.sizes import Limits, Member
from tests.unit.controllers.support import NOW, deployment


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    replicas = draw(st.integers(0, 20))
    surge = draw(st.integers(0, 10))
    unavailable = min(draw(st.integers(0, 10)), replicas)
    return Limits(replicas, surge, unavailable if surge or unavailable else min(1, replicas))


@st.composite
def members(draw: st.DrawFn, most: int = 5) -> list[Member]:
    found = []
    for index in range(draw(st.integers(0, most))):
        replicas = draw(st.integers(0, 12))
        available = draw(st.integers(0, replicas))
        found.append(Member(f"rs-{index}", NOW + timedelta(minutes=index), replicas, available, replicas))
    return found


def _apply(member: Member, wanted: sizes.Sizes) -> Member:
    """As a ReplicaSet controller would: it gives up unavailable pods first."""
    replicas = wanted.get(member.uid, member.replicas)
    return replace(member, replicas=replicas, available=min(member.available, replicas), actual=replicas)


@given(limits(), members(), st.integers(0, 25), st.data())
def test_a_step_is_never_above_surge_nor_below_availability(
    limit: Limits, old: list[Member], new_replicas: int, data: st.DataObject
) -> None:
    new = Member("new", NOW + timedelta(hours=1), new_replicas, data.draw(st.integers(0, new_replicas)))
    wanted = sizes.rolling(limit, new, old)
    before = [new, *old]
    after = [_apply(member, wanted) for member in before]
    total_before, total_after = (sum(m.replicas for m in found) for found in (before, after))
    assert total_after <= max(limit.most, total_before)
    assert all(size >= 0 for size in wanted.values())
    assert set(wanted) <= {member.uid for member in before}
    if new.replicas <= limit.replicas:
        # Old pods are given up only while enough remain available.
        available_before, available_after = (sum(m.available for m in found) for found in (before, after))
        assert available_after >= min(limit.fewest, available_before)


@given(limits(), members())
@settings(deadline=None)
def test_a_rollout_ends_from_any_state(limit: Limits, old: list[Member]) -> None:
    new = Member("new", NOW + timedelta(hours=1), 0)
    for _ in range(200):
        wanted = sizes.rolling(limit, new, old)
        new, *old = (_apply(member, wanted) for member in [new, *old])
        # Every pod that exists becomes available.
        new, *old = (replace(member, available=member.replicas) for member in [new, *old])
        if not wanted:
            break
    assert new.replicas == limit.replicas
    assert all(member.replicas == 0 for member in old)


@given(limits(), members(), st.booleans())
def test_rescaling_in_a_rollout_hits_the_allowed_total(limit: Limits, old: list[Member], rolling: bool) -> None:
    known = [replace(m, desired=limit.replicas + 1, largest=max(limit.most + 1, 1)) for m in old]
    wanted = sizes.rescaled(limit, None, known, is_rolling=rolling)
    after = [_apply(member, wanted) for member in known]
    assert all(size >= 0 for size in wanted.values())
    active = [member for member in known if member.replicas]
    if len(active) > 1 and rolling:
        assert sum(m.replicas for m in after) == (limit.most if limit.replicas else 0)
    if len(active) == 1:
        assert sum(m.replicas for m in after) == limit.replicas


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        ("25%", "25%", 4, (1, 1)),
        ("25%", "25%", 10, (3, 2)),
        ("25%", "25%", 1, (1, 0)),
        (0, 0, 5, (0, 1)),
        ("0%", "1%", 5, (0, 1)),
        (2, "50%", 3, (2, 1)),
        (0, 10, 3, (0, 3)),
        ("7%", 0, 100, (7, 0)),
    ],
)
def test_numbers_and_percentages(
    surge: int | str, unavailable: int | str, replicas: int, expected: tuple[int, int]
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    found = sizes.limits_of(deployment(replicas, strategy=strategy))
    assert (found.surge, found.unavailable) == expected


def test_unhealthy_old_pods_go_first() -> None:
    new = Member("new", NOW + timedelta(hours=1), 5, 0)
    old = [Member("a", NOW, 8, 5, 8), Member("b", NOW + timedelta(minutes=1), 3, 3, 3)]
    wanted = sizes.shrink_old(Limits(10, 5, 2), new, old)
    # room: 16 - 8 - 5 = 3, all of which are the unavailable ones of the oldest set.
    assert wanted == {"a": 5}
