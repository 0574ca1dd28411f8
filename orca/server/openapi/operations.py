"""Every path and operation the resource table stands for, in a form both OpenAPI versions are written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orca.api.objects import Obj
from orca.api.resources import Resource, Subresource
from orca.api.schema import SCHEMA

STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
PATCH = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"

_METHODS = {"get": "get", "list": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_METHODS["deletecollection"] = "delete"
_ACTIONS = {"create": "post", "update": "put"}
_WORDS = {
    "get": "read",
    "list": "list",
    "create": "create",
    "update": "replace",
    "patch": "patch",
    "delete": "delete",
    "deletecollection": "deleteCollection",
}
_PATCH_MEDIA = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_CUSTOM_PATCH_MEDIA = tuple(media for media in _PATCH_MEDIA if "strategic" not in media)


@dataclass(frozen=True, slots=True)
class Parameter:
    """``place`` is "query" or "path"."""

    name: str
    place: str
    kind: str
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. ``body`` and ``result`` name definitions; "" means none, or a plain string."""

    method: str
    action: str
    operation_id: str
    tag: str
    description: str
    group_version_kind: Obj
    body: str = ""
    body_media: tuple[str, ...] = ("*/*",)
    result: str = ""
    success: int = 200
    parameters: tuple[Parameter, ...] = ()


@dataclass(slots=True)
class PathItem:
    """One path and its operations."""

    path: str
    parameters: tuple[Parameter, ...]
    operations: list[Operation] = field(default_factory=list)


_NAME = Parameter("name", "path", "string", "name of the object", True)
_SPACE = Parameter("namespace", "path", "string", "object name and auth scope, such as for teams and projects", True)
_TAIL = Parameter("path", "path", "string", "path to the resource", True)
_PRETTY = Parameter("pretty", "query", "string", "If 'true', then the output is pretty printed.")
_DRY_RUN = Parameter("dryRun", "query", "string", "When present, nothing is persisted. Valid value: All")
_MANAGER = Parameter("fieldManager", "query", "string", "Name of the actor or entity that makes the change.")
_VALIDATION = Parameter(
    "fieldValidation", "query", "string", "Ignore, Warn or Strict: what to do about unknown fields."
)
_FORCE = Parameter("force", "query", "boolean", "Take conflicting fields over; apply patches only.")
_GRACE = Parameter("gracePeriodSeconds", "query", "integer", "Seconds before the object is deleted; 0 is at once.")
_ORPHAN = Parameter("orphanDependents", "query", "boolean", "Deprecated: use propagationPolicy.")
_PROPAGATION = Parameter("propagationPolicy", "query", "string", "Orphan, Background or Foreground.")
_LIST = (
    Parameter("allowWatchBookmarks", "query", "boolean", "Ask for watch events of type BOOKMARK."),
    Parameter("continue", "query", "string", "Token of the page before."),
    Parameter("fieldSelector", "query", "string", "Restrict the list by fields."),
    Parameter("labelSelector", "query", "string", "Restrict the list by labels."),
    Parameter("limit", "query", "integer", "Maximum number of objects on a page."),
    Parameter("resourceVersion", "query", "string", "Constraint on the versions a request may be served from."),
    Parameter("resourceVersionMatch", "query", "string", "How resourceVersion is applied to lists."),
    Parameter("sendInitialEvents", "query", "boolean", "Begin a watch with the current state."),
    Parameter("timeoutSeconds", "query", "integer", "Limit of the duration of the call."),
    Parameter("watch", "query", "boolean", "Stream changes instead of a list."),
)
_WRITE = (_DRY_RUN, _MANAGER, _VALIDATION)
_BY_VERB: dict[str, tuple[Parameter, ...]] = {
    "list": _LIST,
    "create": _WRITE,
    "update": _WRITE,
    "patch": (*_WRITE, _FORCE),
    "delete": (_DRY_RUN, _GRACE, _ORPHAN, _PROPAGATION),
    "deletecollection": (*_LIST[1:-1], _DRY_RUN, _GRACE, _ORPHAN, _PROPAGATION),
}


def group_path(group: str, version: str) -> str:
    """``api/v1`` or ``apis/apps/v1``."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def list_definition(row: Resource) -> str:
    """The definition of the kind's list, which the schema may not have."""
    return row.definition.removesuffix(row.kind) + row.list_kind


def paths_of(row: Resource) -> Iterator[PathItem]:
    """All paths of one row."""
    root = f"/{group_path(row.group, row.version)}"
    space = "/namespaces/{namespace}" if row.namespaced else ""
    scope = (_SPACE,) if row.namespaced else ()
    collection = PathItem(f"{root}{space}/{row.plural}", (*scope, _PRETTY))
    single = PathItem(f"{root}{space}/{row.plural}/{{name}}", (_NAME, *scope, _PRETTY))
    for verb in ("list", "create", "deletecollection"):
        if verb in row.verbs:
            collection.operations.append(_operation(row, verb))
    for verb in ("get", "update", "patch", "delete"):
        if verb in row.verbs:
            single.operations.append(_operation(row, verb))
    if collection.operations:
        yield collection
    if single.operations:
        yield single
    if row.namespaced and "list" in row.verbs:
        everywhere = PathItem(f"{root}/{row.plural}", (_PRETTY,))
        everywhere.operations.append(_operation(row, "list", everywhere=True))
        yield everywhere
    for sub in row.subresources:
        yield from _subresource(row, sub, f"{single.path}/{sub.name}", (_NAME, *scope))


def _subresource(row: Resource, sub: Subresource, path: str, scope: tuple[Parameter, ...]) -> Iterator[PathItem]:
    item = PathItem(path, (*scope, _PRETTY))
    connecting = sub.name in ("exec", "attach", "portforward", "proxy")
    for verb in sub.verbs:
        item.operations.append(_connect(row, sub, verb) if connecting else _operation(row, verb, sub=sub))
    yield item
    if sub.name == "proxy":
        tail = PathItem(f"{path}/{{path}}", (*scope, _TAIL))
        tail.operations = [_connect(row, sub, verb, tail=True) for verb in sub.verbs]
        yield tail


def _operation(row: Resource, verb: str, *, sub: Subresource | None = None, everywhere: bool = False) -> Operation:
    definition, gvk = row.definition, _gvk(row)
    if sub is not None and sub.kind:
        definition = sub.definition
        gvk = {"group": sub.group, "kind": sub.kind, "version": sub.version or row.version}
    result = definition
    if verb == "list":
        result = list_definition(row)
    elif verb in ("delete", "deletecollection"):
        result = STATUS
    elif sub is not None and sub.name == "log":
        result = ""
    body: str = ""
    media: tuple[str, ...] = ("*/*",)
    if verb in ("create", "update"):
        body = definition
    elif verb == "patch":
        body, media = PATCH, _PATCH_MEDIA
        if row.custom:
            media = _CUSTOM_PATCH_MEDIA
    elif verb in ("delete", "deletecollection"):
        body = DELETE_OPTIONS
    return Operation(
        method=_METHODS[verb],
        action=_ACTIONS.get(verb, verb),
        operation_id=_operation_id(row, verb, sub.name if sub else "", everywhere=everywhere),
        tag=_tag(row, separator="_"),
        description=f"{_WORDS[verb]} {'objects of kind' if verb == 'list' else 'the specified'} {row.kind}",
        group_version_kind=gvk,
        body=body if body in SCHEMA.definitions or not body else "",
        body_media=media,
        result=result,
        success=201 if verb == "create" else 200,
        parameters=_BY_VERB.get(verb, ()),
    )


def _connect(row: Resource, sub: Subresource, verb: str, *, tail: bool = False) -> Operation:
    method = _METHODS[verb]
    suffix = "WithPath" if tail else ""
    scope = "Namespaced" if row.namespaced else ""
    kind = f"{row.kind}{sub.name.capitalize()}"
    return Operation(
        method=method,
        action="connect",
        operation_id=f"connect{_tag(row)}{method.capitalize()}{scope}{kind}{suffix}",
        tag=_tag(row, separator="_"),
        description=f"connect {method.upper()} requests to {sub.name} of {row.kind}",
        group_version_kind={"group": sub.group, "kind": sub.kind or row.kind, "version": sub.version or row.version},
    )


def _gvk(row: Resource) -> Obj:
    return {"group": row.group, "kind": row.kind, "version": row.version}


def _tag(row: Resource, separator: str = "") -> str:
    words = row.group.removesuffix(".k8s.io").replace("-", ".").split(".") if row.group else ["core"]
    if separator:
        return row.group.removesuffix(".k8s.io").replace(".", "") + f"_{row.version}" if row.group else "core_v1"
    return "".join(word.capitalize() for word in words) + row.version.capitalize()


def _operation_id(row: Resource, verb: str, sub: str, *, everywhere: bool) -> str:
    if verb == "deletecollection":
        return f"delete{_tag(row)}Collection{'Namespaced' if row.namespaced else ''}{row.kind}"
    scope = "Namespaced" if row.namespaced and not everywhere else ""
    end = "ForAllNamespaces" if everywhere else sub.capitalize()
    return f"{_WORDS[verb]}{_tag(row)}{scope}{row.kind}{end}"
