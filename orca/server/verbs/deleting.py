"""delete and deletecollection: preconditions, grace, finalizers, propagation.

Two ways: the object goes at once, or it is marked (``deletionTimestamp``) and goes when its grace period was ended by
its node or its last finalizer was removed. Reference: k8s.io/apiserver ``registry/generic/registry/store.go`` and
``registry/rest/delete.go``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from orca.api import strategy
from orca.api.builtin import (
    CSIDRIVERS,
    CSINODES,
    JOBS,
    NAMESPACES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PODTEMPLATES,
    RESOURCEQUOTAS,
    SERVICEACCOUNTS,
    SERVICES,
    STORAGECLASSES,
    VOLUMEATTACHMENTS,
)
from orca.api.errors import ApiError, conflict, is_conflict, is_not_found
from orca.api.objects import Obj, ensure_meta, finalizers, meta
from orca.api.podphase import is_finished
from orca.api.resources import Resource
from orca.api.times import format_time, parse_time
from orca.server.options import DeleteOptions
from orca.server.responses import success_status
from orca.server.verbs.core import Call, Core, copy_entry, unstored
from orca.store import Entry

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
LONGEST_GRACE = 1 << 31
"""Seconds. What is longer ends at no time that could be written, and nobody lives to see it."""
_ATTEMPTS = 64
_JOB_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
    "set propagationPolicy=Orphan to suppress this warning"
)
_RETURN_OBJECT = frozenset(
    {
        PODS,
        PODTEMPLATES,
        RESOURCEQUOTAS,
        PERSISTENTVOLUMES,
        PERSISTENTVOLUMECLAIMS,
        SERVICEACCOUNTS,
        SERVICES,
        STORAGECLASSES,
        CSINODES,
        CSIDRIVERS,
        VOLUMEATTACHMENTS,
    }
)
"""Kinds whose completed deletion answers the object instead of a Status (upstream: ReturnDeletedObject)."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion answers: the object, or a Status. ``gone`` tells whether it is out of the store."""

    entry: Entry | None
    status: Obj | None
    gone: bool


async def delete(
    core: Core,
    call: Call,
    resource: Resource,
    space: str,
    object_name: str,
    options: DeleteOptions,
    *,
    admitted: bool = False,
) -> Deleted:
    """Delete one object or mark it; ``admitted`` when admission has had its say.

    Raises ApiError 404, 409 when a precondition fails.
    """
    if resource is JOBS and not options.propagation and options.orphan_dependents is None:
        call.options.warnings.append(_JOB_ORPHANS)
    judged = -1
    for _ in range(_ATTEMPTS):
        current = await core.read(resource, space, object_name)
        check(resource, object_name, current.obj, options)
        if not admitted and judged != current.revision:  # whoever was faster may have changed what admission is about
            attributes = core.attributes(
                call, "DELETE", resource, space, object_name, None, current.obj, options=options.to_api()
            )
            await core.admission.admit(attributes)
            await core.admission.validate(attributes)
            judged = current.revision
        waiting = marked(core, resource, copy_entry(current), options)
        try:
            if waiting is None:
                return await _remove(core, resource, current, dry_run=call.dry_run or options.dry_run)
            if waiting == current.obj:
                return Deleted(current, None, False)
            if call.dry_run or options.dry_run:
                return Deleted(unstored(waiting, current.revision), None, False)
            return Deleted(await core.replace(resource, current, waiting), None, False)
        except ApiError as error:
            if not is_conflict(error):
                raise
    raise conflict(resource, object_name)


def check(resource: Resource, object_name: str, obj: Obj, options: DeleteOptions) -> None:
    """Whether a deletion is about this very object. Raises ApiError 409."""
    fields = meta(obj)
    if options.uid and options.uid != fields["uid"]:
        why = f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {fields['uid']}"
        raise conflict(resource, object_name, why)
    if options.resource_version and options.resource_version != fields["resourceVersion"]:
        why = (
            f"Precondition failed: ResourceVersion in precondition: {options.resource_version}, "
            f"ResourceVersion in object meta: {fields['resourceVersion']}"
        )
        raise conflict(resource, object_name, why)


async def _remove(core: Core, resource: Resource, current: Entry, *, dry_run: bool) -> Deleted:
    gone = current if dry_run else await core.remove(resource, current)
    if resource in _RETURN_OBJECT or resource.custom:
        return Deleted(gone, None, True)
    details: Obj = {"name": current.name}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    details["uid"] = meta(current.obj)["uid"]
    return Deleted(None, success_status(details), True)


def marked(core: Core, resource: Resource, new: Obj, options: DeleteOptions) -> Obj | None:
    """``new``, which is ours, as it waits for its end, or None when nothing keeps it."""
    fields = ensure_meta(new)
    prepare = strategy.of(resource).prepare_delete
    if prepare is not None and "deletionTimestamp" not in fields:
        prepare(new, format_time(core.clock.now()))
    wanted = _propagation_finalizers(resource, finalizers(new), options)
    if wanted != finalizers(new):
        fields["finalizers"] = wanted
    if resource is NAMESPACES:
        return _marked_namespace(core, new)
    grace = _grace(resource, new, options)
    if grace is None:  # a kind without grace: only finalizers keep it
        if not wanted:
            return None
        return _mark(core, new, 0)
    if "deletionTimestamp" not in fields:
        return None if grace == 0 and not wanted else _mark(core, new, grace)
    pending = fields.get("deletionGracePeriodSeconds")
    if pending is None or (options.grace_seconds is not None and grace < pending):
        if grace == 0 and not wanted:
            return None
        started = parse_time(fields["deletionTimestamp"]) - timedelta(seconds=pending or 0)
        fields["deletionTimestamp"] = format_time(started + timedelta(seconds=grace))
        fields["deletionGracePeriodSeconds"] = grace
    elif pending == 0 and not wanted:
        return None
    return new


def _grace(resource: Resource, obj: Obj, options: DeleteOptions) -> int | None:
    """Seconds this deletion leaves the object; None for kinds that know no grace."""
    default = strategy.graceful(resource, obj)
    if default is None:
        return None
    if resource is PODS and (not (obj.get("spec") or {}).get("nodeName") or is_finished(obj)):
        return 0  # nothing runs, nobody would end the grace period
    if options.grace_seconds is not None:
        return min(options.grace_seconds, LONGEST_GRACE) if options.grace_seconds >= 0 else 1
    return min(default, LONGEST_GRACE)


def _mark(core: Core, obj: Obj, grace: int) -> Obj:
    fields = ensure_meta(obj)
    if "deletionTimestamp" not in fields:
        fields["deletionTimestamp"] = format_time(core.clock.now() + timedelta(seconds=grace))
        fields["deletionGracePeriodSeconds"] = grace
        if fields.get("generation"):
            fields["generation"] += 1
    return obj


def _marked_namespace(core: Core, new: Obj) -> Obj | None:
    """A namespace stays until its content is gone: then the controller empties ``spec.finalizers``."""
    fields = ensure_meta(new)
    if "deletionTimestamp" not in fields:
        fields["deletionTimestamp"] = format_time(core.clock.now())
        new.setdefault("status", {})["phase"] = "Terminating"
        return new
    if (new.get("spec") or {}).get("finalizers") or finalizers(new):
        return new
    return None


def _propagation_finalizers(resource: Resource, present: list[str], options: DeleteOptions) -> list[str]:
    """``present`` with the garbage collector's finalizers as this deletion wants them."""
    unsaid = strategy.dependents(resource)
    if unsaid == "ignore":
        orphan, foreground = False, False
    elif options.orphan_dependents is not None:
        orphan, foreground = options.orphan_dependents, False
    elif options.propagation:
        orphan, foreground = options.propagation == "Orphan", options.propagation == "Foreground"
    else:
        orphan, foreground = ORPHAN in present, FOREGROUND in present
        orphan = orphan or (unsaid == "orphan" and not foreground)
    wanted = [one for one in present if one not in (ORPHAN, FOREGROUND)]
    if orphan:
        wanted.append(ORPHAN)
    if foreground:
        wanted.append(FOREGROUND)
    # Order carries no meaning; without a change nothing is written.
    return present if set(wanted) == set(present) else wanted


async def delete_entries(
    core: Core, call: Call, resource: Resource, entries: list[Entry], options: DeleteOptions
) -> list[Entry]:
    """Delete many; what is gone already is no error. Answers the objects as they were."""
    for entry in entries:
        if call.lane is not None:
            await call.lane.turn()
        try:
            await delete(core, call, resource, entry.namespace, entry.name, options)
        except ApiError as error:
            if not is_not_found(error):
                raise
    return entries
