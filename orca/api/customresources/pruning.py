"""Unknown fields go. Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/pruning``."""

from __future__ import annotations

from typing import Any

from orca.api.customresources.places import Path, Told, item, member
from orca.api.customresources.structural import META_FIELDS, Structural
from orca.api.objects import Obj


def prune(obj: Obj, schema: Structural) -> list[str]:
    """Remove what the schema of a whole object does not know, in place; the paths of what was removed, sorted: of the
    first of it, where that is more than anybody should be told."""
    gone = Told()
    _prune(obj, schema, "", gone)
    return sorted(gone.paths)


def _prune(value: Any, schema: Structural | None, path: Path, gone: Told) -> None:
    if schema is not None and schema.preserve:
        _below_open(value, schema, path, gone)
    elif isinstance(value, dict):
        for name in list(value):
            at = member(path, name)
            if schema is not None:
                if schema.embedded and name in META_FIELDS:
                    continue
                known = schema.properties.get(name)
                if known is not None:
                    _prune(value[name], known, at, gone)
                    continue
                if schema.additional is not None:
                    inner = schema.additional if isinstance(schema.additional, Structural) else None
                    _prune(value[name], inner, at, gone)
                    continue
            del value[name]
            gone.add(at)
    elif isinstance(value, list):
        items = schema.items if schema is not None else None
        for index, one in enumerate(value):
            _prune(one, items, item(path, index), gone)


def _below_open(value: Any, schema: Structural | None, path: Path, gone: Told) -> None:
    """Below ``x-kubernetes-preserve-unknown-fields`` only what the schema describes is pruned."""
    if schema is None:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            if schema.embedded and name in META_FIELDS:
                continue
            known = schema.member(name)
            if known is not None:
                _prune(inner, known, member(path, name), gone)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            _below_open(one, schema.items, item(path, index), gone)


def drop_nulls(value: Any, schema: Structural | None) -> None:
    """Remove nulls that are not allowed and have no default, in place."""
    if schema is None:
        return
    if isinstance(value, dict):
        for name in list(value):
            known = schema.member(name)
            if known is None:
                continue
            if value[name] is None:
                if not known.nullable and not known.has_default:
                    del value[name]
            else:
                drop_nulls(value[name], known)
    elif isinstance(value, list):
        for item in value:
            drop_nulls(item, schema.items)
