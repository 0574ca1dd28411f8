"""The verbs of the API as one object: checks bodies, then hands to the verb's module."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from orca.api import strategy
from orca.api.builtin import BINDINGS, PODS
from orca.api.errors import FieldError, invalid, invalid_kind, method_not_allowed, no_such_page, not_found
from orca.api.objects import Obj, ensure_meta, meta
from orca.api.resources import Resource
from orca.api.selectors import EVERYTHING
from orca.server.fairness.turns import Lane
from orca.server.options import DeleteOptions, ListOptions
from orca.server.verbs import marking, pods, scaling
from orca.server.verbs.accept import accept
from orca.server.verbs.applying import apply, check_options
from orca.server.verbs.core import Call, Core
from orca.server.verbs.creating import create, settle_identity
from orca.server.verbs.deleting import Deleted, delete, delete_entries
from orca.server.verbs.patches import patch
from orca.server.verbs.reading import list_page, open_watch
from orca.server.verbs.serving import AnyWatch
from orca.server.verbs.updating import Written, update
from orca.store import Entry, Page


class Verbs:
    """What can be done to objects, whoever asks. Every method raises ApiError.

    Bodies become ours: callers hand over objects nobody else holds. Entries that come out are frozen.
    """

    def __init__(self, core: Core) -> None:
        self.core = core

    # -- reading

    async def get(self, resource: Resource, object_name: str, space: str = "", *, resource_version: str = "") -> Entry:
        """One object; ``resource_version="0"`` allows any age."""
        if resource.virtual:
            return await self._virtual_get(resource, space, object_name)
        if not resource.namespaced:
            space = ""
        if resource_version and resource_version != "0":
            # Not older than: wait for it as a list does.
            await self.core.store.list(
                resource, space, limit=1, resource_version=resource_version, match="NotOlderThan"
            )
        return await self.core.read(resource, space, object_name)

    async def _virtual_get(self, resource: Resource, space: str, object_name: str) -> Entry:
        for entry in await self.core.computed[resource.group_resource](space, object_name, EVERYTHING):
            if entry.name == object_name:
                return entry
        raise not_found(resource, object_name)

    async def list(self, resource: Resource, space: str, options: ListOptions, lane: Lane | None = None) -> Page:
        """A page of a consistent list."""
        return await list_page(self.core, resource, space, options, lane)

    async def watch(self, resource: Resource, space: str, options: ListOptions) -> AnyWatch:
        """A started watch."""
        return await open_watch(self.core, resource, space, options)

    # -- writing

    async def create(
        self, call: Call, resource: Resource, space: str, obj: Obj, duplicates: Sequence[str] = ()
    ) -> Entry:
        """Store a new object."""
        obj = accept(resource, obj, call.options, duplicates=duplicates)
        return await create(self.core, call, resource, space, obj)

    async def create_virtual(
        self, call: Call, resource: Resource, space: str, obj: Obj, duplicates: Sequence[str] = ()
    ) -> Obj:
        """Answer a kind that is computed (reviews, legacy bindings)."""
        obj = accept(resource, obj, call.options, duplicates=duplicates)
        settle_identity(resource, obj, space)
        handler = self.core.virtual.get(resource.group_resource)
        if handler is None:
            raise method_not_allowed()
        if resource is not BINDINGS:  # which is admitted as what it is, a binding of a pod
            obj = await self._admitted(call, resource, space, obj)
        return await handler(call, obj)

    async def _admitted(self, call: Call, resource: Resource, space: str, obj: Obj, subresource: str = "") -> Obj:
        """A body that is answered, not stored, as admission leaves it. Raises ApiError."""
        attributes = self.core.attributes(
            call, "CREATE", resource, space, meta(obj).get("name") or "", obj, None, subresource=subresource
        )
        await self.core.admission.admit(attributes)
        body = attributes.obj or obj
        rule = strategy.of(resource).validate_create if resource.virtual else None
        if rule is not None and (problems := rule(body)):
            raise invalid(resource, "", problems)
        await self.core.admission.validate(attributes)
        return body

    async def update(
        self,
        call: Call,
        resource: Resource,
        object_name: str,
        space: str,
        obj: Obj,
        duplicates: Sequence[str] = (),
        *,
        subresource: str = "",
    ) -> Written:
        """Replace an object or its subresource part."""
        obj = accept(resource, obj, call.options, duplicates=duplicates)
        if not resource.namespaced:
            space = ""
        return await update(self.core, call, resource, space, object_name, obj, subresource=subresource)

    async def patch(
        self,
        call: Call,
        resource: Resource,
        object_name: str,
        space: str,
        body: Any,
        media: str,
        problems: Sequence[str] = (),
        *,
        subresource: str = "",
    ) -> Entry:
        """Change part of an object."""
        check_options(call, applies=False)
        if not resource.namespaced:
            space = ""
        return await patch(
            self.core, call, resource, space, object_name, body, media, problems, subresource=subresource
        )

    async def apply(
        self,
        call: Call,
        resource: Resource,
        object_name: str,
        space: str,
        body: Any,
        duplicates: Sequence[str] = (),
        *,
        subresource: str = "",
    ) -> Written:
        """Make an object what a configuration says of it, and its fields the manager's own."""
        if not resource.namespaced:
            space = ""
        return await apply(self.core, call, resource, space, object_name, body, duplicates, subresource=subresource)

    async def delete(
        self, call: Call, resource: Resource, object_name: str, space: str, options: DeleteOptions
    ) -> Deleted:
        """Delete an object or mark it for deletion."""
        if not resource.namespaced:
            space = ""
        return await delete(self.core, call, resource, space, object_name, options)

    async def delete_collection(
        self, call: Call, resource: Resource, space: str, selection: ListOptions, options: DeleteOptions
    ) -> Page:
        """Delete all that match; answers what was found."""
        page = await self.list(resource, space, selection, call.lane)
        await delete_entries(self.core, call, resource, page.entries, options)
        return page

    # -- subresources

    async def get_scale(self, resource: Resource, object_name: str, space: str) -> Obj:
        """The Scale of an object with replicas."""
        return await scaling.get_scale(self.core, resource, space, object_name)

    async def update_scale(
        self,
        call: Call,
        resource: Resource,
        object_name: str,
        space: str,
        obj: Obj,
        duplicates: Sequence[str] = (),
    ) -> Obj:
        """Set replicas."""
        return await scaling.update_scale(self.core, call, resource, space, object_name, obj, duplicates)

    async def patch_scale(
        self,
        call: Call,
        resource: Resource,
        object_name: str,
        space: str,
        body: Any,
        media: str,
        problems: Sequence[str] = (),
    ) -> Obj:
        """Patch replicas."""
        return await scaling.patch_scale(self.core, call, resource, space, object_name, body, media, problems)

    async def apply_scale(
        self, call: Call, resource: Resource, object_name: str, space: str, body: Any, duplicates: Sequence[str] = ()
    ) -> Obj:
        """Apply replicas."""
        return await scaling.apply_scale(self.core, call, resource, space, object_name, body, duplicates)

    async def bind(self, call: Call, binding: Obj, event: Obj | None) -> bool:
        """A binding that one of our own components made, and whether the event that tells of it was written, too."""
        metadata = binding["metadata"]
        return await pods.bind_telling(self.core, call, metadata["namespace"], metadata["name"], binding, event)

    async def mark(self, call: Call, pod: Obj, condition: Obj, nominated: str | None, event: Obj | None = None) -> bool:
        """What one of our own components has to say of a pod, of which ``pod`` is metadata, and whether it was told."""
        return await marking.mark(self.core, call, pod, condition, nominated, event)

    async def disrupt(self, call: Call, pod: Obj, condition: Obj, event: Obj | None) -> bool:
        """The end of a pod, of which ``pod`` is metadata, that makes way for others, and whether it was told, too."""
        return await marking.disrupt(self.core, call, pod, condition, event)

    async def create_sub(
        self,
        call: Call,
        resource: Resource,
        object_name: str,
        space: str,
        subresource: str,
        obj: Obj,
        duplicates: Sequence[str] = (),
    ) -> Obj:
        """POST to binding, eviction or token."""
        sub = resource.subresource(subresource)
        if sub is None or "create" not in sub.verbs:
            raise no_such_page()
        obj = accept(resource, obj, call.options, subresource=sub, duplicates=duplicates)
        if resource is PODS and subresource == "binding":
            return await pods.bind(self.core, call, space, object_name, obj)
        if resource is PODS and subresource == "eviction":
            return await pods.evict(self.core, call, space, object_name, obj)
        handler = self.core.virtual.get(f"{resource.group_resource}/{subresource}")
        if handler is None:
            raise method_not_allowed()
        settle_identity(resource, obj, space)
        said = ensure_meta(obj).get("name") or object_name
        if said != object_name:
            text = f"must match the {_in_words(resource.kind)} name if specified"
            raise invalid_kind(sub.group, sub.kind, object_name, [FieldError.invalid("metadata.name", said, text)])
        obj["metadata"]["name"] = object_name
        return await handler(call, await self._admitted(call, resource, space, obj, subresource))


def _in_words(kind: str) -> str:
    """ServiceAccount is a service account."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", kind).lower()
