"""Which addresses the sets of pods contain at the moment: kept up pod by pod, so that a change costs what it changes.

Pure: told of pods and namespaces, it answers elements. `PeerIndex.elements` of a set that nothing has touched is the
very object it was before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from agents.policy.addresses import PodSet
from agents.policy.model import Pod

Labels = Mapping[str, str]


class PeerIndex:
    """Sets that are wanted, with their elements. ``everybody`` lists all pods there are, for sets that are new."""

    def __init__(self, everybody: Callable[[], Iterable[Pod]], namespace: Callable[[str], Labels | None]) -> None:
        self._everybody = everybody
        self._namespace = namespace
        self._counts: dict[PodSet, Counter[str]] = {}
        self._frozen: dict[PodSet, frozenset[str]] = {}
        self._by_namespace: dict[str, tuple[PodSet, ...]] = {}
        self._stale: set[PodSet] = set()
        """Wanted, and to be filled when somebody asks."""

    def __repr__(self) -> str:
        return f"<PeerIndex {len(self._counts)} sets>"

    def want(self, sets: Collection[PodSet]) -> None:
        """Keep exactly these sets."""
        gone = [one for one in self._counts if one not in sets]
        new = [one for one in sets if one not in self._counts]
        for one in gone:
            del self._counts[one]
            self._frozen.pop(one, None)
            self._stale.discard(one)
        self._renew(new)

    def elements(self, wanted: PodSet) -> frozenset[str]:
        """Of a wanted set. KeyError for others."""
        if wanted in self._stale:
            self._fill()
        found = self._frozen.get(wanted)
        if found is None:
            found = self._frozen[wanted] = frozenset(self._counts[wanted])
        return found

    def change(self, before: Pod | None, after: Pod | None) -> bool:
        """A pod came, changed or went; True when that changes a set."""
        changed = False
        for pod, sign in ((before, -1), (after, 1)):
            if pod is None:
                continue
            its_labels = self._namespace(pod.namespace)
            for one in self._concerned(pod.namespace, its_labels):
                for element in one.elements(pod, its_labels):
                    self._count(one, element, sign)
                    changed = True
        return changed

    def namespace_changed(self) -> None:
        """The labels of a namespace changed: sets that select by them are filled anew."""
        self._renew([one for one in self._counts if any(not peer.namespace for peer in one.peers)])

    def _renew(self, sets: Iterable[PodSet]) -> None:
        for one in sets:
            self._counts[one] = Counter()
            self._frozen.pop(one, None)
            self._stale.add(one)
        self._by_namespace.clear()

    def _fill(self) -> None:
        filling, self._stale = self._stale, set()
        self._by_namespace.clear()
        for pod in self._everybody():
            its_labels = self._namespace(pod.namespace)
            for one in self._concerned(pod.namespace, its_labels):
                if one in filling:
                    for element in one.elements(pod, its_labels):
                        self._counts[one][element] += 1

    def _concerned(self, namespace: str, its_labels: Labels | None) -> tuple[PodSet, ...]:
        found = self._by_namespace.get(namespace)
        if found is None:
            known = (one for one in self._counts if one not in self._stale)
            found = tuple(one for one in known if one.may_mean(namespace, its_labels))
            self._by_namespace[namespace] = found
        return found

    def _count(self, one: PodSet, element: str, by: int) -> None:
        # Counted, for two pods may have one address for a moment.
        counts = self._counts[one]
        had = element in counts
        counts[element] += by
        if counts[element] <= 0:
            del counts[element]
        if (element in counts) != had:
            self._frozen.pop(one, None)
