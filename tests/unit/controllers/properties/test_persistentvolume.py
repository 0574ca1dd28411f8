"""Claims and volumes: no volume for two claims, data never handed on, and no claim left waiting beside what fits it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca.api.objects import Obj, key, name, uid
from orca.api.volumes import BIND_COMPLETED, BOUND_BY_CONTROLLER, annotation, best_match, mismatch
from orca.controllers.persistentvolume.plan import (
    Bind,
    bound_claim,
    bound_status,
    bound_volume,
    claim_key,
    plan_claim,
    plan_volume,
    unbound,
)
from orca.controllers.persistentvolume.provisioning import claim_reference
from tests.unit.controllers.properties.world import QUICK

NAMES = ("c0", "c1", "c2")


class Refused(Exception):
    """Somebody else wrote the object meanwhile."""


class Died(Exception):
    """The controller ended before this write."""


class Store:
    """Objects of one kind by name, and what the controllers last saw of them."""

    def __init__(self) -> None:
        self.true: dict[str, Obj] = {}
        self.seen: dict[str, Obj] = {}

    def put(self, obj: Obj, *, seen: bool = False) -> Obj:
        version = int(obj["metadata"].get("resourceVersion", 0)) + 1
        made = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}
        self.true[name(made)] = made
        if seen:
            self.seen[name(made)] = made
        return made

    def look(self, key: str) -> None:
        if key in self.true:
            self.seen[key] = self.true[key]
        else:
            self.seen.pop(key, None)


class Storage:
    """Hand-made volumes that are kept, and claims that come and go."""

    def __init__(self) -> None:
        self.volumes, self.claims = Store(), Store()
        self.made = 0
        self.writes_left = 1000
        self.served: dict[str, set[str]] = {}

    def write(self, store: Store, obj: Obj) -> Obj:
        if self.writes_left == 0:
            raise Died
        self.writes_left -= 1
        current = store.true.get(name(obj))
        if current is None or current["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise Refused
        return store.put(obj, seen=True)

    # --- people

    def add_volume(self, size: int, of: str, wanted_by: str) -> None:
        self.made += 1
        spec: Obj = {
            "capacity": {"storage": f"{size}Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": of,
            "persistentVolumeReclaimPolicy": "Retain",
        }
        if wanted_by:
            spec["claimRef"] = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": wanted_by}
        self.volumes.put({"metadata": {"name": f"v{self.made}", "uid": f"v{self.made}"}, "spec": spec, "status": {}})

    def add_claim(self, named: str, size: int, of: str, volume: str) -> None:
        if named in self.claims.true:
            return
        self.made += 1
        spec: Obj = {
            "resources": {"requests": {"storage": f"{size}Gi"}},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": of,
        }
        if volume:
            spec["volumeName"] = volume
        metadata = {"name": named, "namespace": "default", "uid": f"claim-{self.made}", "resourceVersion": "0"}
        self.claims.put({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})

    # --- the two binders

    def sync(self, number: int, writes: int = 1000) -> None:
        """One look at a claim and at a volume."""
        for store, look in ((self.claims, self._sync_claim), (self.volumes, self._sync_volume)):
            keys = sorted(store.seen)
            self.writes_left = writes
            try:
                if keys:
                    look(store.seen[keys[number % len(keys)]])
            except Refused:
                pass
            except Died:
                self.see_all()
        self.check()

    def _sync_claim(self, claim: Obj) -> None:
        wanted = claim["spec"].get("volumeName")
        volumes = () if wanted else list(self.volumes.seen.values())
        named = self.volumes.seen.get(wanted) if wanted else None
        plan = plan_claim(claim, volumes=volumes, named=named, storage_class=None)
        if not isinstance(plan, Bind):
            if claim["status"].get("phase") != plan.phase:
                self.write(self.claims, {**claim, "status": {**claim["status"], "phase": plan.phase}})
            return
        volume = plan.volume
        bound = bound_volume(volume, claim, claim_reference(claim))
        if bound is not volume:
            volume = self.write(self.volumes, bound)
        if volume["status"].get("phase") != "Bound":
            volume = self.write(self.volumes, {**volume, "status": {"phase": "Bound"}})
        complete = bound_claim(claim, volume)
        if complete is not claim:
            claim = self.write(self.claims, complete)
        status = bound_status(claim, volume)
        if status != claim["status"]:
            self.write(self.claims, {**claim, "status": status})

    def _sync_volume(self, volume: Obj) -> None:
        plan = plan_volume(volume, self.claims.seen.get(claim_key(volume).removeprefix("default/")))
        if plan.unbind:
            volume = self.write(self.volumes, unbound(volume, wholly=plan.wholly))
            plan = plan_volume(volume, None)
        if plan.phase and volume["status"].get("phase") != plan.phase:
            self.write(self.volumes, {**volume, "status": {"phase": plan.phase}})

    # --- rules

    def see_all(self) -> None:
        for store in (self.claims, self.volumes):
            store.seen = dict(store.true)

    def check(self) -> None:
        for claim in self.claims.true.values():
            volume = self.volumes.true.get(claim["spec"].get("volumeName", ""))
            if not annotation(claim, BIND_COMPLETED) or volume is None:
                continue
            assert (volume["spec"].get("claimRef") or {}).get("uid") == uid(claim), "a volume with two claims"
            if annotation(claim, BOUND_BY_CONTROLLER) and annotation(volume, BOUND_BY_CONTROLLER):
                assert not mismatch(volume, claim)
            self.served.setdefault(name(volume), set()).add(uid(claim))
        assert all(len(claims) == 1 for claims in self.served.values()), "data handed on to another claim"

    def rest(self) -> None:
        """Until nobody writes any more."""
        for _ in range(60):
            self.see_all()
            before = (dict(self.claims.true), dict(self.volumes.true))
            for number in range(max(len(self.claims.seen), len(self.volumes.seen))):
                self.sync(number)
            if before == (self.claims.true, self.volumes.true):
                return
        raise AssertionError("it never comes to rest")


HAPPENINGS = (
    "sync",
    "sync",
    "sync",
    "sync",
    "dies",
    "see claim",
    "see volume",
    "see all",
    "claim",
    "unclaim",
    "unmake",
)
happenings = st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 11)), max_size=40)
volumes = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["", "a"]), st.sampled_from(["", "", "", *NAMES])), max_size=5
)
claims = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["", "a"]), st.sampled_from(["", "", "", "v1", "v2"])),
    min_size=3,
    max_size=3,
)


def _happen(world: Storage, what: str, number: int, wishes: list[tuple[int, str, str]]) -> None:
    keys: Any = sorted(world.volumes.true)
    named = NAMES[number % len(NAMES)]
    match what:
        case "sync":
            world.sync(number)
        case "dies":
            world.sync(number, writes=number % 4)
        case "see claim":
            world.claims.look(named)
        case "see volume" if keys:
            world.volumes.look(keys[number % len(keys)])
        case "see all":
            world.see_all()
        case "claim":
            world.add_claim(named, *wishes[number % len(wishes)])
        case "unclaim":
            world.claims.true.pop(named, None)
        case "unmake" if keys:
            del world.volumes.true[keys[number % len(keys)]]


@QUICK
@given(volumes, claims, happenings)
def test_volumes_serve_one_claim_ever_and_nobody_waits_in_vain(
    there: list[tuple[int, str, str]], wishes: list[tuple[int, str, str]], story: list[tuple[str, int]]
) -> None:
    world = Storage()
    for one in there:
        world.add_volume(*one)
    for named, wish in zip(NAMES, wishes, strict=True):
        world.add_claim(named, *wish)
    world.see_all()
    for what, number in story:
        _happen(world, what, number, wishes)
        world.check()
    world.rest()
    _check_rest(world)
    world.claims.true.clear()
    world.rest()
    for named, wish in zip(NAMES, wishes, strict=True):
        world.add_claim(named, *wish)
    world.rest()
    _check_rest(world)


def _check_rest(world: Storage) -> None:
    by_key = {key(claim): claim for claim in world.claims.true.values()}
    for claim in by_key.values():
        phase, wanted = claim["status"]["phase"], claim["spec"].get("volumeName")
        if not wanted:
            assert phase == "Pending"
            assert best_match(claim, world.volumes.true.values()) is None
        elif phase == "Bound":
            assert world.volumes.true[wanted]["status"]["phase"] == "Bound"
        else:
            lost = wanted not in world.volumes.true and bool(annotation(claim, BIND_COMPLETED))
            assert phase == ("Lost" if lost else "Pending")
    for volume in world.volumes.true.values():
        reference = volume["spec"].get("claimRef") or {}
        claim = by_key.get(claim_key(volume))
        mine = claim is not None and uid(claim) == reference.get("uid")
        assert volume["status"]["phase"] == ("Bound" if mine else "Released" if reference.get("uid") else "Available")
