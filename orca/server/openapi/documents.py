"""OpenAPI v2 (one document) and v3 (one a group version) as JSON values."""

from __future__ import annotations

from collections.abc import Iterable

from orca.api.objects import Obj
from orca.api.resources import Resource, ResourceTable
from orca.server.health import KUBERNETES_VERSION
from orca.server.openapi.operations import (
    DELETE_OPTIONS,
    LIST_META,
    PATCH,
    STATUS,
    Operation,
    Parameter,
    PathItem,
    list_definition,
    paths_of,
)
from orca.server.openapi.schemas import V2_PREFIX, V3_PREFIX, referenced, v2_definition, v3_definition

_INFO = {"title": "Kubernetes", "version": KUBERNETES_VERSION}
_PRODUCES = ["application/json", "application/yaml"]
_ALWAYS = (STATUS, DELETE_OPTIONS, PATCH, LIST_META)


def swagger(table: ResourceTable) -> Obj:
    """The v2 document of everything served."""
    rows = list(table)
    paths = {item.path: _v2_path(item) for row in rows for item in paths_of(row)}
    definitions = {name: v2_definition(name) for name in referenced(_roots(rows))}
    definitions.update(_missing_lists(rows, definitions, V2_PREFIX))
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": dict(sorted(paths.items())),
        "definitions": definitions,
        "securityDefinitions": {
            "BearerToken": {
                "description": "Bearer Token authentication",
                "in": "header",
                "name": "authorization",
                "type": "apiKey",
            }
        },
        "security": [{"BearerToken": []}],
    }


def openapi(rows: list[Resource]) -> Obj:
    """The v3 document of one group version."""
    paths = {item.path: _v3_path(item) for row in rows for item in paths_of(row)}
    schemas = {name: v3_definition(name) for name in referenced(_roots(rows))}
    schemas.update(_missing_lists(rows, schemas, V3_PREFIX))
    return {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "BearerToken": {
                    "description": "Bearer Token authentication",
                    "in": "header",
                    "name": "authorization",
                    "type": "apiKey",
                }
            },
        },
    }


def _roots(rows: Iterable[Resource]) -> list[str]:
    found = list(_ALWAYS)
    for row in rows:
        found += [row.definition, list_definition(row)]
        found += [sub.definition for sub in row.subresources if sub.definition]
    return found


def _missing_lists(rows: Iterable[Resource], present: Obj, prefix: str) -> Obj:
    """Lists the data has no definition for (custom kinds)."""
    made: Obj = {}
    for row in rows:
        name = list_definition(row)
        if name in present or "list" not in row.verbs or row.definition not in present:
            continue
        made[name] = {
            "type": "object",
            "description": f"{row.list_kind} is a list of {row.kind}",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"$ref": prefix + LIST_META},
                "items": {"type": "array", "items": {"$ref": prefix + row.definition}},
            },
            "x-kubernetes-group-version-kind": [{"group": row.group, "kind": row.list_kind, "version": row.version}],
        }
    return made


def _common(operation: Operation) -> Obj:
    return {
        "description": operation.description,
        "tags": [operation.tag],
        "operationId": operation.operation_id,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.group_version_kind,
    }


# -- v2


def _v2_path(item: PathItem) -> Obj:
    made: Obj = {operation.method: _v2_operation(operation) for operation in item.operations}
    made["parameters"] = [_v2_parameter(parameter) for parameter in item.parameters]
    return made


def _v2_parameter(parameter: Parameter) -> Obj:
    made: Obj = {"name": parameter.name, "in": parameter.place, "type": parameter.kind, "uniqueItems": True}
    made["description"] = parameter.description
    if parameter.required:
        made["required"] = True
    return made


def _v2_operation(operation: Operation) -> Obj:
    made = _common(operation)
    made["consumes"] = list(operation.body_media)
    made["produces"] = _PRODUCES
    made["schemes"] = ["https"]
    made["parameters"] = [_v2_parameter(parameter) for parameter in operation.parameters]
    if operation.body:
        made["parameters"].insert(
            0,
            {
                "name": "body",
                "in": "body",
                "required": operation.method != "delete",
                "schema": {"$ref": V2_PREFIX + operation.body},
            },
        )
    answer: Obj = {"description": "OK", "schema": _result(operation, V2_PREFIX)}
    made["responses"] = {str(operation.success): answer, "401": {"description": "Unauthorized"}}
    return made


def _result(operation: Operation, prefix: str) -> Obj:
    return {"$ref": prefix + operation.result} if operation.result else {"type": "string"}


# -- v3


def _v3_path(item: PathItem) -> Obj:
    made: Obj = {operation.method: _v3_operation(operation) for operation in item.operations}
    made["parameters"] = [_v3_parameter(parameter) for parameter in item.parameters]
    return made


def _v3_parameter(parameter: Parameter) -> Obj:
    made: Obj = {"name": parameter.name, "in": parameter.place, "description": parameter.description}
    if parameter.required:
        made["required"] = True
    made["schema"] = {"type": parameter.kind, "uniqueItems": True}
    return made


def _v3_operation(operation: Operation) -> Obj:
    made = _common(operation)
    made["parameters"] = [_v3_parameter(parameter) for parameter in operation.parameters]
    if operation.body:
        schema = {"$ref": V3_PREFIX + operation.body}
        made["requestBody"] = {"content": {media: {"schema": schema} for media in operation.body_media}}
        if operation.method != "delete":
            made["requestBody"]["required"] = True
    content = {media: {"schema": _result(operation, V3_PREFIX)} for media in _PRODUCES}
    made["responses"] = {
        str(operation.success): {"description": "OK", "content": content},
        "401": {"description": "Unauthorized"},
    }
    return made
