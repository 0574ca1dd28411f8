"""`Names`: keeps the zone in step with Services, EndpointSlices and Namespaces as informers show them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator

import structlog

from agents.dns.keeping import Kept, Known
from agents.dns.zone import Zone
from orca.api.objects import Obj, key, labels, name, namespace
from orca.client.informer import Informer

log = structlog.get_logger()

TURN = 200
"""Services that are taken in before others of the agent have their turn."""


class Names:
    """``changed(service)`` is called when answers that depend on a Service ("namespace/name") may be others now, and
    with "" when only those may that depend on more than one (`Zone.owner_of`)."""

    def __init__(
        self,
        zone: Zone,
        services: Informer,
        slices: Informer,
        namespaces: Informer | None,
        changed: Callable[[str], None],
    ) -> None:
        self._zone = zone
        self._services = services
        self._slices = slices
        self._namespaces = namespaces
        self._changed = changed
        self._slices_of: dict[str, dict[str, Obj]] = {}
        self._following = False
        self._kept: Kept | None = None
        self._told = False
        self._complete = False

    @property
    def known(self) -> bool:
        """Whether the first lists are in, or what they were last: before, nothing can be denied."""
        return self._complete or self._kept is not None

    def start_with(self, kept: Kept) -> None:
        """Go by what was known to an agent before, until the API tells."""
        if self._told or self._kept is not None or not kept.services:
            return
        for service, slices in kept.services:
            self._put(key(service), service, slices)
        for space in kept.namespaces:
            self._zone.namespace_is(space)
        self._kept = kept

    async def run(self) -> None:
        """Takes the first lists in, together: a Service without its endpoints would be another one."""
        if self._complete:
            return
        await self._services.synced()
        await self._slices.synced()
        self._told = True
        former = [key(service) for service, _ in self._kept.services] if self._kept else []
        for number, service_key in enumerate(dict.fromkeys([*former, *map(key, self._services.list())])):
            self._renew(service_key)
            if number % TURN == TURN - 1:
                await asyncio.sleep(0)
        self._complete = True
        if self._kept is not None and self._namespaces is not None:
            await self._namespaces.synced()
            for space in self._kept.namespaces:
                self._zone.namespace_gone(space)
        self._kept = None
        self._changed("")

    def services(self) -> Iterator[Known]:
        """All that is known, once the API has told."""
        if not self._complete:
            return
        for service in self._services.list():
            yield service, tuple(self._slices_of.get(key(service), {}).values())

    def namespaces(self) -> list[str]:
        return [name(space) for space in self._namespaces.list()] if self._namespaces is not None else []

    def follow(self) -> None:
        """From now on; harmless when called again."""
        if self._following:
            return
        self._following = True
        self._services.on_change(lambda service: self._renew(key(service)))
        self._slices.on_add(self._slice_is)
        self._slices.on_update(self._slice_changed)
        self._slices.on_delete(self._slice_gone)
        if self._namespaces is not None:
            self._namespaces.on_add(self._namespace_is)
            self._namespaces.on_delete(self._namespace_gone)

    def _renew(self, service_key: str) -> None:
        if self._told:
            slices = self._slices_of.get(service_key, {}).values()
            self._put(service_key, self._services.get(service_key), slices)

    def _put(self, service_key: str, service: Obj | None, slices: Collection[Obj]) -> None:
        try:
            self._zone.put(service_key, service, slices)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # The API lets nothing of the kind pass; still, one bad object must not stop all others.
            log.error("a service has no names", service=service_key, error=repr(error))
        self._changed(service_key)

    def _slice_is(self, endpoint_slice: Obj) -> None:
        if owner := _owner(endpoint_slice):
            self._slices_of.setdefault(owner, {})[key(endpoint_slice)] = endpoint_slice
            self._renew(owner)

    def _slice_changed(self, old: Obj, new: Obj) -> None:
        if _owner(old) != _owner(new):
            self._slice_gone(old)
        self._slice_is(new)

    def _slice_gone(self, endpoint_slice: Obj) -> None:
        owner = _owner(endpoint_slice)
        slices = self._slices_of.get(owner, {})
        if slices.pop(key(endpoint_slice), None) is not None:
            if not slices:
                del self._slices_of[owner]
            self._renew(owner)

    def _namespace_is(self, obj: Obj) -> None:
        self._zone.namespace_is(name(obj))
        self._changed("")

    def _namespace_gone(self, obj: Obj) -> None:
        self._zone.namespace_gone(name(obj))
        self._changed("")


def _owner(endpoint_slice: Obj) -> str:
    owner = labels(endpoint_slice).get("kubernetes.io/service-name")
    return f"{namespace(endpoint_slice)}/{owner}" if owner else ""
