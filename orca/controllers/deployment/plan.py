"""What to do next about one Deployment. Pure: everything it needs is given, everything it wants is in the Plan."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from orca.api.objects import Obj, annotations, controller_of, is_terminating, name, uid
from orca.controllers import podstate
from orca.controllers.deployment import revisions, sizes, status
from orca.controllers.deployment.sizes import Limits, Member, Sizes

LOOK_AGAIN = 1.0
"""Seconds after which sets are looked at again whose status told of more available pods than there are."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A ReplicaSet to write: `replicaset` as it should be, `before` and `after` its sizes."""

    replicaset: Obj
    before: int
    after: int


@dataclass(slots=True)
class Plan:
    """Applied in the order of its fields. `status` is the whole new status. `revision` is for the Deployment's
    annotation, "" when that is right already. `after` is when to look again without a change, in seconds. `rewritten`
    is the whole Deployment after a rollback that its annotation asked for, then it is all there is to write. `told` are
    events as (type, reason, message)."""

    rewritten: Obj | None = None
    told: list[tuple[str, str, str]] = field(default_factory=list)
    create: Obj | None = None
    update: list[Scaled] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    revision: str = ""
    status: Obj = field(default_factory=dict)
    after: float | None = None


def plan(deployment: Obj, replicasets: Sequence[Obj], pods: Sequence[Obj], now: datetime) -> Plan:
    """`replicasets` are those the Deployment controls, `pods` those they control."""
    limits = sizes.limits_of(deployment)
    if is_terminating(deployment):
        new = revisions.find_new(deployment, replicasets)
        return Plan(status=status.counters(deployment, new, replicasets, limits, now))
    noticed = status.paused_condition(deployment, now)
    if noticed is not None:
        deployment = {**deployment, "status": {**(deployment.get("status") or {}), "conditions": noticed}}
    return _Planner(deployment, replicasets, pods, limits, now).run()


class _Planner:
    """One run over one Deployment; gathers the plan while the sets' wanted state becomes clear."""

    def __init__(
        self, deployment: Obj, replicasets: Sequence[Obj], pods: Sequence[Obj], limits: Limits, now: datetime
    ) -> None:
        self.deployment = deployment
        self.limits = limits
        self.pods = pods
        self.now = now
        self.plan = Plan()
        self.new = revisions.find_new(deployment, replicasets)
        self.old = [rs for rs in replicasets if rs is not self.new]
        self.wanted_annotations: dict[str, dict[str, str]] = {}
        self.sizes: Sizes = {}

    def run(self) -> Plan:
        paused = bool(self.deployment["spec"].get("paused"))
        self._refresh_new()
        if not paused and self.new is not None and revisions.rollback_of(self.deployment) is not None:
            back, event = revisions.rolled_back(self.deployment, [*self.old, self.new])
            return Plan(rewritten=back, told=[event])
        rescaled = not paused and self._was_rescaled()
        if paused or rescaled:
            self._rescale()
        elif (self.deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            self._recreate()
        else:
            self._roll()
        new = self._write_sets()
        # What is only scaled neither progresses nor fails to.
        self._write_status(new, rolling_out=not paused and not rescaled, paused=paused)
        return self.plan

    @cached_property
    def _active(self) -> dict[str, list[Obj]]:
        """Active pods by their set's uid."""
        found: dict[str, list[Obj]] = {}
        for pod in self.pods:
            owner = controller_of(pod)
            if owner is not None and podstate.is_active(pod):
                found.setdefault(owner["uid"], []).append(pod)
        return found

    def _available(self, replicaset: Obj) -> int:
        """A set's available pods as they are now, by its own minReadySeconds: one that was adopted has others than the
        Deployment."""
        wait = replicaset["spec"].get("minReadySeconds") or 0
        active = self._active.get(replicaset["metadata"]["uid"], ())
        return sum(podstate.available_in(pod, wait, self.now) == 0 for pod in active)

    def _member(self, replicaset: Obj) -> Member:
        """A set in numbers. What its status says of pods may be old, when for a while nobody led who would have
        written it: nothing is given up for the sake of pods that are gone."""
        member = revisions.member_of(replicaset)
        there = self._available(replicaset)
        if there >= member.available:
            return member
        self.plan.after = LOOK_AGAIN
        return replace(member, available=there)

    # --- what the sets should be -------------------------------------------------------------------------------------

    def _next_revision(self) -> int:
        return max(map(revisions.revision_of, self.old), default=0) + 1

    def _refresh_new(self) -> None:
        if self.new is None:
            return
        found = revisions.refreshed_annotations(self.deployment, self.new, self._next_revision())
        self.wanted_annotations[uid(self.new)] = found
        self._announce_revision(found)

    def _announce_revision(self, of_set: dict[str, str]) -> None:
        revision = of_set.get(revisions.REVISION, "")
        if revision and annotations(self.deployment).get(revisions.REVISION) != revision:
            self.plan.revision = revision

    def _was_rescaled(self) -> bool:
        """`spec.replicas` is not what the active sets were last scaled for."""
        active = (revisions.member_of(rs) for rs in [*self.old, *([self.new] if self.new else [])])
        return any(m.replicas > 0 and m.desired is not None and m.desired != self.limits.replicas for m in active)

    def _rescale(self) -> None:
        new = revisions.member_of(self.new) if self.new else None
        is_rolling = (self.deployment["spec"].get("strategy") or {}).get("type") != "Recreate"
        old = [revisions.member_of(rs) for rs in self.old]
        there = (self.deployment.get("status") or {}).get("replicas") or 0
        self.sizes = sizes.rescaled(self.limits, new, old, is_rolling=is_rolling, there=there)
        # Those that keep their size are written as well: they must remember the size they were scaled for.
        for rs in [*self.old, *([self.new] if self.new else [])]:
            if rs["spec"].get("replicas"):
                self.sizes.setdefault(uid(rs), rs["spec"]["replicas"])

    def _recreate(self) -> None:
        old = [revisions.member_of(rs) for rs in self.old]
        self.sizes = sizes.to_zero(old)
        if self.sizes or self._old_pods_run():
            return
        if self.new is None:
            self._create(self.limits.replicas)
        elif revisions.member_of(self.new).replicas != self.limits.replicas:
            self.sizes = {uid(self.new): self.limits.replicas}

    def _old_pods_run(self) -> bool:
        mine = uid(self.new) if self.new else ""
        if any(revisions.member_of(rs).actual for rs in self.old):
            return True
        return any(
            not podstate.is_finished(pod)
            and all(ref["uid"] != mine for ref in pod["metadata"].get("ownerReferences") or ())
            for pod in self.pods
        )

    def _roll(self) -> None:
        old = [revisions.member_of(rs) for rs in self.old]
        if self.new is None:
            self._create(sizes.first_size(self.limits, old))
            return
        if not any(member.replicas for member in old):
            self.sizes = sizes.rolling(self.limits, revisions.member_of(self.new), old)
            return
        self.sizes = sizes.rolling(self.limits, self._member(self.new), [self._member(rs) for rs in self.old])

    def _create(self, replicas: int) -> None:
        made = revisions.build_new(self.deployment, replicas, self._next_revision(), self.limits)
        self.plan.create = made
        self._announce_revision(annotations(made))

    # --- what to write -----------------------------------------------------------------------------------------------

    def _write_sets(self) -> Obj | None:
        """Fills in updates and deletions; answers the new set as it will be."""
        new, old = self.new, []
        if new is not None:
            new = self._written(new, is_new=True)
        for replicaset in self.old:
            old.append(self._written(replicaset, is_new=False))
        self.old = old
        return new or self.plan.create

    def _written(self, replicaset: Obj, *, is_new: bool) -> Obj:
        identity = uid(replicaset)
        before = revisions.member_of(replicaset).replicas
        after = self.sizes.get(identity, before)
        found = self.wanted_annotations.get(identity, annotations(replicaset))
        if identity in self.sizes:
            found = {**found, **revisions.size_annotations(self.limits)}
        spec = {**replicaset["spec"], "replicas": after}
        min_ready = self.deployment["spec"].get("minReadySeconds") or 0
        if is_new and (spec.get("minReadySeconds") or 0) != min_ready:
            spec["minReadySeconds"] = min_ready
        if after == before and found == annotations(replicaset) and spec == replicaset["spec"]:
            return replicaset
        wanted = {**replicaset, "metadata": {**replicaset["metadata"], "annotations": dict(found)}, "spec": spec}
        self.plan.update.append(Scaled(wanted, before, after))
        return wanted

    def _write_status(self, new: Obj | None, *, rolling_out: bool, paused: bool) -> None:
        everything = [*self.old, *([new] if new else [])]
        result = status.counters(self.deployment, new, everything, self.limits, self.now)
        if self.plan.create is not None:
            text = f'Created new replica set "{name(self.plan.create)}"'
            result = status.announced(self.deployment, result, status.CREATED, text, self.now)
        elif new is not None and status.progress(self.deployment) is None:
            text = f'Found new replica set "{name(new)}"'
            result = status.announced(self.deployment, result, status.FOUND, text, self.now)
        if rolling_out:
            result = status.with_progress(self.deployment, new, result, self.now)
            result = status.with_failure(result, new, everything, self.now)
            self.plan.after = _sooner(self.plan.after, status.next_look(self.deployment, result, self.now))
        if paused or (rolling_out and status.is_complete(self.deployment, result)):
            # What a set that is scaled to zero just now reports of its pods is older than that.
            written = {uid(scaled.replicaset) for scaled in self.plan.update}
            surplus = revisions.surplus(self.deployment, self.old)
            self.plan.delete = [rs for rs in surplus if uid(rs) not in written]
        self.plan.status = result


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)
