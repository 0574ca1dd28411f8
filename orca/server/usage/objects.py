"""NodeMetrics and PodMetrics as metrics-server makes them: the labels of what was measured, cpu in nanocores, memory in
Ki. Reference: k8s.io/metrics, sigs.k8s.io/metrics-server ``pkg/api``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import orjson

from orca.api.builtin import NODEMETRICS, NODES, PODMETRICS, PODS
from orca.api.durations import format_duration
from orca.api.objects import Obj, labels, name, namespace
from orca.api.resources import Resource
from orca.api.selectors import Selector
from orca.api.times import format_time
from orca.server.usage.collector import Collector, HostUse
from orca.server.usage.samples import Use
from orca.store import Entry, Store


def usage(use: Use) -> Obj:
    """As quantities."""
    return {"cpu": f"{use.cpu}n" if use.cpu else "0", "memory": f"{use.memory // 1024}Ki"}


def node_metrics(node: Obj, use: HostUse) -> Obj | None:
    """None while the host has not told what it uses itself."""
    own = use.uses.get(())
    if own is None:
        return None
    return {**_head(NODEMETRICS, node, [own]), "usage": usage(own)}


def pod_metrics(pod: Obj, use: HostUse) -> Obj | None:
    """None when nothing of the pod was measured."""
    keys = use.pods.get((namespace(pod), name(pod)))
    measured = [(key, use.uses[key]) for key in keys or () if key in use.uses]
    if not keys or len(measured) < len(keys):
        return None
    containers = [{"name": key[1], "usage": usage(one)} for key, one in measured]
    return {**_head(PODMETRICS, pod, [one for _, one in measured]), "containers": containers}


def _head(row: Resource, of: Obj, uses: Sequence[Use]) -> Obj:
    first = min(uses, key=lambda use: use.at)
    own: Obj = {"name": name(of), "creationTimestamp": format_time(first.at)}
    if namespace(of):
        own["namespace"] = namespace(of)
    if labels(of):
        own["labels"] = dict(labels(of))
    window = timedelta(milliseconds=round(first.window.total_seconds() * 1000))
    return {
        "kind": row.kind,
        "apiVersion": row.api_version,
        "metadata": own,
        "timestamp": format_time(first.at),
        "window": format_duration(window.total_seconds()),
    }


class UsageKinds:
    """Entries of the two kinds, computed when they are asked for."""

    def __init__(self, store: Store, collector: Collector) -> None:
        self._store = store
        self._collector = collector

    async def nodes(self, space: str, only: str, selected: Selector) -> list[Entry]:
        """All nodes of these labels, or the one of that name. Only their hosts are asked."""
        known = self._store.peek_list(NODES)
        self._collector.forget(name(node) for node in known)
        wanted = [node for node in known if (not only or name(node) == only) and selected.matches(labels(node))]
        found = await self._collector.of(name(node) for node in wanted)
        return self._entries(node_metrics(node, found[name(node)]) for node in wanted if name(node) in found)

    async def pods(self, space: str, only: str, selected: Selector) -> list[Entry]:
        """Running pods of a namespace ("": of all) with these labels, or the one of that name. Only their hosts are
        asked."""
        present = {name(node) for node in self._store.peek_list(NODES)}
        self._collector.forget(present)
        wanted = [
            pod
            for pod in self._store.peek_list(PODS, space)
            if (not only or name(pod) == only)
            and selected.matches(labels(pod))
            and (pod.get("status") or {}).get("phase") == "Running"
            and pod["spec"].get("nodeName") in present
        ]
        found = await self._collector.of(pod["spec"]["nodeName"] for pod in wanted)
        return self._entries(
            pod_metrics(pod, found[pod["spec"]["nodeName"]]) for pod in wanted if pod["spec"]["nodeName"] in found
        )

    def _entries(self, made: Iterable[Obj | None]) -> list[Entry]:
        revision = self._store.revision
        return [Entry(namespace(one), name(one), revision, one, orjson.dumps(one)) for one in made if one is not None]
