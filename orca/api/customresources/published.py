"""The schema of a custom kind as it is published: with the fields every object has.

Reference: k8s.io/apiextensions-apiserver ``pkg/controller/openapi/builder``.
"""

from __future__ import annotations

from orca.api.customresources.embedded import OBJECT_META
from orca.api.customresources.structural import EMBEDDED
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.api.structure import REF

_API_VERSION = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    "schemas to the latest internal value, and may reject unrecognized values. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
)
_KIND = (
    "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
    "endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)
_METADATA = (
    "Standard object's metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)


def definition(row: Resource, schema: Obj) -> Obj:
    """The definition that the resource table's ``definition`` names. ``schema`` is the row's ``openAPIV3Schema``."""
    made = _node(schema)
    made["properties"] = {**made.get("properties", {}), **_object_fields()}
    made["type"] = "object"
    made["x-kubernetes-group-version-kind"] = [{"group": row.group, "version": row.version, "kind": row.kind}]
    return made


def _object_fields() -> Obj:
    return {
        "apiVersion": {"type": "string", "description": _API_VERSION},
        "kind": {"type": "string", "description": _KIND},
        "metadata": {"$ref": REF + OBJECT_META, "description": _METADATA},
    }


def _node(schema: Obj) -> Obj:
    made = dict(schema)
    if made.get("properties"):
        made["properties"] = {name: _node(inner) for name, inner in made["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _node(made[key])
    if made.get(EMBEDDED):
        made["properties"] = {**made.get("properties", {}), **_object_fields()}
    return made
