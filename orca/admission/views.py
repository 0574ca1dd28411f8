"""The objects of a request in the versions that policies and webhooks ask for."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import orjson

from orca.admission.chain import Attributes
from orca.api import strategy
from orca.api.conversion import convert
from orca.api.objects import Obj
from orca.api.resources import Resource


class Converter(Protocol):
    """Gives an object of one version of a kind in another version."""

    def __call__(self, source: Resource, target: Resource, obj: Obj) -> Awaitable[Obj]:
        """``obj`` itself when both are one. Raises ApiError."""


async def convert_version(source: Resource, target: Resource, obj: Obj) -> Obj:
    """By rules for built-in kinds, by the definition's strategy for custom ones (which may ask a webhook)."""
    if source.api_version == target.api_version:
        return obj
    versions = strategy.of(source).versions if source.custom else None
    if versions is not None and versions.hook is not None:
        made = (await versions.hook([obj], target.api_version))[0]
    else:
        made = convert(obj, target.api_version)
    wanted = strategy.of(target).versions if target.custom else None
    return wanted.converted(made) if wanted is not None else made


class Views:
    """The object and the old one in the versions asked for, converted and encoded once each."""

    def __init__(self, attrs: Attributes, converter: Converter) -> None:
        self._attrs = attrs
        self._convert = converter
        self._converted: dict[tuple[str, bool], Obj | None] = {}
        self._encoded: dict[tuple[str, bool], bytes | None] = {}

    async def objects(self, row: Resource) -> tuple[Obj | None, Obj | None]:
        """(object, old object) as ``row``. Raises ApiError."""
        return await self._object(row, old=False), await self._object(row, old=True)

    async def encoded(self, row: Resource) -> tuple[bytes | None, bytes | None]:
        """As :meth:`objects`, in JSON."""
        found = []
        for old in (False, True):
            key = (row.api_version, old)
            if key not in self._encoded:
                obj = await self._object(row, old=old)
                self._encoded[key] = None if obj is None else orjson.dumps(obj)
            found.append(self._encoded[key])
        return found[0], found[1]

    def changed(self) -> None:
        """The new object is another one now."""
        for held in (self._converted, self._encoded):
            for key in [key for key in held if not key[1]]:
                del held[key]

    async def _object(self, row: Resource, *, old: bool) -> Obj | None:
        key = (row.api_version, old)
        if key not in self._converted:
            obj = self._attrs.old if old else self._attrs.obj
            mine = self._attrs.resource
            # Bodies of a kind of their own (Scale, Eviction, PodExecOptions …) have one version only.
            if obj is not None and row.api_version != mine.api_version and obj.get("kind") == mine.kind:
                obj = await self._convert(mine, row, obj)
            self._converted[key] = obj
        return self._converted[key]
