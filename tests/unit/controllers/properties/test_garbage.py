"""The garbage collector: what has a living owner stays, what has none goes, nothing waits for ever, circles included.

The collector runs over the fake API; what must stay and what must go is computed from the references alone.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.api.objects import Obj, is_terminating, name, owner_references, uid
from orca.controllers.garbage import GarbageCollector
from tests.unit.controllers.properties.world import QUICK
from tests.unit.controllers.support import Cluster, running_one

NAMES = "abcdefg"
GHOST = "z"
"""An owner that never was."""
HOLD = "test/hold"


@dataclass
class Family:
    """Owners by name (with whether the child blocks their deletion), and who is held by a finalizer of others."""

    owners: dict[str, dict[str, bool]]
    held: set[str]

    def objects(self) -> list[Obj]:
        return [self._object(one) for one in self.owners]

    def _object(self, one: str) -> Obj:
        references = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": owner,
                "uid": f"uid-{owner}",
                "blockOwnerDeletion": blocks,
            }
            for owner, blocks in self.owners[one].items()
        ]
        metadata: dict[str, Any] = {"name": one, "namespace": "default", "uid": f"uid-{one}"}
        if references:
            metadata["ownerReferences"] = references
        if one in self.held:
            metadata["finalizers"] = [HOLD]
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}

    def alive(self, deleted: set[str], orphaning: set[str], *, all_of: bool) -> set[str]:
        """The most objects that can support each other. An owner that was deleted with its dependents orphaned
        supports a child: with `all_of` only one whose other owners that are gone did the same."""
        found = set(self.owners) - deleted
        while True:
            kept = {one for one in found if self._stands(one, found, orphaning, all_of=all_of)}
            if kept == found:
                return found
            found = kept

    def _stands(self, one: str, alive: set[str], orphaning: set[str], *, all_of: bool) -> bool:
        owners = set(self.owners[one])
        if not owners or owners & alive:
            return True
        return owners <= orphaning if all_of else bool(owners & orphaning)


@st.composite
def families(draw: st.DrawFn) -> Family:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    owners = {
        one: draw(st.dictionaries(st.sampled_from(names + GHOST), st.booleans(), max_size=3))
        if draw(st.booleans())
        else {}
        for one in names
    }
    if draw(st.booleans()):  # in a circle, each blocking the next
        for one, other in zip(names, names[1:] + names[0], strict=True):
            owners[one] = {other: True}
    return Family(owners, draw(st.sets(st.sampled_from(names), max_size=2)))


policies = st.sampled_from(["Background", "Foreground", "Orphan"])
deletions = st.lists(st.tuples(st.sampled_from(NAMES), policies, st.booleans()), max_size=4)


async def _delete(
    cluster: Cluster, family: Family, wishes: list[tuple[str, Any, bool]]
) -> tuple[set[str], set[str], set[str]]:
    """Answers who was deleted, and who of them surely and who perhaps with its dependents orphaned: of two wishes for
    one object the later counts when it comes early enough."""
    deleted, surely, perhaps = set[str](), set[str](), set[str]()
    for one, policy, waits in wishes:
        with suppress(ApiError):
            if one in family.owners:
                going = is_terminating(await cluster.api.get(CONFIGMAPS, one, "default"))
                await cluster.api.delete(CONFIGMAPS, one, "default", propagation=policy)
                deleted.add(one)
                surely.discard(one)
                if policy == "Orphan":
                    perhaps.add(one)
                    surely |= set() if going else {one}
        if waits:
            await cluster.settle(1)
    return deleted, surely, perhaps


async def _release(cluster: Cluster) -> None:
    """Whoever held objects that are being deleted lets them go."""
    for one in cluster.api.objects(CONFIGMAPS):
        holders = one["metadata"].get("finalizers") or []
        if is_terminating(one) and HOLD in holders:
            rest = [kept for kept in holders if kept != HOLD]
            await cluster.api.patch(CONFIGMAPS, name(one), {"metadata": {"finalizers": rest or None}}, "default")


@settings(QUICK, max_examples=100)
@given(families(), deletions)
async def test_the_living_stay_and_the_rest_goes(family: Family, wishes: list[tuple[str, Any, bool]]) -> None:
    cluster = Cluster()
    for one in family.objects():
        cluster.api.seed(CONFIGMAPS, one)
    async with running_one(GarbageCollector, cluster=cluster):
        deleted, surely, perhaps = await _delete(cluster, family, wishes)
        await cluster.settle(2)
        must_stay = family.alive(deleted, surely, all_of=True)
        may_stay = family.alive(deleted, perhaps, all_of=False)
        there = {name(one): one for one in cluster.api.objects(CONFIGMAPS)}
        assert all(one in there and not is_terminating(there[one]) for one in must_stay)
        for _ in family.owners:
            await _release(cluster)
            await cluster.settle(2)
        await cluster.settle(120)
        left = {name(one): one for one in cluster.api.objects(CONFIGMAPS)}
    assert must_stay <= set(left) <= may_stay
    assert not any(map(is_terminating, left.values()))
    uids = set(map(uid, left.values()))
    for one in left.values():
        assert all(reference["uid"] in uids for reference in owner_references(one)), "a reference that dangles"
