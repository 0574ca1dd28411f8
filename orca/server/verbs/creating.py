"""create: from a checked body to a stored object.

Order as upstream: defaults, mutating admission, system metadata, validation, validating admission, write.
"""

from __future__ import annotations

import asyncio
import secrets

from orca.admission import Attributes
from orca.api import strategy
from orca.api.builtin import CERTIFICATESIGNINGREQUESTS, SERVICES
from orca.api.errors import (
    ApiError,
    already_exists,
    bad_request,
    invalid,
    is_already_exists,
    is_not_found,
    no_name_generated,
)
from orca.api.objects import Obj, ensure_meta, meta, name, namespace, thaw
from orca.api.resources import Resource
from orca.api.warnings import on_write
from orca.auth import UserInfo
from orca.server.identifiers import new_uid
from orca.server.verbs import ownership
from orca.server.verbs.core import Call, Core, unstored, version_of
from orca.server.verbs.judging import judged
from orca.store import Entry, Raced

# Upstream's alphabet for generated names: no vowels and no look-alikes.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = 5
_GENERATED_MAX = 63
_NAME_ATTEMPTS = 8
_SERVICE_ATTEMPTS = 64


def generated_name(stem: str) -> str:
    """``stem`` with a random suffix, cut so that the whole still is a label."""
    suffix = "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX))
    return stem[: _GENERATED_MAX - _SUFFIX] + suffix


def settle_identity(resource: Resource, obj: Obj, space: str, object_name: str = "") -> None:
    """Make body and path agree on namespace and name, in place. Raises ApiError 400 when they contradict."""
    fields = ensure_meta(obj)
    if resource.namespaced:
        said = fields.get("namespace")
        if not said:
            fields["namespace"] = space
        elif said != space:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    elif "namespace" in fields:  # as upstream: such objects are in none, whatever they say
        del fields["namespace"]
    if object_name:
        said = fields.get("name")
        if not said:
            fields["name"] = object_name
        elif said != object_name:
            raise bad_request(f"the name of the object ({said}) does not match the name on the URL ({object_name})")


async def create(core: Core, call: Call, resource: Resource, space: str, obj: Obj, *, applied: bool = False) -> Entry:
    """Create ``obj``, which becomes ours; ``applied`` tells that it has its managedFields already.

    Raises ApiError 400, 403, 409 AlreadyExists, 422.
    """
    if version_of(obj):
        raise bad_request("resourceVersion should not be set on objects to be created")
    refuse = strategy.of(resource).refuse_create
    if refuse is not None:
        refuse()
    await call.between()
    settle_identity(resource, obj, space)
    strategy.apply_defaults(resource, obj)
    if not applied:
        ownership.single_owners(call, obj)
        ownership.created(core, call, resource, obj)
    fields = ensure_meta(obj)
    for attempt in range(_NAME_ATTEMPTS):
        stem = fields.get("generateName") or ""
        generated = bool(stem) and not fields.get("name")
        try:
            return await _create_once(core, call, resource, space, obj, generated, applied)
        except ApiError as error:
            if not generated or not is_already_exists(error):
                raise
            if attempt == _NAME_ATTEMPTS - 1:
                raise no_name_generated(resource, (error.details or {}).get("name") or stem) from error
            fields.pop("name", None)
    raise AssertionError("unreachable")


async def composed(core: Core, call: Call, resource: Resource, space: str, obj: Obj) -> Attributes:
    """``obj``, which has a name, is valid and becomes ours, as it may be written: completed and admitted. For our own
    components, which write it together with something else, within :meth:`Chain.guard`. Raises ApiError 400, 403."""
    settle_identity(resource, obj, space)
    strategy.apply_defaults(resource, obj)
    ownership.created(core, call, resource, obj)
    attributes = await _completed(core, call, resource, space, obj, generated=False)
    await core.admission.validate(attributes)
    return attributes


async def _create_once(
    core: Core, call: Call, resource: Resource, space: str, obj: Obj, generated: bool, applied: bool
) -> Entry:
    attributes = await _completed(core, call, resource, space, obj, generated)
    assert attributes.obj is not None
    if resource is SERVICES:
        return await _create_service(core, call, attributes.obj, attributes, applied)
    return await _finish(core, call, resource, attributes.obj, attributes, applied)


async def _completed(core: Core, call: Call, resource: Resource, space: str, obj: Obj, generated: bool) -> Attributes:
    """After the mutating pass of admission and with all that the system itself sets."""
    fields = ensure_meta(obj)
    attributes = core.attributes(call, "CREATE", resource, space, fields.get("name") or "", obj, None)
    await core.admission.admit(attributes)
    assert attributes.obj is not None
    ownership.guard(call, obj, attributes.obj)
    obj = attributes.obj
    settle_identity(resource, obj, space)  # whatever hooks made of it, it is written where the request was sent
    ownership.single_owners(call, obj, admitted=True)
    fields = ensure_meta(obj)
    if generated and not fields.get("name"):
        fields["name"] = generated_name(fields.get("generateName") or "")
    attributes.name = fields.get("name") or ""
    # After admission, so that what is derived (quality of service, generated labels) follows what it changed.
    strategy.prepare_create(resource, obj)
    fields = ensure_meta(obj)
    fields.setdefault("uid", new_uid())
    fields["creationTimestamp"] = ownership.stamp(core)
    if resource is CERTIFICATESIGNINGREQUESTS:
        _stamp_requester(obj, attributes.user)
    attributes.obj = obj
    return attributes


async def _create_service(core: Core, call: Call, wanted: Obj, attributes: Attributes, applied: bool) -> Entry:
    """Another server may have handed out the same address or port: then others are chosen, or what was asked for by
    name is refused. What one has given back is free everywhere."""
    await core.store.fresh()
    for attempt in range(_SERVICE_ATTEMPTS):
        obj = attributes.obj = thaw(wanted)
        try:
            with core.services.assigned(obj, None):
                return await _finish(core, call, SERVICES, obj, attributes, applied)
        except Raced as error:
            raced = error
            await asyncio.sleep(0.001 * min(attempt, 10))
            await core.store.fresh()
    raise raced


def _stamp_requester(obj: Obj, user: UserInfo) -> None:
    """Who asks for a certificate is who sent the request, whatever it says."""
    spec = obj.setdefault("spec", {})
    for field, value in (("username", user.name), ("uid", user.uid), ("groups", list(user.groups))):
        if value:
            spec[field] = value
        else:
            spec.pop(field, None)
    spec.pop("extra", None)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}


async def _judge(core: Core, call: Call, resource: Resource, obj: Obj, attributes: Attributes) -> None:
    """Validation and the validating pass of admission. Raises ApiError."""
    await call.between()
    problems = await judged(resource, lambda: strategy.validate_create(resource, obj))
    if problems:
        raise invalid(resource, meta(obj).get("name") or "", problems)
    if not call.trusted:
        call.options.warnings.extend(on_write(resource, obj, None))
    await core.admission.validate(attributes)


async def _finish(core: Core, call: Call, resource: Resource, obj: Obj, attributes: Attributes, applied: bool) -> Entry:
    await _judge(core, call, resource, obj, attributes)
    if call.dry_run:
        await _must_be_absent(core, resource, obj)
        return unstored(obj)
    return await core.admission.guard(attributes, lambda also: core.write_new(resource, obj, also, applied=applied))


async def _must_be_absent(core: Core, resource: Resource, obj: Obj) -> None:
    try:
        await core.read(resource, namespace(obj), name(obj))
    except ApiError as error:
        if is_not_found(error):
            return
        raise
    raise already_exists(resource, name(obj))
