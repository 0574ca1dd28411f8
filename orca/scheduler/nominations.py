"""Pods that room was made for: until they come, nobody of less importance may have it.

They are counted in the snapshot as `awaited`, so that a decision about somebody else need not walk them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orca.api.objects import Obj, uid
from orca.scheduler.snapshot import Placed, Snapshot


class Nominations:
    """At most one node a pod. Invariant: exactly these pods are `awaited` in the snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._pods: dict[str, tuple[Obj, str]] = {}
        self._by_priority: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def node(self, pod_uid: str) -> str:
        """Where room was made for a pod; "" if nowhere."""
        found = self._pods.get(pod_uid)
        return found[1] if found else ""

    def add(self, pod: Obj, node: str) -> None:
        """Room was, or is being, made for a pod."""
        self.drop(uid(pod))
        self._pods[uid(pod)] = (pod, node)
        self._by_priority.setdefault(_priority(pod), set()).add(uid(pod))
        self._snapshot.place(pod, node, awaited=True)

    def drop(self, pod_uid: str) -> Placed | None:
        """It came, or is gone, or needs that room no longer. Answers the room that was kept till now."""
        found = self._pods.pop(pod_uid, None)
        if found is None:
            return None
        alike = self._by_priority[_priority(found[0])]
        alike.discard(pod_uid)
        if not alike:
            del self._by_priority[_priority(found[0])]
        placed = self._snapshot.placed.get(pod_uid)
        if placed is not None and placed.awaited:
            return self._snapshot.remove(pod_uid)
        return None

    def less_important(self, node: str, priority: int) -> list[Obj]:
        """Those awaited on a node that have to make way for a pod of this priority."""
        return [
            self._pods[placed.uid][0]
            for placed in self._snapshot.by_node.get(node, {}).values()
            if placed.awaited and placed.priority < priority
        ]

    @contextmanager
    def apart(self, pod: Obj) -> Iterator[None]:
        """The snapshot without what is no obstacle to this pod: its own room, and that of the less important."""
        priority = _priority(pod)
        aside: list[Placed] = []
        lower = [one for rank, found in self._by_priority.items() if rank < priority for one in found]
        for pod_uid in (uid(pod), *lower) if self._pods else ():
            placed = self._snapshot.placed.get(pod_uid)
            if placed is not None and placed.awaited:
                self._snapshot.remove(pod_uid)
                aside.append(placed)
        try:
            yield
        finally:
            for placed in aside:
                self._snapshot.put(placed)


def _priority(pod: Obj) -> int:
    return int(pod["spec"].get("priority") or 0)
