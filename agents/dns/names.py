"""`Names`: keeps the zone in step with Services, EndpointSlices and Namespaces as informers show them."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from agents.dns.zone import Zone
from orca.api.objects import Obj, key, labels, name, namespace
from orca.client.informer import Informer

log = structlog.get_logger()


class Names:
    """``changed()`` is called when an answer may be another one now."""

    def __init__(
        self,
        zone: Zone,
        services: Informer,
        slices: Informer,
        namespaces: Informer | None,
        changed: Callable[[], None],
    ) -> None:
        self._zone = zone
        self._services = services
        self._slices = slices
        self._namespaces = namespaces
        self._changed = changed
        self._slices_of: dict[str, dict[str, Obj]] = {}
        self._following = False

    @property
    def known(self) -> bool:
        """Whether the first lists are in: before, nothing can be denied."""
        return self._services.is_synced and self._slices.is_synced

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
        service = self._services.get(service_key)
        try:
            self._zone.put(service_key, service, self._slices_of.get(service_key, {}).values())
        except (KeyError, TypeError, ValueError) as error:
            # The API lets nothing of the kind pass; still, one bad object must not stop all others.
            log.error("a service has no names", service=service_key, error=repr(error))
        self._changed()

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
        self._changed()

    def _namespace_gone(self, obj: Obj) -> None:
        self._zone.namespace_gone(name(obj))
        self._changed()


def _owner(endpoint_slice: Obj) -> str:
    owner = labels(endpoint_slice).get("kubernetes.io/service-name")
    return f"{namespace(endpoint_slice)}/{owner}" if owner else ""
