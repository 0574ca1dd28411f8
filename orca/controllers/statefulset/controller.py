"""Carries out the plan for one StatefulSet, keeps its pods' claims and the history of its templates."""

import asyncio
from collections.abc import Awaitable, Sequence

from orca.api.builtin import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from orca.api.errors import ApiError, is_already_exists, is_not_found
from orca.api.objects import Obj, is_terminating, key, labels, name
from orca.api.selectors import Selector, from_label_selector
from orca.controllers import podstate
from orca.controllers.claims import claim
from orca.controllers.harness import (
    DONE,
    Coalescer,
    Context,
    Controller,
    Outcome,
    RetryAfter,
    gather_all,
    raise_first,
    slow_start,
)
from orca.controllers.podcontrol import namespace_is_terminating
from orca.controllers.podevents import follow_pods
from orca.controllers.revisionhistory import RevisionHistory
from orca.controllers.statefulset import history as histories
from orca.controllers.statefulset import storage
from orca.controllers.statefulset.identity import (
    identity_labels,
    make_pod,
    ordinal_of,
    ordinals,
    revision_of,
)
from orca.controllers.statefulset.plan import Revisions, new_status, next_look, plan

CLAIM_WAIT = 1.0
"""Seconds until a claim that is on its way out is looked at again; its removal alone wakes nobody."""


class StatefulSetController(Controller):
    """Looks at a StatefulSet when it or one of its pods changes."""

    name = "statefulset-controller"
    resource = STATEFULSETS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = self.caches.of(STATEFULSETS)
        self._pods = self.caches.of(PODS)
        self._claims = self.caches.of(PERSISTENTVOLUMECLAIMS)
        self._revisions = self.caches.of(CONTROLLERREVISIONS)
        self._history = RevisionHistory(self._sets, self._revisions, {"replicas": 0})
        self._soon = Coalescer(self.queue, self.clock, 0.03)
        self._sets.informer.on_add(self.enqueue)
        self._sets.informer.on_update(lambda _, new: self.enqueue(new))
        self._sets.informer.on_delete(lambda gone: self.queue.forget(key(gone)))
        follow_pods(self._pods, self._sets, kind=STATEFULSETS.kind, selector=_selector, wake=self._soon.add)

    async def sync(self, key: str) -> Outcome:
        """One StatefulSet."""
        statefulset = self._sets.get(key)
        if statefulset is None:
            return DONE
        selector = _selector(statefulset)
        history = await claim(self._sets, statefulset, self._revisions, selector)
        owned = await claim(
            self._sets, statefulset, self._pods, selector, lambda pod: ordinal_of(statefulset, name(pod)) is not None
        )
        pods = [pod for pod in owned if ordinal_of(statefulset, name(pod)) is not None]
        if is_terminating(statefulset):
            await self._write_counts(statefulset, pods)
            return DONE
        wanted, changed = histories.update_revision(statefulset, history)
        update = await self._history.keep(statefulset, wanted, changed=changed)
        if update is None:
            return RetryAfter()
        current = histories.current_revision(statefulset, history, update)
        revisions = Revisions(name(current), name(update))
        now = self.clock.now()
        todo = plan(statefulset, pods, revisions, now)
        # A pod or claim that vanished meanwhile is no failure of the others.
        errors = [
            error for error in await gather_all(self._tend(statefulset, pod) for pod in pods) if not is_not_found(error)
        ]
        errors += await self._delete(statefulset, todo.delete)
        templates = {name(found): histories.template_of(found) for found in (current, update)}
        waiting, failed = await self._create(statefulset, todo.create, templates)
        errors += failed
        await self._write_status(statefulset, new_status(statefulset, pods, revisions, now))
        raise_first([error for error in errors if not namespace_is_terminating(error)])
        live = {revisions.current, revisions.update, *map(revision_of, pods)}
        limit = statefulset["spec"].get("revisionHistoryLimit", 10)
        await self._history.delete(histories.surplus(history, live, limit))
        if waiting:
            return RetryAfter(CLAIM_WAIT)
        if todo.create or todo.delete:
            self._soon.add(key)
        wait = next_look(statefulset, pods, now)
        return DONE if wait is None else RetryAfter(wait)

    async def _write_counts(self, statefulset: Obj, pods: Sequence[Obj]) -> None:
        """Of a set on its way out, whose revisions are as they were when it was last looked after."""
        old = statefulset.get("status") or {}
        revisions = Revisions(old.get("currentRevision", ""), old.get("updateRevision", ""))
        if revisions.update:
            await self._write_status(statefulset, new_status(statefulset, pods, revisions, self.clock.now()))

    async def _write_status(self, statefulset: Obj, status: Obj) -> None:
        if status != statefulset.get("status"):
            await self._sets.update_status(statefulset, status)

    # --- pods --------------------------------------------------------------------------------------------------------

    async def _create(
        self, statefulset: Obj, wanted: Sequence[tuple[int, str]], templates: dict[str, Obj]
    ) -> tuple[bool, list[BaseException]]:
        """Answers whether some have to wait for claims, and the errors."""
        remaining = iter(wanted)
        waiting: list[int] = []

        async def create() -> None:
            ordinal, revision = next(remaining)
            pod = make_pod(statefulset, templates[revision], ordinal, revision)
            try:
                present = await self._make_claims(statefulset, name(pod), ordinal)
            except ApiError as error:
                if not namespace_is_terminating(error):
                    self._tell(statefulset, "create", name(pod), str(error))
                raise
            if any(storage.is_stale(one, name(pod)) for one in present):
                waiting.append(ordinal)
                return
            if why := storage.leaving(present):
                self._tell(statefulset, "create", name(pod), why)
                waiting.append(ordinal)
                return
            try:
                await self._pods.create(pod)
            except ApiError as error:
                if not namespace_is_terminating(error) and not is_already_exists(error):
                    self._tell(statefulset, "create", name(pod), str(error))
                raise
            self._tell(statefulset, "create", name(pod))

        _, errors = await slow_start(len(wanted), create)
        return bool(waiting), errors

    async def _delete(self, statefulset: Obj, pods: Sequence[Obj]) -> list[BaseException]:
        async def delete(pod: Obj) -> None:
            if ordinal_of(statefulset, name(pod)) not in ordinals(statefulset):
                # Once more: without its claims handed over it must not go.
                await self._hand_over_claims(statefulset, pod)
            try:
                await self._pods.delete(pod)
            except ApiError as error:
                self._tell(statefulset, "delete", name(pod), str(error))
                raise
            self._tell(statefulset, "delete", name(pod))

        return await gather_all(delete(pod) for pod in pods)

    async def _tend(self, statefulset: Obj, pod: Obj) -> None:
        """Gives a pod back the labels of its identity, and claims that are missing."""
        ordinal = ordinal_of(statefulset, name(pod))
        assert ordinal is not None
        if ordinal not in ordinals(statefulset):
            # Also when somebody else deleted it: its claims go with it when the set says so.
            await self._hand_over_claims(statefulset, pod)
            return
        if is_terminating(pod):
            return
        wanted = identity_labels(statefulset, ordinal)
        if not wanted.items() <= labels(pod).items():
            await self._pods.patch(pod, {"metadata": {"labels": wanted}})
            self._tell(statefulset, "update", name(pod))
        if podstate.phase(pod) == "Pending":
            await self._make_claims(statefulset, name(pod), ordinal)
        await self._hand_over_claims(statefulset, pod)

    def _tell(self, statefulset: Obj, verb: str, pod_name: str, error: str = "") -> None:
        text = f"{verb} Pod {pod_name} in StatefulSet {name(statefulset)}"
        if not error:
            self.recorder.event(statefulset, "Normal", f"Successful{verb.title()}", f"{text} successful")
        else:
            self.recorder.event(statefulset, "Warning", f"Failed{verb.title()}", f"{text} failed error: {error}")

    # --- claims ------------------------------------------------------------------------------------------------------

    async def _make_claims(self, statefulset: Obj, pod_name: str, ordinal: int) -> list[Obj]:
        """The claims of one ordinal, created where they are missing."""
        found = []
        for wanted in storage.claims_of(statefulset, ordinal):
            present = self._claims.get(key(wanted))
            found.append(present or await self._make_claim(statefulset, pod_name, wanted))
        return found

    async def _make_claim(self, statefulset: Obj, pod_name: str, wanted: Obj) -> Obj:
        subject = f"Claim {name(wanted)}"
        try:
            made = await self._claims.create(wanted)
        except ApiError as error:
            if is_already_exists(error):
                return await self._claims.fetch(wanted)
            if not namespace_is_terminating(error):
                text = f"create {subject} for Pod {pod_name} in StatefulSet {name(statefulset)} failed error: {error}"
                self.recorder.event(statefulset, "Warning", "FailedCreate", text)
            raise
        text = f"create {subject} Pod {pod_name} in StatefulSet {name(statefulset)} success"
        self.recorder.event(statefulset, "Normal", "SuccessfulCreate", text)
        return made

    async def _hand_over_claims(self, statefulset: Obj, pod: Obj) -> None:
        """Makes the owners of a pod's claims what the retention policy says."""
        ordinal = ordinal_of(statefulset, name(pod))
        assert ordinal is not None
        condemned = ordinal not in ordinals(statefulset)
        work: list[Awaitable[Obj]] = []
        for wanted in storage.claims_of(statefulset, ordinal):
            present = self._claims.get(key(wanted))
            if present is None or is_terminating(present):
                continue
            references = storage.owners(statefulset, present, pod, condemned=condemned)
            if references is not None:
                change = {
                    "ownerReferences": references or None,
                    "resourceVersion": present["metadata"]["resourceVersion"],
                }
                work.append(self._claims.patch(present, {"metadata": change}))
        if work:
            await asyncio.gather(*work)


def _selector(statefulset: Obj) -> Selector:
    return from_label_selector(statefulset["spec"].get("selector") or {})
