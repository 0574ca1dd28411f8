"""update and patch: from what is stored and what is wanted to a new stored object.

One loop serves both. It reads the newest object, lets the caller make a candidate from it, runs admission and
validation and writes on the condition that nobody wrote in between; if somebody did, it starts over, unless the
client pinned a resourceVersion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from orca.admission import Attributes
from orca.api import strategy
from orca.api.builtin import NAMESPACES, SERVICES
from orca.api.errors import ApiError, FieldError, bad_request, conflict, invalid, is_conflict, is_not_found
from orca.api.fields import revert_times
from orca.api.objects import Obj, ensure_meta, finalizers, meta, thaw
from orca.api.resources import Resource
from orca.api.warnings import on_write
from orca.server.verbs import ownership
from orca.server.verbs.core import Call, Core, unstored, version_of
from orca.server.verbs.creating import create, settle_identity
from orca.server.verbs.judging import judged
from orca.server.verbs.serving import View
from orca.store import Entry

MakeCandidate = Callable[[Entry], Obj]
"""(current) -> a mutable candidate of our own; called again after every lost race."""

_ATTEMPTS = 64
_ALWAYS_PINNED = frozenset(
    {
        "leases.coordination.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "apiservices.apiregistration.k8s.io",
        "poddisruptionbudgets.policy",
        "runtimeclasses.node.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    }
)
"""Kinds whose full update must name the version it replaces (upstream: AllowUnconditionalUpdate is false)."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A subresource whose body is a kind of its own (Scale): what admission sees instead of the object."""

    subresource: str
    of: Callable[[Obj], Obj]  # the body that stands for an object
    merged: Callable[[Obj, Obj], Obj]  # (object, ours; body) -> the object with what the body says


@dataclass(frozen=True, slots=True)
class Written:
    """An update's result; ``created`` when the kind allows a PUT to create."""

    entry: Entry
    created: bool = False


async def update(
    core: Core, call: Call, resource: Resource, space: str, object_name: str, body: Obj, *, subresource: str = ""
) -> Written:
    """Replace an object, or its ``subresource`` part, by ``body``.

    Raises ApiError 400, 404, 409 Conflict, 422.
    """
    if not call.trusted:
        check_identity(resource, body, space, object_name)
    settle_identity(resource, body, space, object_name)
    ownership.single_owners(call, body)
    version = version_of(body)

    def candidate(_: Entry) -> Obj:
        return body if version else thaw(body)

    try:
        if not version and not subresource and _needs_version(resource) and not call.trusted:
            await core.read(resource, space, object_name)
            problem = FieldError.invalid("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(resource, object_name, [problem])
        return Written(await modify(core, call, resource, space, object_name, candidate, subresource=subresource))
    except ApiError as error:
        if not is_not_found(error) or subresource or not strategy.allow_create_on_update(resource):
            raise
        if version or meta(body).get("uid"):
            raise
        if call.authorize_create is not None:
            await call.authorize_create()
        return Written(await create(core, call, resource, space, body), created=True)


def check_identity(resource: Resource, body: Obj, space: str, object_name: str) -> None:
    """Raises ApiError 400 for a body without a name, or of another name or namespace than the path's."""
    fields = meta(body)
    if not fields.get("name"):
        why = f"the name of the object ({object_name} based on URL) was undeterminable: name must be provided"
        raise bad_request(why)
    if fields["name"] != object_name:
        text = f"the name of the object ({fields['name']}) does not match the name on the URL ({object_name})"
        raise bad_request(text)
    said = fields.get("namespace")
    if said and said != space and resource.namespaced:
        raise bad_request(f"the namespace of the object ({said}) does not match the namespace on the request ({space})")


def _needs_version(resource: Resource) -> bool:
    return resource.custom or resource.group_resource in _ALWAYS_PINNED


class _LostRace(Exception):
    """Somebody wrote between our read and our write."""


async def modify(
    core: Core,
    call: Call,
    resource: Resource,
    space: str,
    object_name: str,
    candidate: MakeCandidate,
    *,
    subresource: str = "",
    projection: Projection | None = None,
    applied: bool = False,
) -> Entry:
    """The loop behind update and patch; see the module's docstring.

    Candidates that are ``applied`` have their managedFields already.
    A candidate that names another resourceVersion than the current one is a conflict; so a client that pinned one
    gets its conflict at the latest when the loop starts over.
    """
    for attempt in range(_ATTEMPTS):
        current = await core.read(resource, space, object_name)
        call.concerns(current.size)
        await call.between()
        new = candidate(current)
        fields, before = ensure_meta(new), meta(current.obj)
        if fields.get("uid") and fields["uid"] != before["uid"]:
            why = f"Precondition failed: UID in precondition: {fields['uid']}, UID in object meta: {before['uid']}"
            raise conflict(resource, object_name, why)
        if version_of(new) and version_of(new) != before["resourceVersion"]:
            raise conflict(resource, object_name)
        fields["resourceVersion"] = before["resourceVersion"]
        try:
            return await _modify_once(core, call, resource, current, new, subresource, projection, applied)
        except _LostRace:
            # Give the winner's event time to arrive, then spread out.
            await asyncio.sleep(0.001 * min(attempt, 10))
    raise conflict(resource, object_name)


async def _modify_once(
    core: Core,
    call: Call,
    resource: Resource,
    current: Entry,
    new: Obj,
    subresource: str,
    projection: Projection | None,
    applied: bool,
) -> Entry:
    old = current.obj
    await call.between()
    settle_identity(resource, new, current.namespace, current.name)
    strategy.apply_defaults(resource, new)
    seen, seen_old, door = new, old, subresource
    if projection is not None:
        seen, seen_old, door = projection.of(new), projection.of(old), projection.subresource
    if not applied:
        ownership.single_owners(call, new, admitted=True)
        ownership.updated(core, call, resource, new, old, door)
    attributes = core.attributes(
        call, "UPDATE", resource, current.namespace, current.name, seen, seen_old, subresource=door
    )
    await core.admission.admit(attributes)
    assert attributes.obj is not None
    if projection is None:
        ownership.guard(call, new, attributes.obj)
    new = attributes.obj if projection is None else projection.merged(new, attributes.obj)
    settle_identity(resource, new, current.namespace)
    ownership.single_owners(call, new, admitted=True)
    # After admission, which may not change through one door what belongs to the other (spec, status) either.
    strategy.prepare_update(resource, new, old, subresource)
    if resource is SERVICES and not subresource:
        with core.services.assigned(new, old):
            return await _finish(core, call, resource, current, new, subresource, attributes, applied)
    return await _finish(core, call, resource, current, new, subresource, attributes, applied)


async def _finish(
    core: Core,
    call: Call,
    resource: Resource,
    current: Entry,
    new: Obj,
    subresource: str,
    attributes: Attributes,
    applied: bool,
) -> Entry:
    old = current.obj
    await call.between()
    problems = await judged(resource, lambda: strategy.validate_update(resource, new, old, subresource))
    if problems:
        raise invalid(resource, current.name, problems)
    if not subresource and not call.trusted:
        call.options.warnings.extend(on_write(resource, new, old))
    await core.admission.validate(attributes)
    outdated = isinstance(current, View) and current.outdated(resource)
    if revert_times(new, old) and not outdated and (call.dry_run or not await core.store.stale(resource, current)):
        return current
    try:
        if _last_finalizer_left(resource, new):
            if not call.dry_run:
                await core.remove(resource, current)
            return unstored(new, current.revision)  # clients expect what they sent
        if call.dry_run:
            return unstored(new, current.revision)
        stored = await core.admission.guard(
            attributes, lambda also: core.replace(resource, current, new, also, applied=applied)
        )
        if (heard := core.written.get(resource.group_resource)) is not None:
            heard(old, stored.obj)
        return stored
    except ApiError as error:
        if is_conflict(error):
            raise _LostRace from error
        raise


def _last_finalizer_left(resource: Resource, new: Obj) -> bool:
    """Whether this update completes a deletion that was waiting for finalizers only."""
    fields = meta(new)
    if not fields.get("deletionTimestamp") or fields.get("deletionGracePeriodSeconds") or finalizers(new):
        return False
    return not (resource is NAMESPACES and (new.get("spec") or {}).get("finalizers"))
