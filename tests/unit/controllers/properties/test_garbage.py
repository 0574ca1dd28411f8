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
    return Family(owners, draw(st.sets(st.sampled_from(names), max_size=2)))


policies = st.sampled_from(["Background", "Foreground", "Orphan"])
deletions = st.lists(st.tuples(st.sampled_from(NAMES), policies, st.booleans()), max_size=4)


async def _delete(cluster: Cluster, family: Family, wishes: list[tuple[str, Any, bool]]) -> tuple[set[str], set[str]]:
    """Answers who was deleted, and who of them with its dependents orphaned."""
    deleted, orphaning = set(), set()
    for one, policy, waits in wishes:
        with suppress(ApiError):
            if one in family.owners:
                going = is_terminating(await cluster.api.get(CONFIGMAPS, one, "default"))
                await cluster.api.delete(CONFIGMAPS, one, "default", propagation=policy)
                deleted.add(one)
                if policy == "Orphan" and not going:
                    orphaning.add(one)
        if waits:
            await cluster.settle(1)
    return deleted, orphaning


@settings(QUICK, max_examples=120)
@given(families(), deletions)
async def test_the_living_stay_and_the_rest_goes(family: Family, wishes: list[tuple[str, Any, bool]]) -> None:
    cluster = Cluster()
    for one in family.objects():
        cluster.api.seed(CONFIGMAPS, one)
    async with running_one(GarbageCollector, cluster=cluster):
        deleted, orphaning = await _delete(cluster, family, wishes)
        await cluster.settle(2)
        must_stay = family.alive(deleted, orphaning, all_of=True)
        may_stay = family.alive(deleted, orphaning, all_of=False)
        there = {name(one): one for one in cluster.api.objects(CONFIGMAPS)}
        assert all(one in there and not is_terminating(there[one]) for one in must_stay)
        for one in family.held & set(there):
            if is_terminating(there[one]):
                rest = [kept for kept in there[one]["metadata"]["finalizers"] if kept != HOLD]
                await cluster.api.patch(CONFIGMAPS, one, {"metadata": {"finalizers": rest or None}}, "default")
        await cluster.settle(120)
        left = {name(one): one for one in cluster.api.objects(CONFIGMAPS)}
    assert must_stay <= set(left) <= may_stay
    assert not any(map(is_terminating, left.values()))
    uids = set(map(uid, left.values()))
    for one in left.values():
        assert all(reference["uid"] in uids for reference in owner_references(one)), "a reference that dangles"
