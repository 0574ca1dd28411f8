"""Deployments: never above maxSurge or below maxUnavailable, Recreate never overlaps, and every rollout ends."""

from hypothesis import given
from hypothesis import strategies as st

from orca.api.objects import annotations, name, uid
from orca.controllers import conditions
from orca.controllers.deployment import revisions
from orca.controllers.deployment.status import AVAILABLE
from tests.unit.controllers.properties.rollout import IMAGES, Rollout
from tests.unit.controllers.properties.world import QUICK, Story, stories

CHANGES = ("set", "set", "set", "image", "pause")
bounds = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "50%", "100%"]))


@st.composite
def rolling(draw: st.DrawFn) -> dict[str, object]:
    surge, unavailable = draw(bounds), draw(bounds)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    strategy = draw(st.one_of(rolling(), rolling(), st.just({"type": "Recreate"})))
    found = Rollout(draw(st.integers(0, 7)), strategy, revisionHistoryLimit=draw(st.sampled_from([0, 1, 10])))
    for age, image in enumerate(draw(st.lists(st.sampled_from(IMAGES), unique=True))):
        replicas, remembered = draw(st.integers(0, 6)), draw(st.one_of(st.none(), st.integers(0, 6)))
        found.there_is(image, replicas, age, remembered=remembered)
    return found


@QUICK
@given(rollouts(), stories(*CHANGES, "scale"), st.integers(0, 2))
def test_every_rollout_is_within_its_bounds_and_ends(world: Rollout, story: Story, last: int) -> None:
    for what, number in story:
        world.step(what, number)
    world.edit(paused=False)
    world.set_image(last)
    world.converge()
    new = revisions.find_new(world.deployment, list(world.sets.values()))
    assert new is not None
    size = world.deployment["spec"]["replicas"]
    assert len(world.pods_of(uid(new))) == len(world.active()) == world.available() == size
    status = world.deployment["status"]
    for part in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"):
        assert status.get(part, 0) == size
    assert status["terminatingReplicas"] == 0
    assert "unavailableReplicas" not in status
    progress = conditions.find(status["conditions"], "Progressing")
    assert progress is not None
    assert (progress["status"], progress["reason"]) == ("True", AVAILABLE)
    numbers = [revisions.revision_of(one) for one in world.sets.values()]
    assert revisions.revision_of(new) == max(numbers)
    assert numbers.count(max(numbers)) == 1
    assert annotations(world.deployment)[revisions.REVISION] == annotations(new)[revisions.REVISION]
    assert len({name(one) for one in world.sets.values()}) == len(world.sets)
    assert len(world.sets) <= 1 + world.deployment["spec"]["revisionHistoryLimit"]


@QUICK
@given(st.integers(1, 7), rolling(), stories(*CHANGES, troubles=()), st.integers(0, 2))
def test_an_update_alone_never_takes_more_than_may_be_missing(
    replicas: int, strategy: dict[str, object], story: Story, last: int
) -> None:
    world = Rollout(replicas, strategy)
    world.converge()
    world.set_image(last)
    for what, number in story:
        world.step(what, number)
        assert world.available() >= world.limits.fewest


@QUICK
@given(st.integers(1, 6), stories(*CHANGES, "scale", longest=40), st.integers(1, 2))
def test_recreate_never_runs_two_templates_at_once(replicas: int, story: Story, image: int) -> None:
    world = Rollout(replicas, {"type": "Recreate"})
    world.converge()
    world.set_image(image)
    for what, number in story:
        if what in ("image", "pause"):  # turning back halfway may leave pods of both for a moment, as upstream
            continue
        world.step(what, number)
        images = {pod["spec"]["containers"][0]["image"] for pod in world.active()}
        assert len(images) <= 1


@QUICK
@given(rolling(), st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(0, 8))
def test_scaling_amid_a_rollout_keeps_the_proportions(
    strategy: dict[str, object], scales: list[int], progress: int
) -> None:
    world = Rollout(6, strategy)
    world.converge()
    world.set_image(1)
    for _ in range(progress):
        world.sync()
        for identity in list(world.sets):
            world.sync_set(identity)
        world.happen("start", 0)
    for wanted in scales:
        shares = {one: found["spec"]["replicas"] for one, found in world.sets.items()}
        total = sum(shares.values())
        changed = wanted != world.deployment["spec"]["replicas"]
        world.edit(replicas=wanted)
        world.sync()
        after = {one: world.sets[one]["spec"]["replicas"] for one in shares}
        if sum(share > 0 for share in shares.values()) > 1 and wanted and changed:
            assert sum(after.values()) == world.limits.most
            way = 1 if world.limits.most >= total else -1
            assert all((after[one] - share) * way >= 0 for one, share in shares.items())
            # Who had more keeps more, but for what rounding moves.
            small, *_, large = sorted(shares, key=lambda one: shares[one])
            assert after[small] <= after[large] + 1
    world.converge()
    assert world.available() == scales[-1]
