"""What can be done to a pod besides writing it: bind it to a node, evict it.

Reference: k8s.io/kubernetes ``pkg/registry/core/pod/storage``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orca.api.builtin import PODDISRUPTIONBUDGETS, PODS
from orca.api.errors import (
    ApiError,
    FieldError,
    bad_request,
    conflict,
    forbidden,
    internal,
    invalid_kind,
    is_conflict,
)
from orca.api.objects import Obj, labels, meta, name, thaw
from orca.api.selectors import from_label_selector
from orca.api.times import format_time
from orca.server.options import DeleteOptions
from orca.server.verbs.core import Call, Core
from orca.server.verbs.deleting import delete
from orca.server.verbs.telling import told
from orca.store import Also, Entry

_SUCCESS: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
_ATTEMPTS = 16
_MOST_DISRUPTED = 2000
"""Evictions that the budget's controller may be behind with."""


async def bind(core: Core, call: Call, space: str, pod_name: str, body: Obj) -> Obj:
    """Give the pod to ``target.name``. Raises ApiError 404, 409 when it has a node or is going, 422."""
    await bind_telling(core, call, space, pod_name, body, None)
    return _SUCCESS


async def bind_telling(core: Core, call: Call, space: str, pod_name: str, body: Obj, event: Obj | None) -> bool:
    """As :func:`bind`; an ``event`` that tells of it, which becomes ours, is written in the same transaction if that
    can be done at once. Answers whether it was."""
    target = body.get("target") or {}
    node = target.get("name") or ""
    problems: list[FieldError] = []
    if target.get("kind") not in ("", None, "Node"):
        problems.append(FieldError.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not node:
        problems.append(FieldError.required("target.name"))
    if problems:
        raise invalid_kind("", "Binding", pod_name, problems)
    attributes = core.attributes(call, "CREATE", PODS, space, pod_name, body, None, subresource="binding")
    await core.admission.admit(attributes)
    await core.admission.validate(attributes)
    admitted = attributes.obj or body
    node = (admitted.get("target") or {}).get("name") or ""
    wanted_uid = meta(admitted).get("uid")

    def change(pod: Obj) -> Obj:
        return _bound(core, pod, pod_name, node, wanted_uid, meta(admitted))

    if call.dry_run:
        change((await core.read(PODS, space, pod_name)).obj)
        return False

    async def write(also: Sequence[Also]) -> None:
        await core.store.update(PODS, space, pod_name, change, also=also)

    if event is not None and await told(core, call, space, event, write):
        return True
    await write(())
    return False


def _bound(core: Core, pod: Obj, pod_name: str, node: str, wanted_uid: str | None, binding: Obj) -> Obj:
    """``pod`` on its node, with the labels and annotations of the ``binding``'s metadata."""
    fields, spec = meta(pod), pod["spec"]
    if wanted_uid and wanted_uid != fields["uid"]:
        why = f"Precondition failed: UID in precondition: {wanted_uid}, UID in object meta: {fields['uid']}"
        raise conflict(PODS, pod_name, why)
    if fields.get("deletionTimestamp"):
        raise conflict(PODS, pod_name, f"pod {pod_name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise conflict(PODS, pod_name, f'pod {pod_name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise conflict(PODS, pod_name, f"pod {pod_name} has non-empty .spec.schedulingGates")
    status = pod.get("status") or {}
    conditions = [one for one in status.get("conditions") or () if one.get("type") != "PodScheduled"]
    scheduled: Obj = {"type": "PodScheduled", "status": "True", "lastProbeTime": None}
    scheduled["lastTransitionTime"] = format_time(core.clock.now())
    if fields.get("generation"):
        scheduled["observedGeneration"] = fields["generation"]
    new = {
        **pod,
        "spec": {**spec, "nodeName": node},
        "status": {**status, "conditions": [*conditions, scheduled]},
    }
    new["status"].pop("nominatedNodeName", None)  # it has come where it was to come, or elsewhere
    added = {key: {**(fields.get(key) or {}), **binding[key]} for key in ("labels", "annotations") if binding.get(key)}
    if added:
        new["metadata"] = {**fields, **added}
    return new


async def evict(core: Core, call: Call, space: str, pod_name: str, body: Obj) -> Obj:
    """Delete the pod if its disruption budget allows. Raises ApiError 404, 429 when it does not."""
    said = meta(body).get("name")
    if said and said != pod_name:
        raise bad_request("name in URL does not match name in Eviction object")
    options = DeleteOptions.from_body(body.get("deleteOptions") or {})
    if call.dry_run:
        options.dry_run = True
    # The eviction is what is admitted; the deletion that follows from it is not admitted once more.
    attributes = core.attributes(call, "CREATE", PODS, space, pod_name, body, None, subresource="eviction")
    await core.admission.admit(attributes)
    await core.admission.validate(attributes)
    for _ in range(_ATTEMPTS):
        pod = await core.read(PODS, space, pod_name)
        if not _counts(pod.obj):
            break
        budget = _budget_of(core, pod)
        if budget is None:
            break
        if needs_no_room(pod.obj, budget):
            # Only as it is: should it become ready meanwhile, the budget has its say again.
            unchanged = options if options.resource_version else replace(options, resource_version=str(pod.revision))
            try:
                await _delete(core, call, space, pod_name, unchanged)
            except ApiError as error:
                if not is_conflict(error) or options.resource_version:
                    raise
                continue
            return _SUCCESS
        try:
            await _take_one(core, budget, pod_name, dry_run=options.dry_run)
        except ApiError as error:
            if not is_conflict(error):
                raise
            continue
        break
    else:
        raise conflict(PODS, pod_name)
    await _delete(core, call, space, pod_name, options)
    return _SUCCESS


async def _delete(core: Core, call: Call, space: str, pod_name: str, options: DeleteOptions) -> None:
    """Delete a pod that is evicted; before, its status tells why, which is what failure policies of Jobs go by."""
    if not options.dry_run:

        def condemned(pod: Obj) -> Obj:
            new = thaw(pod)
            conditions = new.setdefault("status", {}).setdefault("conditions", [])
            old: Obj = next((one for one in conditions if one.get("type") == "DisruptionTarget"), {})
            made: Obj = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
                "lastProbeTime": None,
                "lastTransitionTime": format_time(core.clock.now()),
            }
            if old.get("status") == "True" and old.get("lastTransitionTime"):
                made["lastTransitionTime"] = old["lastTransitionTime"]
            if meta(pod).get("generation"):
                made["observedGeneration"] = meta(pod)["generation"]
            new["status"]["conditions"] = [*(one for one in conditions if one is not old), made]
            return new

        told = await core.store.update(
            PODS, space, pod_name, condemned, expected=(options.uid, options.resource_version)
        )
        if options.resource_version:
            options = replace(options, resource_version=str(told.revision))
    await delete(core, call, PODS, space, pod_name, options, admitted=True)


def _counts(pod: Obj) -> bool:
    """Whether removing the pod can disrupt anything."""
    ended = (pod.get("status") or {}).get("phase") in ("Pending", "Succeeded", "Failed")
    return not ended and not meta(pod).get("deletionTimestamp")


def needs_no_room(pod: Obj, budget: Obj) -> bool:
    """Whether ``unhealthyPodEvictionPolicy`` lets a pod go that is not ready, and so counts for nothing."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)


def _budget_of(core: Core, pod: Entry) -> Obj | None:
    found = [
        budget
        for budget in core.store.peek_list(PODDISRUPTIONBUDGETS, pod.namespace)
        if from_label_selector((budget.get("spec") or {}).get("selector")).matches(labels(pod.obj))
    ]
    if len(found) > 1:
        raise internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    return found[0] if found else None


async def _take_one(core: Core, budget: Obj, pod_name: str, *, dry_run: bool) -> None:
    status = budget.get("status") or {}
    if status.get("observedGeneration", 0) < meta(budget).get("generation", 0):
        raise _refused(budget, "The disruption budget is still being processed by the server.", 10)
    if status.get("disruptionsAllowed", 0) < 0:
        raise forbidden(PODDISRUPTIONBUDGETS, name(budget), "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or ()) > _MOST_DISRUPTED:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise forbidden(PODDISRUPTIONBUDGETS, name(budget), why)
    if status.get("disruptionsAllowed", 0) <= 0:
        why = (
            f"The disruption budget {name(budget)} needs {status.get('desiredHealthy', 0)} healthy pods "
            f"and has {status.get('currentHealthy', 0)} currently"
        )
        raise _refused(budget, why, 0)
    if dry_run:
        return
    new = thaw(budget)
    new["status"]["disruptionsAllowed"] -= 1
    new["status"].setdefault("disruptedPods", {})[pod_name] = format_time(core.clock.now())
    expected = (meta(budget)["uid"], meta(budget)["resourceVersion"])
    await core.store.update(
        PODDISRUPTIONBUDGETS, meta(budget)["namespace"], name(budget), lambda _: new, expected=expected
    )


def _refused(budget: Obj, why: str, retry_after: int) -> ApiError:
    details: Obj = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", message, details)
