"""patch: JSON (RFC 6902), merge (RFC 7386) and strategic merge, as candidates for the update loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from orca.api.builtin import SECRETS
from orca.api.errors import ApiError, FieldError, bad_request, invalid_kind, unsupported_media_type
from orca.api.objects import Obj, thaw
from orca.api.patching import json_patch, merge_patch, strategic_merge
from orca.api.resources import Resource, Subresource
from orca.server.bodies import shallow
from orca.server.options import WriteOptions
from orca.server.patch_media import ACCEPTED, APPLY_PATCH, JSON_PATCH, MERGE_PATCH, PLAIN, STRATEGIC_PATCH
from orca.server.verbs.accept import accept
from orca.server.verbs.core import Call, Core, copy_entry, without_managers
from orca.server.verbs.updating import modify
from orca.store import Entry


def apply_patch(resource: Resource, definition: str, obj: Obj, patch: Any, media: str) -> Obj:
    """``obj``, which is ours, with the patch applied. Raises ApiError 400, 415 or 422."""
    if media == JSON_PATCH:
        return shallow(json_patch(obj, patch))  # operations can nest deeper than any body may be
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: the patch is not an object")
    if media == MERGE_PATCH:
        return merge_patch(obj, patch)
    if media == STRATEGIC_PATCH and not resource.custom:
        patched = strategic_merge(definition, obj, patch)
        # What such a patch is merged into stays of its kind, whatever the patch calls itself: clients send a scale's
        # under the kind that is scaled (apiserver's smpPatcher). JSON and merge patches are read as what they say.
        own: Obj = {key: obj[key] for key in ("apiVersion", "kind") if key in obj and isinstance(patched.get(key), str)}
        return {**patched, **own}
    accepted = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH) if resource.custom else ACCEPTED
    raise unsupported_media_type(accepted)


@dataclass(frozen=True, slots=True)
class Showing:
    """How a refusal tells of a patch's result: ``text`` of it, whether it came to be by JSON, and whether no value of
    it may be told."""

    text: Callable[[Any], str]
    as_json: bool = True
    secret: bool = False


NOTHING_SHOWN = Showing(lambda _: "", as_json=False)
_REDACTED = "<secret contents redacted>"


def accept_patched(
    resource: Resource,
    patched: Any,
    options: WriteOptions,
    problems: Sequence[str] = (),
    shown: Showing = NOTHING_SHOWN,
    *,
    subresource: Subresource | None = None,
) -> Obj:
    """The result must still be an object of its kind, or of its ``subresource``'s, with fields of the right types, and
    without ``problems`` where the options are strict. Raises ApiError 422, which names no kind, with what is ``shown``
    of the result."""
    if not isinstance(patched, dict):
        raise bad_request("the patched value is not an object")
    try:
        return accept(resource, patched, options, subresource=subresource, duplicates=problems)
    except ApiError as problem:
        if problem.code == 422:
            raise
        why = _UNHANDLED.split(problem.message, maxsplit=1)[-1]  # it names the kind of the object or of the subresource
        if not shown.as_json:
            why = _RESTORING.sub(_unrestored, why)
        if shown.secret and not _WITHOUT_VALUES.match(why):
            why = _REDACTED
        raise invalid_kind("", "", "", [FieldError.invalid("patch", shown.text(patched), why)]) from None


_UNHANDLED = re.compile(r" cannot be handled as a \w+: ")
_WITHOUT_VALUES = re.compile(
    r"json: cannot unmarshal|cannot restore|cannot convert|unrecognized type|illegal base64|strict decoding error"
)
_RESTORING = re.compile(r"json: cannot unmarshal (string|number|bool|array|object)\b.* into Go .* of type (\S+)$")
_SIMPLE = frozenset({"string", "bool", "int32", "int64", "float64"})
_KINDS = {"array": "slice", "object": "map", "number": "int64"}


def _unrestored(found: re.Match[str]) -> str:
    """The same in the words of upstream's way from a strategic patch's map to an object, which is no JSON."""
    kind, wanted = _KINDS.get(found[1], found[1]), found[2]
    if wanted.startswith("map["):
        return f"cannot restore map from {kind}"
    if wanted.startswith("[]"):
        return f"cannot restore slice from {kind}"
    if wanted not in _SIMPLE:
        return f"cannot restore struct from: {kind}"
    return (
        f"cannot convert {kind} to {wanted}"
        if (kind, wanted) == ("int64", "string")
        else f"unrecognized type: {wanted}"
    )


def _as_json(patched: Any) -> str:
    return orjson.dumps(patched).decode()


def _as_go(value: Any) -> str:
    """What Go's ``%+v`` makes of it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{name}:{_as_go(value[name])}" for name in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_as_go, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def showing(resource: Resource, body: Any, media: str) -> Showing:
    """What is shown of the result of a patch that makes no object of its kind. As upstream, of a strategic patch
    that is the patch itself. Unlike upstream, no value of a Secret: who may patch one may not therefore read it, and
    messages go into the audit log."""
    if resource is SECRETS:
        return Showing(lambda _: _REDACTED, as_json=media != STRATEGIC_PATCH, secret=True)
    return Showing(lambda _: _as_go(body), as_json=False) if media == STRATEGIC_PATCH else Showing(_as_json)


async def patch(
    core: Core,
    call: Call,
    resource: Resource,
    space: str,
    object_name: str,
    body: Any,
    media: str,
    problems: Sequence[str] = (),
    *,
    subresource: str = "",
) -> Entry:
    """Patch an object or its status; ``problems`` are texts about the patch itself. Raises ApiError 400, 404, 409, 415,
    422."""
    if media not in PLAIN:
        raise unsupported_media_type(ACCEPTED)
    encoded = orjson.dumps(body)
    about_managers = b"managedFields" in encoded
    shown = showing(resource, body, media)

    def candidate(current: Entry) -> Obj:
        call.options.warnings.clear()
        # Patching may move parts of the patch into the object; each attempt gets its own copy.
        # The loop keeps them up; copying and checking them would cost more than all the rest of many objects.
        copied = copy_entry(current) if about_managers else thaw(without_managers(current.obj))
        patched = apply_patch(resource, resource.definition, copied, orjson.loads(encoded), media)
        return accept_patched(resource, patched, call.options, problems, shown)

    return await modify(core, call, resource, space, object_name, candidate, subresource=subresource)
