"""The scale subresource: one autoscaling/v1 view of everything that has replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from orca.api import fields, strategy
from orca.api.builtin import SCALE
from orca.api.errors import FieldError, bad_request, conflict, internal, invalid_kind
from orca.api.fields.types import root
from orca.api.objects import Obj, ensure_meta, meta, name, thaw
from orca.api.resources import Resource
from orca.api.selectors import from_label_selector
from orca.server.verbs import ownership
from orca.server.verbs.accept import accept
from orca.server.verbs.applying import check_options, configuration, warn
from orca.server.verbs.core import Call, Core, copy_entry, version_of
from orca.server.verbs.patches import accept_patched, apply_patch, showing
from orca.server.verbs.updating import Projection, check_identity, modify
from orca.store import Entry

_SHARED_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


_UNSET = -(2**31)
"""The replicas of a custom object that names none, for who is about to change that."""


def scale_of(resource: Resource, obj: Obj, unset: int | None = None) -> Obj:
    """The Scale of an object. A custom one that does not say how many replicas it wants has ``unset``; without that,
    raises ApiError 500."""
    paths = strategy.of(resource).scale
    if paths is not None:
        replicas = at(obj, paths.spec)
        if replicas is None:
            replicas = unset
        if replicas is None:
            raise internal(f'the spec replicas field ".{".".join(paths.spec)}" does not exist')
        status: Obj = {"replicas": at(obj, paths.status) or 0}
        told = at(obj, paths.selector) if paths.selector else None
        selector = told if isinstance(told, str) else ""
    else:
        spec = obj.get("spec") or {}
        replicas = spec.get("replicas")
        status = {"replicas": (obj.get("status") or {}).get("replicas", 0)}
        selector = _selector_text(spec.get("selector"))
    if selector:
        status["selector"] = selector
    fields = meta(obj)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: fields[key] for key in _SHARED_METADATA if key in fields},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def at(obj: Obj, steps: Sequence[str]) -> Any:
    """The value at the end of ``steps``, None when it is missing."""
    value: Any = obj
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _set_replicas(resource: Resource, obj: Obj, replicas: int) -> None:
    paths = strategy.of(resource).scale
    *above, last = paths.spec if paths is not None else ("spec", "replicas")
    for step in above:
        obj = obj.setdefault(step, {})
    obj[last] = replicas


def _selector_text(selector: Obj | None) -> str:
    if not selector:
        return ""
    if "matchLabels" in selector or "matchExpressions" in selector:
        return str(from_label_selector(selector))
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))  # ReplicationController


def _with_scale(resource: Resource, obj: Obj, scale: Obj) -> Obj:
    """``obj``, ours, with the replicas of ``scale``. Raises ApiError 409, 422."""
    fields = scale.get("metadata") or {}
    if fields.get("name") and fields["name"] != name(obj):
        problem = FieldError.invalid("metadata.name", fields["name"], "field is immutable")
        raise invalid_kind("autoscaling", "Scale", name(obj), [problem])
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    paths = strategy.of(resource).scale
    if paths is not None and replicas == _UNSET:
        raise bad_request(f'the spec replicas field ".{".".join(paths.spec)}" cannot be empty')
    if replicas < 0:
        problem = FieldError.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid_kind("autoscaling", "Scale", name(obj), [problem])
    if version_of(scale) and version_of(scale) != version_of(obj):
        raise conflict(resource, name(obj))
    if fields.get("uid") and fields["uid"] != meta(obj)["uid"]:
        why = f"Precondition failed: UID in precondition: {fields['uid']}, UID in object meta: {meta(obj)['uid']}"
        raise conflict(resource, name(obj), why)
    _set_replicas(resource, obj, replicas)
    if version_of(scale):
        ensure_meta(obj)["resourceVersion"] = version_of(scale)
    return obj


def _projection(resource: Resource) -> Projection:
    """Admission sees Scales, as the client sent and will get them."""
    return Projection(
        "scale", lambda obj: scale_of(resource, obj, _UNSET), lambda obj, scale: _with_scale(resource, obj, scale)
    )


async def get_scale(core: Core, resource: Resource, space: str, object_name: str) -> Obj:
    """The current Scale. Raises ApiError 404."""
    return scale_of(resource, (await core.read(resource, space, object_name)).obj)


async def update_scale(
    core: Core,
    call: Call,
    resource: Resource,
    space: str,
    object_name: str,
    body: Obj,
    duplicates: Sequence[str] = (),
) -> Obj:
    """Set the replicas. Raises ApiError 400, 404, 409, 422."""
    scale = accept(resource, body, call.options, subresource=SCALE, duplicates=duplicates)
    check_identity(resource, scale, space, object_name)

    def candidate(current: Entry) -> Obj:
        return _with_scale(resource, copy_entry(current), scale)

    projection = _projection(resource)
    written = await modify(core, call, resource, space, object_name, candidate, projection=projection)
    return scale_of(resource, written.obj)


async def patch_scale(
    core: Core,
    call: Call,
    resource: Resource,
    space: str,
    object_name: str,
    body: Any,
    media: str,
    problems: Sequence[str] = (),
) -> Obj:
    """Patch the Scale; ``problems`` are texts about the patch itself. Raises ApiError 400, 404, 409, 415, 422."""
    check_options(call, applies=False)
    encoded = orjson.dumps(body)
    shown = showing(resource, body, media)

    def candidate(current: Entry) -> Obj:
        before = scale_of(resource, current.obj, _UNSET)
        patched = apply_patch(resource, SCALE.definition, before, orjson.loads(encoded), media)
        call.options.warnings.clear()
        scale = accept_patched(resource, patched, call.options, problems, shown, subresource=SCALE)
        return _with_scale(resource, copy_entry(current), scale)

    projection = _projection(resource)
    written = await modify(core, call, resource, space, object_name, candidate, projection=projection)
    return scale_of(resource, written.obj)


async def apply_scale(
    core: Core,
    call: Call,
    resource: Resource,
    space: str,
    object_name: str,
    body: Any,
    duplicates: Sequence[str] = (),
) -> Obj:
    """Apply a Scale: its replicas become the manager's own, as a field of the object it stands for.

    Raises ApiError 400, 404, 409, 422.
    """
    check_options(call, applies=True)
    scale = configuration(call, body, duplicates)
    version = scale.get("apiVersion") or ""
    if version != SCALE.api_version:
        raise bad_request(
            f"Incorrect version specified in apply patch. Specified patch version: {version}, "
            f"expected: {SCALE.api_version}"
        )
    fields.check(resource, scale, root(resource, SCALE.definition))
    replicas = (scale.get("spec") or {}).get("replicas")
    config: Obj = {"apiVersion": resource.api_version, "kind": resource.kind}
    if replicas is not None:
        _set_replicas(resource, config, replicas)
    versions = ownership.versions(core, resource)

    def candidate(current: Entry) -> Obj:
        warn(call, duplicates)
        writer = ownership.writer(core, call, resource, "scale")
        made = fields.apply(
            resource, current.obj, config, writer, versions, force=bool(call.options.force), told_as=SCALE.api_version
        )
        obj = thaw(made.obj)
        if not meta(scale).get("resourceVersion"):
            ensure_meta(obj).pop("resourceVersion", None)
        return _with_scale(resource, obj, {**scale, "spec": {"replicas": replicas or 0}})

    projection = _projection(resource)
    written = await modify(core, call, resource, space, object_name, candidate, projection=projection, applied=True)
    return scale_of(resource, written.obj)
