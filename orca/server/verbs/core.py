"""What every verb needs, and the few steps they share: copies, dry-run answers, admission attributes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from orca.admission import Attributes, Chain
from orca.api.builtin import SERVICES
from orca.api.errors import ApiError
from orca.api.objects import Obj, meta, name, namespace
from orca.api.resources import Resource, ResourceTable
from orca.api.selectors import Selector
from orca.auth import UserInfo
from orca.client.clock import Clock
from orca.server.fairness.turns import Lane
from orca.server.options import WriteOptions
from orca.server.verbs import serving
from orca.server.verbs.deciding import decides, in_effect
from orca.store import Also, Entry, Store

if TYPE_CHECKING:
    from orca.server.allocation import ServiceAllocator

_OPTION_KINDS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions", "CONNECT": ""}
VirtualHandler = Callable[["Call", Obj], Awaitable[Obj]]
"""(call, body) -> answer of a kind that is computed, never stored (reviews)."""
OnWritten = Callable[[Obj, Obj], None]
"""(before, after) hears of updates that this server has stored."""
Computed = Callable[[str, str, Selector], Awaitable[list[Entry]]]
"""(namespace or "", name or "", labels) -> entries of a kind that is computed, never stored; more than asked for may be
among them."""


HEAVY = 32 * 1024
"""Bytes of an object that takes milliseconds to decode, check and compare."""


@dataclass(slots=True)
class Call:
    """Who asks, and with which options. One per request."""

    user: UserInfo
    options: WriteOptions = field(default_factory=WriteOptions)
    trusted: bool = False  # our own components: their bodies are well formed
    manager: str = ""  # owns what is written when the options name no field manager
    authorize_create: Callable[[], Awaitable[object]] | None = None  # for writes that may turn out to create
    audit_annotations: dict[str, str] = field(default_factory=dict)  # what admission wants in the audit log
    lane: Lane | None = None
    heavy: bool = False  # it is about so many bytes that others go first between its stages

    @property
    def dry_run(self) -> bool:
        return self.options.dry_run

    async def between(self) -> None:
        """Two stages of what is computed for it."""
        if self.heavy and self.lane is not None:
            await self.lane.turn()

    def concerns(self, size: int) -> None:
        """It is about an object of so many bytes."""
        self.heavy = self.heavy or size > HEAVY


@dataclass(slots=True)
class Core:
    """The parts verbs work on."""

    store: Store
    table: ResourceTable
    admission: Chain
    clock: Clock
    services: ServiceAllocator
    virtual: dict[str, VirtualHandler] = field(default_factory=dict)  # by group_resource
    computed: dict[str, Computed] = field(default_factory=dict)  # by group_resource
    written: dict[str, OnWritten] = field(default_factory=dict)  # by group_resource

    async def read(self, resource: Resource, space: str, object_name: str) -> Entry:
        """The newest object in the version ``resource`` serves. Raises ApiError 404."""
        return await serving.serve(resource, await self.store.get(resource, space, object_name))

    async def write_new(
        self, resource: Resource, obj: Obj, also: Sequence[Also] = (), *, applied: bool = False
    ) -> Entry:
        """Store a new object.

        Raises ApiError 409 AlreadyExists, 413 (one that is ``applied`` has to fit with its managers), Raced.
        """
        if resource is SERVICES:
            also = [*also, *self.services.claims(obj, None)]
        plain = serving.is_plain(resource)
        made = obj if plain else await serving.to_stored(resource, obj)
        try:
            entry = await self.store.create(resource, made, also=also)
        except ApiError as error:
            entry = await self.store.create(resource, _smaller(made, error, applied), also=also)
        if not plain:
            serving.written(resource, entry)
        if decides(resource):
            await in_effect(self.store, entry)
        return entry if plain else await serving.serve(resource, entry)

    async def replace(
        self, resource: Resource, current: Entry, new: Obj, also: Sequence[Also] = (), *, applied: bool = False
    ) -> Entry:
        """Store ``new``, which differs, in place of ``current``.

        Raises ApiError 413 as ``write_new`` does, and 409 when that is not the newest state any more.
        """
        plain = serving.is_plain(resource)
        made = new if plain else await serving.to_stored(resource, new)
        if resource is SERVICES:
            also = [*also, *self.services.claims(new, current.obj)]
        try:
            entry = await self.store.replace(resource, current, made, also=also)
        except ApiError as error:
            entry = await self.store.replace(resource, current, _smaller(made, error, applied), also=also)
        if not plain:
            serving.written(resource, entry)
        if decides(resource):
            await in_effect(self.store, entry)
        return entry if plain else await serving.serve(resource, entry)

    async def remove(
        self, resource: Resource, current: Entry, *, last: Obj | None = None, also: Sequence[Also] = ()
    ) -> Entry:
        """Remove ``current`` from the store; ``last`` is what watchers are shown as its last state, if another.

        Raises ApiError 409 Conflict when it is not the newest any more, 404 when it is gone, Raced.
        """
        if resource is SERVICES:
            also = [*also, *self.services.claims(None, current.obj)]
        stored = current.source if isinstance(current, serving.View) else current
        gone = await self.store.remove(resource, stored, last=last, also=also)
        if decides(resource):
            await in_effect(self.store, gone)
        if resource.custom and last is None and current is not stored:
            return serving.as_of(current, gone.revision)  # it is gone: no webhook may fail now
        return await serving.serve(resource, gone)

    def attributes(
        self,
        call: Call,
        operation: str,
        resource: Resource,
        space: str,
        object_name: str,
        obj: Obj | None,
        old: Obj | None,
        *,
        subresource: str = "",
        options: Obj | None = None,
    ) -> Attributes:
        """Admission's view of one write."""
        return Attributes(
            operation=operation,
            resource=resource,
            subresource=subresource,
            namespace=space,
            name=object_name,
            obj=obj,
            old=old,
            user=call.user,
            dry_run=call.dry_run,
            options=call.options.to_api(_OPTION_KINDS[operation]) if options is None else options,
            warnings=call.options.warnings,
            audit_annotations=call.audit_annotations,
        )


def without_managers(obj: Obj) -> Obj:
    """``obj`` without its managedFields, sharing everything else; itself when it has none."""
    known = meta(obj)
    if "managedFields" not in known:
        return obj
    return {**obj, "metadata": {field: value for field, value in known.items() if field != "managedFields"}}


def _smaller(obj: Obj, error: ApiError, applied: bool) -> Obj:
    """``obj``, which could not be stored, without its managedFields where it was too large with them: it is worth more
    than knowing who owns it, except to who applies. Raises ``error`` where that does not help."""
    smaller = without_managers(obj)
    if error.code != 413 or smaller is obj or applied:
        raise error
    return smaller


def copy_entry(entry: Entry) -> Obj:
    """A mutable copy of a stored object, resourceVersion included."""
    copied: Obj = orjson.loads(entry.raw)
    return copied


def unstored(obj: Obj, revision: int = 0) -> Entry:
    """An Entry for an answer that was computed but not written (dry run)."""
    return Entry(namespace(obj), name(obj), revision, obj, orjson.dumps(obj))


def version_of(obj: Obj) -> str:
    """``metadata.resourceVersion``; "" and "0" both mean none."""
    version: Any = meta(obj).get("resourceVersion")
    return "" if not version or version == "0" else str(version)
