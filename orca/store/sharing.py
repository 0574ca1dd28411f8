"""Equal parts of objects kept once.

A thousand pods of one Deployment differ in a few names; parsed one by one, each would hold its own copy of everything
else, several times the size of its bytes. Parts that were seen lately are found by what they encode to, so sharing
costs one encoding of what is new. Objects are frozen once stored, which makes sharing safe.
"""

from __future__ import annotations

from typing import Any

import orjson

from orca.api.objects import Obj

PARTS = 8192
"""Parts remembered in each of two generations: what is not met again while as many others come is forgotten."""
TEXT = 64
"""Longer texts are rarely equal."""


_UNIQUE = frozenset({"name", "uid", "resourceVersion"})
"""Texts that would only push others out."""
_REPEATED = ("labels", "annotations", "ownerReferences", "finalizers")
"""Parts of metadata that several objects may have alike."""


class Pool:
    """Parts seen lately, by the hash of their encoding."""

    def __init__(self, parts: int = PARTS) -> None:
        self._limit = parts
        self._young: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def share(self, obj: Obj, *, made: bool = False) -> Obj:
        """`obj`, whose parts are replaced in place by equal ones that exist already.

        ``made`` tells that it was not parsed: what its metadata got from the server is shared already, times and the
        field sets of its managers.
        """
        for field, value in obj.items():
            kind = value.__class__
            if kind is dict:
                if field != "metadata":
                    if value:
                        obj[field] = self._part(value)
                elif made:
                    self._given(value)
                else:
                    self._metadata(value)  # never equal to another's as a whole
            elif kind is str and len(value) <= TEXT:
                obj[field] = self._text(value)
            elif kind is list:
                obj[field] = self._part(value)
        return obj

    def _given(self, fields: dict[str, Any]) -> None:
        """What a client gave of the metadata."""
        for field in _REPEATED:
            part = fields.get(field)
            if part:
                fields[field] = self._part(part)
        for field in ("namespace", "generateName", "creationTimestamp"):
            text = fields.get(field)
            if text:
                fields[field] = self._text(text)

    def _metadata(self, fields: dict[str, Any]) -> None:
        self._inside(fields, but="managedFields")
        for entry in fields.get("managedFields") or ():
            # Times make entries unique. The sets are large and of few kinds, so each is asked for whole first.
            if entry.__class__ is not dict:
                continue
            for field, value in entry.items():
                if value.__class__ is str and len(value) <= TEXT:
                    entry[field] = self._text(value)
            found = entry.get("fieldsV1")
            if found.__class__ is dict and found:
                shared = self._whole(found)
                if shared is not found:
                    entry["fieldsV1"] = shared

    def _whole(self, part: dict[str, Any]) -> dict[str, Any]:
        key = hash(orjson.dumps(part))
        found: dict[str, Any] | None = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None or found != part:
                self._inside(part)
                found = part
            self._keep(key, found)
        return found if found is part or found == part else part

    def _inside(self, holder: dict[str, Any], but: str = "") -> None:
        for field, value in holder.items():
            if field == but:
                continue
            kind = value.__class__
            if kind is str:
                if len(value) <= TEXT and field not in _UNIQUE:
                    holder[field] = self._text(value)
            elif (kind is dict or kind is list) and value:
                holder[field] = self._part(value)

    def _text(self, text: str) -> str:
        found: str | None = self._young.get(text)
        if found is None:
            found = self._old.get(text, text)
            self._keep(text, found)
        return found

    def _part(self, part: Any) -> Any:
        # Python calls 1, 1.0 and True equal, their encodings differ; so those are the keys, by hash for their size.
        key = hash(orjson.dumps(part))
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None or found != part:
                if part.__class__ is dict:
                    self._inside(part)
                else:
                    for at, value in enumerate(part):
                        kind = value.__class__
                        if kind is dict or kind is list:
                            part[at] = self._part(value)
                        elif kind is str and len(value) <= TEXT:
                            part[at] = self._text(value)
                found = part
            self._keep(key, found)
        elif found != part:
            return part
        return found

    def _keep(self, key: Any, part: Any) -> None:
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._young[key] = part


POOL = Pool()
"""The process's one: caches of several stores share, too."""
