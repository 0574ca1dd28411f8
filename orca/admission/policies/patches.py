"""What a mutation makes of an object: an applied configuration merged by the schema, or a JSON patch. Pure.

Reference: k8s.io/apiserver ``pkg/admission/plugin/policy/mutating/patch``.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from orca.admission.chain import Attributes
from orca.admission.policies.compiled import Mutation
from orca.admission.policies.mutating import Failed
from orca.api.cel.libraries.times import show_duration, show_timestamp
from orca.api.cel.values import Duration, Optional, Struct, Timestamp, Uint, type_name
from orca.api.errors import ApiError
from orca.api.fields.merging import merge, problems
from orca.api.fields.types import Node, root
from orca.api.objects import Obj
from orca.api.patching import json_patch
from orca.api.patching.failures import TestFailed, reason
from orca.api.resources import Resource


def patched(mutation: Mutation, attrs: Attributes, row: Resource, before: Obj, value: Any) -> Obj:
    """``before`` after the mutation whose expression gave ``value``. Raises Failed, ApiError."""
    if not mutation.applies:
        return json_patched(before, value)
    sub = attrs.resource.subresource(attrs.subresource)
    own = before.get("kind") != attrs.resource.kind
    return applied(root(row, sub.definition if own and sub is not None else ""), before, value)


def applied(node: Node, before: Obj, value: Any) -> Obj:
    """``before`` with the configuration merged in, as server-side apply merges. Raises Failed."""
    if not isinstance(value, Struct):
        raise Failed(f"unexpected type name {type_name(value)!r}, expected 'Object'")
    try:
        check_names(value, "Object")
    except Failed as error:
        raise Failed(f"type mismatch: {error}") from error
    config = to_json(value)
    for key in ("apiVersion", "kind"):
        config[key] = before.get(key)
    wrong = next(problems(node, config), None)
    if wrong is not None:
        raise Failed(f"error applying patch: failed to convert patch object to typed object: {wrong}")
    atomic = ", ".join(_atomic(node, config, ""))
    if atomic:
        raise Failed(
            f"error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomic}"
        )
    made = merge(node, before, config)
    assert isinstance(made, dict)
    return made


def _atomic(node: Node, config: Any, path: str) -> Iterator[str]:
    """Paths at which the configuration would replace a whole list or map that has no finer owner."""
    if node.kind == "leaf" and isinstance(config, list | dict):
        yield path
    elif isinstance(config, dict) and node.kind != "list":
        for key, value in config.items():
            child = node.child(key)
            if child is not None:
                yield from _atomic(child, value, f"{path}.{key}")
    elif isinstance(config, list) and node.kind == "list" and node.item is not None:
        for index, element in enumerate(config):
            yield from _atomic(node.item, element, f"{path}[{index}]")


def check_names(value: Any, expected: str) -> None:
    """Whether nested objects were made with the name of their place, ``Object.spec.template``. Raises Failed."""
    if isinstance(value, Struct):
        if value.cel_type != expected:
            raise Failed(
                f'unexpected type name "{value.cel_type}", expected "{expected}", which matches field name path'
            )
        for key, inner in value.items():
            check_names(inner, f"{expected}.{key}")
    elif isinstance(value, list):
        for element in value:
            check_names(element, expected)
    elif isinstance(value, dict):
        for inner in value.values():
            if isinstance(inner, Struct):
                check_names(inner, inner.cel_type)


def json_patched(before: Obj, value: Any) -> Obj:
    """``before`` after a JSON patch; itself when a test of the patch says no. Raises Failed."""
    operations = to_json(value)
    try:
        return json_patch(before, operations)
    except TestFailed:
        return before  # as upstream: none of the patch is applied, and that is no failure
    except ApiError as error:
        raise Failed(f"JSON Patch: {reason(error)}") from error


def to_json(value: Any) -> Any:
    """A result as JSON; shares nothing with what expressions saw. Raises Failed for what JSON cannot hold."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, dict):
        return {str(key): to_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [to_json(element) for element in value]
    if kind is Uint:
        return int(value)
    if kind is Timestamp:
        return show_timestamp(value)
    if kind is Duration:
        return show_duration(value)
    if kind is bytes:
        return b64encode(value).decode()
    if kind is Optional and not value.present:
        raise Failed("an optional without a value cannot be written to an object: use ?field or orValue()")
    raise Failed(f"a value of type {type_name(value)} cannot be written to an object")
