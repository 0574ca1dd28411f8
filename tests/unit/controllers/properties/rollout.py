"""A Deployment, its ReplicaSets and their pods, with both controllers looking at them in any order."""

from datetime import timedelta
from typing import Any

from orca.api.builtin import REPLICASETS
from orca.api.objects import Obj, annotations, controller_of, meta, uid
from orca.api.times import format_time
from orca.controllers import podstate
from orca.controllers import replicaset as sets
from orca.controllers.claims import owner_reference
from orca.controllers.deployment import revisions, sizes
from orca.controllers.deployment.plan import Plan, plan
from orca.controllers.podcontrol import pod_from_template
from tests.unit.controllers.properties.world import World
from tests.unit.controllers.support import NOW, deployment, template

IMAGES = ("nginx:1", "nginx:2", "nginx:3")


class Rollout(World):
    """`sets` are the true ReplicaSets by uid, `known` those in the cache of the Deployment controller."""

    def __init__(self, replicas: int, strategy: Obj, **spec: Any) -> None:
        super().__init__()
        self.deployment = deployment(replicas, strategy=strategy, **spec)
        self.deployment["metadata"] |= {"uid": "d-uid", "generation": 1}
        self.sets: dict[str, Obj] = {}
        self.known: dict[str, Obj] = {}

    @property
    def limits(self) -> sizes.Limits:
        return sizes.limits_of(self.deployment)

    @property
    def recreates(self) -> bool:
        return self.deployment["spec"]["strategy"]["type"] == "Recreate"

    # --- people

    def edit(self, **spec: Any) -> None:
        """Somebody changes the Deployment."""
        metadata = {**meta(self.deployment), "generation": meta(self.deployment)["generation"] + 1}
        self.deployment = {**self.deployment, "metadata": metadata, "spec": {**self.deployment["spec"], **spec}}

    def set_image(self, number: int) -> None:
        """A new template, or one that was there before: an undo."""
        self.edit(template=template(IMAGES[number % len(IMAGES)]))

    def there_is(self, image: str, replicas: int, age: int, *, remembered: int | None) -> None:
        """A ReplicaSet from before, with pods; `remembered` is the Deployment's size when it was last scaled."""
        made = revisions.build_new(
            {**self.deployment, "spec": {**self.deployment["spec"], "template": template(image)}},
            replicas,
            10 - age,
            sizes.Limits(remembered or 0, 1, 0),
        )
        if remembered is None:
            made["metadata"]["annotations"] = {}
        self._add(made, NOW - timedelta(minutes=age))

    def _add(self, made: Obj, created: Any) -> None:
        identity = f"set-{len(self.sets)}-{self.made}"
        self.made += 1
        metadata = {**meta(made), "uid": identity, "creationTimestamp": format_time(created), "generation": 1}
        assert meta(made)["name"] not in {meta(one)["name"] for one in self.sets.values()}
        self._put({**made, "metadata": metadata})

    def _put(self, one: Obj) -> None:
        self.sets[uid(one)] = self.known[uid(one)] = one

    # --- the two controllers

    def sync(self) -> Plan:
        """The Deployment controller looks, by what it knows, and the result is checked."""
        before = sum(one["spec"]["replicas"] for one in self.sets.values())
        old_pods = {one: self.pods_of(one, podstate.is_finished) for one in self.sets}
        todo = plan(self.deployment, list(self.known.values()), self.view(), self.now)
        paused = self.deployment["spec"].get("paused")
        assert not (paused and todo.create)
        if todo.create is not None:
            self._add(todo.create, self.now)
        for scaled in todo.update:
            self._scale(scaled.replicaset)
        for one in todo.delete:
            assert not self.pods_of(uid(one)), "a set with pods is no history"
            assert not revisions.same_template(one["spec"]["template"], self.deployment["spec"]["template"])
            self.sets.pop(uid(one), None)
            self.known.pop(uid(one), None)
        after = sum(one["spec"]["replicas"] for one in self.sets.values())
        assert after <= max(self.limits.most, before), "above maxSurge"
        if self.recreates and not paused and after > before:
            new = revisions.find_new(self.deployment, list(self.sets.values()))
            others = [one for identity, found in old_pods.items() if new and identity != uid(new) for one in found]
            # A set that is only scaled lets others be; one that starts waits for them.
            assert not others or any(one["spec"]["replicas"] for one in self.sets.values() if one is not new)
        metadata = meta(self.deployment)
        if todo.revision:
            metadata = {**metadata, "annotations": {**annotations(self.deployment), revisions.REVISION: todo.revision}}
        self.deployment = {**self.deployment, "metadata": metadata, "status": todo.status}
        return todo

    def _scale(self, wanted: Obj) -> None:
        current = self.sets[uid(wanted)]
        assert (controller_of(current) or {})["uid"] == "d-uid"
        metadata = {**meta(current), "annotations": meta(wanted)["annotations"]}
        if current["spec"] != wanted["spec"]:
            metadata["generation"] = metadata["generation"] + 1
        self._put({**current, "metadata": metadata, "spec": wanted["spec"]})

    def sync_set(self, identity: str) -> None:
        """The ReplicaSet controller looks at one set."""
        one = self.sets[identity]
        view = [pod for pod in self.view() if (controller_of(pod) or {}).get("uid") == identity]
        todo = sets.plan(one, view, {}, self.now)
        for pod in todo.delete:
            self.delete(pod)
        for _ in range(todo.create):
            pod = pod_from_template(REPLICASETS, one, one["spec"]["template"])
            pod["metadata"]["ownerReferences"] = [owner_reference(REPLICASETS, one)]
            self.create(pod)
        self.sets[identity] = {**one, "status": sets.new_status(one, view, None, self.now)}

    # --- what is

    def pods_of(self, identity: str, but: Any = lambda pod: not podstate.is_active(pod)) -> list[Obj]:
        """True pods of a set, without those that `but` holds for."""
        mine = (pod for pod in self.pods.values() if (controller_of(pod) or {}).get("uid") == identity)
        return [pod for pod in mine if not but(pod)]

    def available(self) -> int:
        """Pods that serve."""
        return sum(map(podstate.is_ready, self.active()))

    def step(self, what: str, number: int) -> None:
        """One happening."""
        identities = sorted(self.sets)
        match what:
            case "sync":
                self.sync()
            case "set" if identities:
                self.sync_set(identities[number % len(identities)])
            case "see":
                for identity in identities[number % max(len(identities), 1) :][:1]:
                    self.known[identity] = self.sets[identity]
                self.happen(what, number)
            case "image":
                self.set_image(number)
            case "scale":
                self.edit(replicas=number % 8)
            case "pause":
                self.edit(paused=not self.deployment["spec"].get("paused"))
            case "set":
                pass
            case _:
                if what == "see all":
                    self.known = dict(self.sets)
                self.happen(what, number)

    def converge(self) -> None:
        """All is well from now on: until nobody wants anything more."""
        for _ in range(60):
            self.settle()
            before = (self.deployment, dict(self.sets), dict(self.pods))
            for identity in list(self.sets):
                self.sync_set(identity)
            self.known, self.seen = dict(self.sets), dict(self.pods)
            self.sync()
            if before == (self.deployment, self.sets, self.pods):
                return
        raise AssertionError("it never comes to rest")
