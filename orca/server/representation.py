"""Tables and partial metadata: other forms of the same objects.

Reference: k8s.io/apimachinery ``apis/meta/v1`` Table, PartialObjectMetadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj, meta
from orca.api.printing import row_conditions, table
from orca.api.resources import Resource
from orca.server.negotiation import Form

INCLUDE_OBJECT = ("", "None", "Metadata", "Object")


def check_include(include: str) -> str:
    """The value of ``includeObject``. Raises ApiError 400."""
    if include not in INCLUDE_OBJECT:
        text = "must be 'Metadata', 'Object', 'None', or empty"
        raise bad_request(f'includeObject: Invalid value: "{include}": {text}')
    return include


def partial(obj: Obj, version: str = "v1") -> Obj:
    """Only the metadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": meta(obj)}


def as_table(
    resource: Resource, objs: Sequence[Obj], form: Form, include: str, now: datetime, metadata: Obj | None = None
) -> Obj:
    """The Table of ``objs``; its own ``metadata`` carries the list's resourceVersion."""
    columns, rows = table(resource, objs, now)
    made = []
    for obj, cells in zip(objs, rows, strict=True):
        row: Obj = {"cells": cells}
        conditions = row_conditions(resource, obj)
        if conditions:
            row["conditions"] = conditions
        if include == "Object":
            row["object"] = obj
        elif include == "None":
            row["object"] = None
        else:
            row["object"] = partial(obj, form.version)
        made.append(row)
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{form.version}",
        "metadata": metadata or {},
        "columnDefinitions": columns,
        "rows": made,
    }


def transform(resource: Resource, obj: Obj, form: Form, include: str, now: datetime) -> Obj:
    """One object in the form that was negotiated. Raises ApiError 406 for list forms."""
    if form.kind == "Table":
        return as_table(resource, [obj], form, include, now, {"resourceVersion": meta(obj).get("resourceVersion", "")})
    if form.kind == "PartialObjectMetadata":
        return partial(obj, form.version)
    if form.kind:
        raise ApiError(406, "NotAcceptable", f"the requested object cannot be represented as {form.kind}")
    return obj


def transform_list(
    resource: Resource, objs: Sequence[Obj], form: Form, include: str, now: datetime, metadata: Obj
) -> Obj:
    """A list in the form that was negotiated."""
    if form.kind == "Table":
        return as_table(resource, objs, form, include, now, metadata)
    if form.kind == "PartialObjectMetadataList":
        return {
            "kind": form.kind,
            "apiVersion": f"meta.k8s.io/{form.version}",
            "metadata": metadata,
            "items": [partial(obj, form.version) for obj in objs],
        }
    if form.kind:
        raise ApiError(406, "NotAcceptable", f"a list cannot be represented as {form.kind}")
    return {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata, "items": list(objs)}
