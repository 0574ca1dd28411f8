"""``apiVersion``, ``kind`` and ``metadata`` of custom objects and of resources embedded in them.

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/objectmeta``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from orca.api import metadata, names
from orca.api.customresources.places import Path, Told, member, told
from orca.api.customresources.places import item as item_at
from orca.api.customresources.structural import Structural
from orca.api.errors import FieldError
from orca.api.objects import Obj
from orca.api.schema import SCHEMA, drop_unset

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_TEXTS = ("labels", "annotations")


def settle_metadata(obj: Obj, *, lenient: bool = False) -> tuple[str, list[str]]:
    """Give ``metadata`` the fields it can have, in place: (Go's words about a wrong type or "", unknown fields).

    ``lenient`` drops what is malformed instead, for objects that come from the store.
    """
    found = obj.get("metadata")
    if found is None:
        obj.pop("metadata", None)
        return "", []
    if not isinstance(found, dict):
        if lenient:
            del obj["metadata"]
            return "", []
        return "json: cannot unmarshal metadata into Go value of type v1.ObjectMeta", []
    if SCHEMA.is_valid(OBJECT_META, found) and b"null" not in orjson.dumps(found):
        return "", []
    found = obj["metadata"] = drop_unset(OBJECT_META, _without_null_texts(found))
    wrong, prune = SCHEMA.judged(OBJECT_META, found)
    if wrong:
        if not lenient:
            return wrong[0], []
        for name in list(found):
            if SCHEMA.check(OBJECT_META, {name: found[name]}):
                del found[name]
    return "", [f"metadata.{text.removeprefix('unknown field ').strip(chr(34))}" for text in prune()]


def _without_null_texts(fields: Obj) -> Obj:
    """As Go reads them: a null among texts by name is an empty one, unlike a field, which then is not said."""
    return {
        name: {key: "" if text is None else text for key, text in value.items()}
        if name in _TEXTS and isinstance(value, dict)
        else value
        for name, value in fields.items()
    }


def settle_embedded(value: Any, schema: Structural, path: Path = "", *, lenient: bool = False) -> tuple[str, list[str]]:
    """:func:`settle_metadata` for every embedded resource below the object's root."""
    unknown = Told()
    problem = _settle(value, schema, path, unknown, lenient)
    return problem, [] if problem else unknown.paths


def _settle(value: Any, schema: Structural, path: Path, unknown: Told, lenient: bool) -> str:
    if not schema.embeds:
        return ""
    if isinstance(value, dict):
        if path and schema.embedded:
            for name in ("apiVersion", "kind"):
                if name in value and not isinstance(value[name], str):
                    if not lenient:
                        return f"{path}.{name}: Invalid value: must be a string"
                    del value[name]
            problem, more = settle_metadata(value, lenient=lenient)
            if problem:
                return f"{path}.metadata: {problem}"
            for one in more:
                unknown.add(member(path, one))
        for name, inner in value.items():
            below = schema.member(name)
            if below is not None and below.embeds and not (schema.embedded and name == "metadata"):
                problem = _settle(inner, below, member(path, name), unknown, lenient)
                if problem:
                    return problem
    elif isinstance(value, list) and schema.items is not None:
        for index, item in enumerate(value):
            problem = _settle(item, schema.items, item_at(path, index), unknown, lenient)
            if problem:
                return problem
    return ""


def check(value: Any, schema: Structural, path: Path = "") -> list[FieldError]:
    """Errors of every embedded resource: its kind, its version, its metadata."""
    return told(_check(value, schema, path))


def _check(value: Any, schema: Structural, path: Path) -> Iterator[FieldError]:
    if not schema.embeds:
        return
    if isinstance(value, dict):
        if path and schema.embedded:
            yield from _resource(value, path)
        for name, inner in value.items():
            below = schema.member(name)
            if below is not None and below.embeds:
                yield from _check(inner, below, member(path, name))
    elif isinstance(value, list) and schema.items is not None:
        for index, item in enumerate(value):
            yield from _check(item, schema.items, item_at(path, index))


def _resource(value: Obj, path: Path) -> list[FieldError]:
    found: list[FieldError] = []
    version, kind = value.get("apiVersion"), value.get("kind")
    if not version:
        found.append(FieldError.required(f"{path}.apiVersion", "must not be empty"))
    elif str(version).count("/") > 1:
        text = f"unexpected GroupVersion string: {version}"
        found.append(FieldError.invalid(f"{path}.apiVersion", version, text))
    if not kind:
        found.append(FieldError.required(f"{path}.kind", "must not be empty"))
    else:
        for text in names.dns1035_label(str(kind).lower()):
            shown = f"may have mixed case, but should otherwise match: {text}"
            found.append(FieldError.invalid(f"{path}.kind", kind, shown))
    fields = value.get("metadata")
    if not isinstance(fields, dict):
        return found
    name = fields.get("name")
    if name:
        found += [FieldError.invalid(f"{path}.metadata.name", name, text) for text in names.dns1123_subdomain(name)]
    found += metadata.validate_labels(fields.get("labels"), f"{path}.metadata.labels")
    found += metadata.validate_annotations(fields.get("annotations"), f"{path}.metadata.annotations")
    return found
