"""Server-side apply: a configuration becomes a candidate of the update loop, or a new object.

Reference: k8s.io/apiserver ``pkg/endpoints/handlers/patch.go`` (applyPatcher).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from orca.api import fields
from orca.api.errors import ApiError, FieldError, bad_request, conflict, invalid_kind, is_already_exists, is_not_found
from orca.api.objects import Obj, ensure_meta, meta, thaw
from orca.api.resources import Resource
from orca.server.verbs import ownership
from orca.server.verbs.accept import as_warnings
from orca.server.verbs.core import Call, Core
from orca.server.verbs.creating import create, settle_identity
from orca.server.verbs.patches import accept_patched
from orca.server.verbs.updating import Written, modify
from orca.store import Entry

_ATTEMPTS = 16
_OPTIONS = ("meta.k8s.io", "PatchOptions", "")
_TOLD = "error converting YAML to JSON: "


def check_options(call: Call, *, applies: bool) -> None:
    """What PatchOptions may say by the kind of patch. Raises ApiError 422."""
    options = call.options
    if applies and not options.field_manager:
        raise invalid_kind(*_OPTIONS, [FieldError.required("fieldManager", "is required for apply patch")])
    if not applies and options.force is not None:
        raise invalid_kind(*_OPTIONS, [FieldError.forbidden("force", "may not be specified for non-apply patch")])


def configuration(call: Call, body: Any, duplicates: Sequence[str]) -> Obj:
    """A decoded body as a configuration. Raises ApiError 400, with ``fieldValidation=Strict`` for repeated keys too."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict | None):
        raise bad_request("error decoding YAML: the configuration is not an object")
    try:
        orjson.dumps(body)
    except (orjson.JSONEncodeError, RecursionError):
        text = "error decoding YAML: the configuration is nested too deep, or holds text or numbers JSON has not"
        raise bad_request(text) from None
    if duplicates and call.options.field_validation == "Strict":
        raise bad_request("error strict decoding YAML: " + ", ".join(_TOLD + text for text in duplicates))
    return body


def warn(call: Call, duplicates: Sequence[str]) -> None:
    """Begin an attempt: warn of repeated keys, and forget what earlier attempts warned of."""
    call.options.warnings.clear()
    if call.options.field_validation != "Ignore":
        call.options.warnings.extend(as_warnings(duplicates))


async def apply(
    core: Core,
    call: Call,
    resource: Resource,
    space: str,
    object_name: str,
    body: Any,
    duplicates: Sequence[str] = (),
    *,
    subresource: str = "",
) -> Written:
    """Apply ``body`` to an object, or create it. Raises ApiError 400, 403, 404, 409, 422."""
    check_options(call, applies=True)
    config = configuration(call, body, duplicates)
    at = ownership.versions(core, resource)

    def applied(live: Obj | None) -> Obj:
        warn(call, duplicates)
        writer = ownership.writer(core, call, resource, subresource)
        made = fields.apply(resource, live, config, writer, at, force=bool(call.options.force))
        # What was merged shares parts with the live object and with the configuration.
        return accept_patched(resource, thaw(made.obj), call.options)

    def candidate(current: Entry) -> Obj:
        obj = applied(current.obj)
        said = meta(config).get("resourceVersion")
        if not said:
            ensure_meta(obj).pop("resourceVersion", None)
        return obj

    for _ in range(_ATTEMPTS):
        try:
            return Written(
                await modify(core, call, resource, space, object_name, candidate, subresource=subresource, applied=True)
            )
        except ApiError as error:
            if not is_not_found(error) or subresource:
                raise
        obj = applied(None)
        said_uid = meta(obj).get("uid")
        if said_uid:
            why = f"uid mismatch: the provided object specified uid {said_uid}, and no existing object was found"
            raise conflict(resource, object_name, why)
        settle_identity(resource, obj, space, object_name)
        if call.authorize_create is not None:
            await call.authorize_create()
        ensure_meta(obj).pop("resourceVersion", None)  # says which object to change, not that there has to be one
        try:
            return Written(await create(core, call, resource, space, obj, applied=True), created=True)
        except ApiError as error:
            if not is_already_exists(error):
                raise
    raise conflict(resource, object_name)
