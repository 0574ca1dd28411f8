"""The end of a namespace: its controller takes the finalizers off when the content is gone."""

from __future__ import annotations

from orca.api import strategy
from orca.api.builtin import NAMESPACES
from orca.api.errors import conflict, invalid
from orca.api.objects import Obj, finalizers, meta
from orca.server.verbs import ownership
from orca.server.verbs.core import Call, Core, copy_entry, unstored, version_of
from orca.server.verbs.updating import Written, check_identity


async def finalize(core: Core, call: Call, object_name: str, body: Obj) -> Written:
    """Set ``spec.finalizers``; the last one gone, the namespace is. Raises ApiError 400, 404, 409, 422."""
    if not call.trusted:
        check_identity(NAMESPACES, body, "", object_name)
    wanted = (body.get("spec") or {}).get("finalizers") or []
    current = await core.read(NAMESPACES, "", object_name)
    new = copy_entry(current)
    spec = new.setdefault("spec", {})
    if wanted:
        spec["finalizers"] = list(wanted)
    else:
        spec.pop("finalizers", None)
    if version_of(body) and version_of(body) != version_of(current.obj):
        raise conflict(NAMESPACES, object_name)
    ownership.updated(core, call, NAMESPACES, new, current.obj, "finalize")
    attributes = core.attributes(call, "UPDATE", NAMESPACES, "", object_name, new, current.obj, subresource="finalize")
    await core.admission.admit(attributes)
    admitted = attributes.obj or new
    ownership.guard(call, new, admitted)
    new = admitted
    strategy.prepare_update(NAMESPACES, new, current.obj, "finalize")
    problems = strategy.validate_update(NAMESPACES, new, current.obj, "finalize")
    if problems:
        raise invalid(NAMESPACES, object_name, problems)
    await core.admission.validate(attributes)
    wanted = (new.get("spec") or {}).get("finalizers") or []
    if call.dry_run:
        return Written(unstored(new, current.revision))
    if meta(new).get("deletionTimestamp") and not wanted and not finalizers(new):
        await core.remove(NAMESPACES, current)
        return Written(unstored(new, current.revision))  # clients expect what they sent
    if new == current.obj:
        return Written(current)
    return Written(await core.replace(NAMESPACES, current, new))
