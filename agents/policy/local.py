"""The pods of this host, with the addresses they have: those that are being started as soon as they have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from agents.origin import mirrored
from agents.policy.model import Pod, pod_of
from orca.api.objects import Obj, key, uid
from orca.client.informer import Informer


@dataclass(frozen=True, slots=True)
class _Seen:
    """A pod in the API; of a mirror pod the uid of what it mirrors."""

    uid: str
    pod: Pod | None


@dataclass(frozen=True, slots=True)
class _Attached:
    """A pod whose network was set up, as it was then."""

    uid: str
    obj: Obj
    addresses: tuple[str, ...]


class LocalPods:
    """What the API tells of this host's pods, and what this host knows before the API does. ``changed`` is called when
    `pods` may answer something else."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._informer: Informer | None = None
        self._followed = asyncio.Event()
        self._replaced = asyncio.Event()
        """Somebody else is heard instead of whom `synced` waits for, who may never have told."""
        self._seen: dict[str, _Seen] = {}
        self._former: dict[str, _Seen] = {}
        """What was told before by whom nobody hears any more: it stands until all pods have been told of again."""
        self._attached: dict[str, _Attached] = {}

    def __repr__(self) -> str:
        return f"<LocalPods {len(self._seen)} seen, {len(self._attached)} attached>"

    @property
    def known(self) -> bool:
        """Whether every pod of this host has been told of."""
        return self._informer is not None and self._informer.is_synced

    async def synced(self) -> None:
        """Returns once they are `known`."""
        while not self.known:
            await self._followed.wait()
            if self._informer is None:
                continue
            waits: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(self._informer.synced()),
                asyncio.ensure_future(self._replaced.wait()),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waits:
                    one.cancel()

    def follow(self, informer: Informer) -> None:
        """Hear of this host's pods from there, and from nowhere else any more."""
        self._informer, self._seen, self._former = informer, {}, {**self._former, **self._seen}
        self._followed.set()
        self._replaced.set()
        self._replaced = asyncio.Event()
        informer.on_add(lambda obj: self._is(informer, obj))
        informer.on_update(lambda _, obj: self._is(informer, obj))
        informer.on_delete(lambda obj: self._is_gone(informer, obj))
        self._changed()

    def attach(self, obj: Obj, pod_uid: str, addresses: Iterable[str]) -> None:
        """A pod has its addresses. They count until `detach`, whatever its status says."""
        attached = _Attached(pod_uid, obj, tuple(addresses))
        former = self._attached.get(pod_uid)
        self._attached[pod_uid] = attached
        if former is None or former.addresses != attached.addresses:
            self._changed()

    def detach(self, pod_uid: str) -> None:
        """Nothing of the pod runs any more."""
        if self._attached.pop(pod_uid, None):
            self._changed()

    def keep_only(self, live: Collection[str]) -> None:
        """Nothing runs of pods other than these."""
        for pod_uid in [one for one in self._attached if one not in live]:
            self.detach(pod_uid)

    def pods(self) -> list[Pod]:
        """Those that policies may concern."""
        found: list[Pod] = []
        claimed = {address for one in self._attached.values() for address in one.addresses}
        for one in self._attached.values():
            seen = self._seen.get(key(one.obj)) or self._former.get(key(one.obj))
            if seen is None or seen.uid != one.uid:
                pod = pod_of(one.obj, one.addresses)
            else:
                pod = replace(seen.pod, addresses=one.addresses) if seen.pod is not None else None
            if pod is not None:
                found.append(pod)
        if self.known:
            self._former = {}
        for seen in {**self._former, **self._seen}.values():
            if seen.pod is not None and seen.uid not in self._attached:
                # An address that was given to another pod since is not this one's any more, whatever its status says.
                found.append(replace(seen.pod, addresses=tuple(a for a in seen.pod.addresses if a not in claimed)))
        return found

    def _is(self, informer: Informer, obj: Obj) -> None:
        if informer is not self._informer:
            return
        now = _Seen(mirrored(obj) or uid(obj), pod_of(obj))
        if self._seen.get(key(obj)) != now:
            self._seen[key(obj)] = now
            self._changed()

    def _is_gone(self, informer: Informer, obj: Obj) -> None:
        if informer is self._informer and self._seen.pop(key(obj), None) is not None:
            self._changed()
