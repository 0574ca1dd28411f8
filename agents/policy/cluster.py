"""The pods of the whole cluster, as far as policies of this host's pods mean them by selectors.

They are not watched before a rule needs it, little is kept of each, and all of it is given back some time after the
last rule went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from agents.policy.model import Pod, dns_pod, pod_of, slim
from agents.policy.peers import PeerIndex
from orca.api.builtin import PODS
from orca.api.objects import key, labels
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.informer import Informer

LINGER_SECONDS = 60.0
"""How long nobody has to need it before it goes: pods of a rollout come back."""
_FIELDS = "spec.hostNetwork=false,status.phase!=Failed,status.phase!=Succeeded"


class ClusterPods:
    """``index`` has the addresses that selectors mean; ``changed`` is called when one of its sets is another one."""

    def __init__(
        self,
        client: Client,
        namespaces: Informer,
        *,
        dns: Sequence[str],
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._dns = dns_pod(dns)
        self._changed = changed
        self._clock = clock
        self._pods: Informer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._unneeded_since: float | None = None
        self._present: dict[str, Pod] = {}
        self.index = PeerIndex(self._everybody, self._labels)
        namespaces.on_add(lambda _: self._namespace_changed())
        namespaces.on_update(lambda old, new: self._namespace_changed() if labels(old) != labels(new) else None)
        namespaces.on_delete(lambda _: self._namespace_changed())

    def __repr__(self) -> str:
        return f"<ClusterPods {len(self._pods) if self._pods is not None else 'unneeded'}>"

    @property
    def known(self) -> bool:
        """Whether all of it has been told of."""
        return self._pods is not None and self._pods.is_synced and self._namespaces.is_synced

    async def synced(self) -> None:
        """Returns once it is `known`; at once while nobody needs it."""
        if self._pods is not None:
            await self._namespaces.synced()
            await self._pods.synced()

    def need(self, needed: bool) -> None:
        """Whether any rule has to know."""
        if needed:
            self._unneeded_since = None
            if self._pods is None:
                self._start()
        elif self._pods is not None and self._unneeded_since is None:
            self._unneeded_since = self._clock.monotonic()

    def tidy(self) -> None:
        """Give back what nobody has needed for a while."""
        since = self._unneeded_since
        if since is not None and self._clock.monotonic() - since >= LINGER_SECONDS:
            self.close()

    def close(self) -> None:
        """Stop watching; forget everything."""
        for task in self._tasks:
            task.cancel()
        self._tasks, self._pods, self._unneeded_since = [], None, None
        self._present = {}
        self.index = PeerIndex(self._everybody, self._labels)

    def _start(self) -> None:
        pods = Informer(self._client, PODS, fields=_FIELDS, transform=slim, clock=self._clock)
        pods.on_add(lambda obj: self._pod_is(key(obj), pod_of(obj)))
        pods.on_update(lambda _, obj: self._pod_is(key(obj), pod_of(obj)))
        # One that ends leaves with the state that takes it out of the selection.
        pods.on_delete(lambda obj: self._pod_is(key(obj), None))
        self._pods = pods
        self._tasks = [
            asyncio.create_task(pods.run(), name="informer pods of policies"),
            asyncio.create_task(self._tell_when_synced()),
        ]

    async def _tell_when_synced(self) -> None:
        await self.synced()
        self._changed()

    def _pod_is(self, pod_key: str, pod: Pod | None) -> None:
        before = self._present.pop(pod_key, None)
        if pod is not None:
            self._present[pod_key] = pod
        if before != pod and self.index.change(before, pod):
            self._changed()

    def _namespace_changed(self) -> None:
        if self._pods is not None:
            self.index.namespace_changed()
            self._changed()

    def _everybody(self) -> Iterator[Pod]:
        yield self._dns
        yield from self._present.values()

    def _labels(self, namespace: str) -> Mapping[str, str] | None:
        found = self._namespaces.get(namespace)
        return labels(found) if found is not None else None
