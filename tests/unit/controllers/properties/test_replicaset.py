"""ReplicaSets and ReplicationControllers: never too many pods, nobody else's pod, and in the end the wanted number."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import REPLICASETS
from orca.api.objects import Obj, controller_of, labels, uid
from orca.api.selectors import from_label_selector
from orca.controllers import podstate
from orca.controllers.claims import decide
from orca.controllers.podcontrol import pod_from_template
from orca.controllers.replicaset import new_status, plan
from tests.unit.controllers.properties.world import NOW, QUICK, Story, World, stories
from tests.unit.controllers.support import pod, replicaset


@st.composite
def worlds(draw: st.DrawFn) -> World:
    found = []
    for number in range(draw(st.integers(0, 6))):
        phase = draw(st.sampled_from(["Pending", "Running", "Running", "Failed", "Succeeded"]))
        marks = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if draw(st.booleans()) else {}
        ready, owner = draw(st.booleans()), "rs-uid"
        found.append(pod(f"p{number}", phase=phase, ready=ready, owner=owner, **marks))
    return World(found)


def _look(world: World, wanted: Obj) -> bool:
    """One look; answers whether it wanted anything."""
    view = world.view()
    todo = plan(wanted, view, {}, world.now)
    active = [one for one in view if podstate.is_active(one)]
    size = wanted["spec"]["replicas"]
    assert todo.create == 0 or not todo.delete
    assert len(active) + todo.create <= max(size, len(active))
    assert len(active) - len(todo.delete) >= min(size, len(active))
    assert {uid(one) for one in todo.delete} <= {uid(one) for one in active}
    kept = [one for one in active if one not in todo.delete]
    assert not any(podstate.is_ready(one) for one in todo.delete) or all(map(podstate.is_ready, kept))
    before = len(world.active())
    for one in todo.delete:
        world.delete(one)
    for _ in range(todo.create):
        world.create(pod_from_template(REPLICASETS, wanted, wanted["spec"]["template"]))
    assert len(world.active()) <= max(size, before)
    return bool(todo.create or todo.delete)


@QUICK
@given(worlds(), st.integers(0, 6), stories("scale"))
def test_never_too_many_and_in_the_end_as_many_as_wanted(world: World, size: int, story: Story) -> None:
    wanted = replicaset(size)
    for what, number in story:
        if what == "sync":
            _look(world, wanted)
        elif what == "scale":
            wanted = replicaset(number % 7)
        else:
            world.happen(what, number)
    for _ in range(6):
        world.settle()
        changed = _look(world, wanted)
    assert not changed
    status = new_status(wanted, world.view(), None, world.now)
    assert [status.get(part, 0) for part in ("replicas", "readyReplicas", "availableReplicas")] == (
        [wanted["spec"]["replicas"]] * 3
    )
    assert status["terminatingReplicas"] == 0


candidates = st.lists(
    st.tuples(st.sampled_from(["", "rs-uid", "other"]), st.sampled_from(["web", "db"]), st.booleans()), max_size=8
)


@QUICK
@given(candidates, st.booleans())
def test_what_others_own_is_never_claimed(found: list[tuple[str, str, bool]], owner_goes: bool) -> None:
    marks: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    owner = replicaset(3)
    if owner_goes:
        owner["metadata"] |= marks
    pods = [
        pod(f"p{number}", owner=of, labels={"app": app}, since=NOW, **(marks if going else {}))
        for number, (of, app, going) in enumerate(found)
    ]
    claims = decide(owner, pods, from_label_selector({"matchLabels": {"app": "web"}}), podstate.is_active)
    for one in (*claims.owned, *claims.release):
        assert (controller_of(one) or {})["uid"] == "rs-uid"
    for one in claims.adopt:
        assert controller_of(one) is None
        assert labels(one)["app"] == "web"
        assert podstate.is_active(one)
    if owner_goes:
        assert not claims.adopt
        assert not claims.release
    groups = [{uid(one) for one in group} for group in (claims.owned, claims.adopt, claims.release)]
    assert sum(map(len, groups)) == len(set().union(*groups))
