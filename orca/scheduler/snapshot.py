"""The cluster as arrays over nodes, updated by what changed; a decision never walks all pods.

Every node has a slot (row); freed slots are used again. `alive` says which rows are nodes. Amounts are int64: cpu in
thousandths, everything else in bytes or pieces. Invariant: `used`, `nonzero`, `ports` and every counter of `counts` are
the sums over exactly the pods in `placed` whose node has a slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from orca.api.objects import Obj, is_terminating, labels, name, namespace
from orca.api.selectors import Selector
from orca.scheduler.shape import HostPort, PodTerm, Shape, amounts, shape_of
from orca.scheduler.terms import SelectorIndex
from orca.scheduler.volumes import Volumes, claim_keys

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]
"""Indices of rows."""

RESOURCES = ("cpu", "memory", "ephemeral-storage", "pods")
CPU, MEMORY, STORAGE, PODS = range(4)
HOSTNAME = "kubernetes.io/hostname"
COUNTERS = 1000
MEMORY_ANSWERS = 10_000
CHANGES = 200_000
KEPT_ROWS = 2_000_000
NO_CLAIMS: frozenset[str] = frozenset()
T = TypeVar("T")
S = TypeVar("S", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Node:
    """What decisions need of one node."""

    name: str
    labels: dict[str, str]
    taints: tuple[Obj, ...]
    unschedulable: bool
    images: dict[str, int]
    """image name -> size in bytes"""
    obj: Obj


@dataclass(frozen=True, slots=True)
class Placed:
    """A pod that occupies (or will occupy) a node."""

    uid: str
    key: str
    namespace: str
    labels: dict[str, str]
    node: str
    priority: int
    started: str
    terminating: bool
    shape: Shape
    claims: frozenset[str] = frozenset()
    """ "namespace/name" of the claims among its volumes."""
    awaited: bool = False
    """It is not there yet: room was made for it (it is nominated), and nobody of less importance may take that."""
    containers: Any = field(default=None, compare=False, repr=False)
    """What its shape was read from."""


@dataclass(slots=True)
class _Count:
    """How many pods a question finds on each node."""

    asks: Callable[[Placed], bool]
    per_node: Ints
    selector: Selector
    by_space_labels: bool
    """Whether the answer depends on the labels of namespaces."""


@dataclass(slots=True)
class _Kept:
    """An answer for each row, right but for the rows that changed after the first `seen` changes."""

    values: NDArray[Any]
    seen: int


Carried = tuple[str, PodTerm, str]
"""(kind of term, term, namespace of the pods that carry it)"""
ANTI, REQUIRED, PREFERRED = "anti", "required", "preferred"


@dataclass(slots=True)
class Topology:
    """The domains of one label: `domain[slot]` numbers them, -1 without the label."""

    domain: Ints
    size: int
    names: list[str] = field(default_factory=list)


class Snapshot:
    """See the module's docstring. `version` changes whenever a node (not its pods) does."""

    def __init__(self) -> None:
        self.version = 0
        self.columns = {resource: number for number, resource in enumerate(RESOURCES)}
        self.slots: dict[str, int] = {}
        self.nodes: list[Node | None] = []
        self.alive: Mask = np.zeros(0, dtype=bool)
        self.allocatable: Ints = np.zeros((0, len(RESOURCES)), dtype=np.int64)
        self.used: Ints = np.zeros((0, len(RESOURCES)), dtype=np.int64)
        self.nonzero: Ints = np.zeros((0, 2), dtype=np.int64)
        self.ports: list[Counter[HostPort]] = []
        self.placed: dict[str, Placed] = {}
        self.by_node: dict[str, dict[str, Placed]] = {}
        self._counts: dict[object, _Count] = {}
        self._counted: SelectorIndex[object] = SelectorIndex()
        self._carried: dict[Carried, Ints] = {}
        self.generation: Ints = np.zeros(0, dtype=np.int64)
        """Of each row: changes with its node and the node's pods."""
        self._changes: list[int] = []
        """Rows in the order in which they changed."""
        self._kept: dict[tuple[Shape, object], _Kept] = {}
        self._topologies: dict[str, Topology] = {}
        self._free: list[int] = []
        self._names: tuple[str, ...] | None = None
        self._memory: dict[tuple[Shape, str], object] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.storage = Volumes()
        self.image_nodes: Counter[str] = Counter()
        self.taints: Counter[str] = Counter()
        """Of all nodes, by effect."""
        self.carriers: Counter[Carried] = Counter()
        """Terms of placed pods about other pods, each with how many pods carry it."""
        self._terms: dict[str, SelectorIndex[Carried]] = {kind: SelectorIndex() for kind in (ANTI, REQUIRED, PREFERRED)}

    def __repr__(self) -> str:
        return f"<Snapshot {len(self.slots)} nodes, {len(self.placed)} pods>"

    @property
    def size(self) -> int:
        """Rows of the arrays, including free ones."""
        return len(self.nodes)

    def names(self) -> tuple[str, ...]:
        """Names of the nodes by row, "" in free ones."""
        if self._names is None:
            self._names = tuple(node.name if node is not None else "" for node in self.nodes)
        return self._names

    # --- nodes -------------------------------------------------------------------------------------------------------

    def set_node(self, obj: Obj) -> None:
        """Takes a new or changed node."""
        node = _node(obj)
        slot = self.slots.get(node.name)
        if slot is None:
            slot = self._take_slot()
            self.slots[node.name] = slot
        old = self.nodes[slot]
        if old is not None:
            self._tally(old, -1)
        self._tally(node, 1)
        self.nodes[slot] = node
        fresh = not self.alive[slot]
        self.alive[slot] = True
        self._touch(slot)
        self._set_allocatable(slot, (obj.get("status") or {}).get("allocatable") or {})
        if fresh or old is None or _differs(old, node):
            self._nodes_changed()
        if fresh:
            for placed in self.by_node.get(node.name, {}).values():
                self._count(placed, slot, 1)

    def remove_node(self, node_name: str) -> None:
        """Its pods stay known: they count again when the node comes back."""
        slot = self.slots.pop(node_name, None)
        if slot is None:
            return
        old = self.nodes[slot]
        if old is not None:
            self._tally(old, -1)
        self.nodes[slot] = None
        self.alive[slot] = False
        for array in (self.allocatable, self.used, self.nonzero):
            array[slot] = 0
        self.ports[slot] = Counter()
        for count in self._counts.values():
            count.per_node[slot] = 0
        for carried in self._carried.values():
            carried[slot] = 0
        self._touch(slot)
        self._free.append(slot)
        self._nodes_changed()

    def _tally(self, node: Node, sign: int) -> None:
        for image in node.images:
            self.image_nodes[image] += sign
        for taint in node.taints:
            self.taints[taint["effect"]] += sign

    def _nodes_changed(self) -> None:
        self.version += 1
        self._names = None
        self._topologies.clear()
        self._memory.clear()

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self.nodes)
        self.nodes.append(None)
        self.ports.append(Counter())
        more = slot + 1
        self.generation = _grown(self.generation, more)
        self.alive = np.resize(self.alive, more)
        self.alive[slot] = False
        self.allocatable = _grown(self.allocatable, more)
        self.used = _grown(self.used, more)
        self.nonzero = _grown(self.nonzero, more)
        for count in self._counts.values():
            count.per_node = _grown(count.per_node, more)
        for key, carried in self._carried.items():
            self._carried[key] = _grown(carried, more)
        return slot

    def _set_allocatable(self, slot: int, quantities: dict[str, str]) -> None:
        row = amounts(quantities)
        for resource in row:
            self.column(resource)
        self.allocatable[slot] = 0
        for resource, amount in row.items():
            self.allocatable[slot, self.columns[resource]] = amount

    def column(self, resource: str) -> int:
        """The column of a resource, made when it is new."""
        found = self.columns.get(resource)
        if found is None:
            found = self.columns[resource] = len(self.columns)
            self.allocatable = np.pad(self.allocatable, ((0, 0), (0, 1)))
            self.used = np.pad(self.used, ((0, 0), (0, 1)))
        return found

    def topology(self, key: str) -> Topology:
        """The domains of a node label, as the nodes are now."""
        found = self._topologies.get(key)
        if found is None:
            numbers: dict[str, int] = {}
            domain = np.full(self.size, -1, dtype=np.int64)
            for slot, node in enumerate(self.nodes):
                if node is not None and key in node.labels:
                    domain[slot] = numbers.setdefault(node.labels[key], len(numbers))
            found = self._topologies[key] = Topology(domain, len(numbers), list(numbers))
        return found

    # --- pods --------------------------------------------------------------------------------------------------------

    def place(self, pod: Obj, node: str, *, awaited: bool = False, shape: Shape | None = None) -> Placed:
        """Counts a pod on a node; a pod already counted there (assumed earlier) is not counted twice. `shape`: the
        pod's, where it is known."""
        metadata, spec = pod["metadata"], pod["spec"]
        old = self.placed.get(metadata["uid"])
        if shape is None:
            known = old is not None and old.containers is spec["containers"] and _is_settled(pod)
            shape = old.shape if old is not None and known else shape_of(pod)
        placed = Placed(
            uid=metadata["uid"],
            key=f"{namespace(pod)}/{name(pod)}",
            namespace=namespace(pod),
            labels=labels(pod),
            node=node,
            priority=int(spec.get("priority") or 0),
            started=(pod.get("status") or {}).get("startTime") or "",
            terminating=is_terminating(pod),
            shape=shape,
            claims=claim_keys(pod) if spec.get("volumes") else NO_CLAIMS,
            awaited=awaited,
            containers=spec["containers"],
        )
        if old is not None:
            if old.node == node and old.shape is shape and old.awaited == awaited:
                self._renew(old, placed)
                return placed
            self.remove(placed.uid)
        self.put(placed)
        return placed

    def _renew(self, old: Placed, placed: Placed) -> None:
        """A pod that takes the same of the same node: only who looks at its labels counts it anew."""
        self.placed[placed.uid] = placed
        self.by_node[placed.node][placed.uid] = placed
        slot = self.slots.get(placed.node)
        if slot is None or old == placed:
            return
        # Whom preemption would end there may be others now; what the node has to offer is the same.
        self.generation[slot] += 1
        if old.labels == placed.labels and old.terminating == placed.terminating:
            return
        for one, sign in ((old, -1), (placed, 1)):
            for question in self._counted.about(one.labels):
                count = self._counts[question]
                if count.asks(one):
                    count.per_node[slot] += sign

    def put(self, placed: Placed) -> None:
        """Counts a pod that is not counted yet, e.g. one just removed to see what that would change."""
        self.placed[placed.uid] = placed
        self.by_node.setdefault(placed.node, {})[placed.uid] = placed
        for key in _carries(placed):
            if key not in self.carriers:
                self._terms[key[0]].add(key, key[1].selector)
            self.carriers[key] += 1
        slot = self.slots.get(placed.node)
        if slot is not None:
            self._count(placed, slot, 1)

    def remove(self, pod_uid: str) -> Placed | None:
        """Forgets a pod that is gone or over."""
        placed = self.placed.pop(pod_uid, None)
        if placed is None:
            return None
        pods = self.by_node[placed.node]
        del pods[pod_uid]
        if not pods:
            del self.by_node[placed.node]
        for key in _carries(placed):
            self.carriers[key] -= 1
            if not self.carriers[key]:
                del self.carriers[key]
                self._carried.pop(key, None)
                self._terms[key[0]].discard(key, key[1].selector)
        slot = self.slots.get(placed.node)
        if slot is not None:
            self._count(placed, slot, -1)
        return placed

    def _count(self, placed: Placed, slot: int, sign: int) -> None:
        shape = placed.shape
        for resource, amount in shape.requests.items():
            column = self.column(resource)
            self.used[slot, column] += sign * amount
        self.used[slot, PODS] += sign
        self.nonzero[slot, 0] += sign * shape.nonzero[0]
        self.nonzero[slot, 1] += sign * shape.nonzero[1]
        for port in shape.ports:
            self.ports[slot][port] += sign
            if not self.ports[slot][port]:
                del self.ports[slot][port]
        for question in self._counted.about(placed.labels):
            count = self._counts[question]
            if count.asks(placed):
                count.per_node[slot] += sign
        for key in _carries(placed):
            carried = self._carried.get(key)
            if carried is not None:
                carried[slot] += sign
        self._touch(slot)

    def _touch(self, slot: int) -> None:
        self.generation[slot] += 1
        self._changes.append(slot)
        if len(self._changes) > CHANGES:
            self._changes.clear()
            self._kept.clear()

    def kept(self, shape: Shape, question: object, answer: Callable[[Rows], NDArray[S]]) -> NDArray[S]:
        """`answer(rows)` for all rows, where each row's depends on nothing but that node and its pods: worked out anew
        only for rows that changed. Not to be written to."""
        found = self._kept.get((shape, question))
        if found is None or len(found.values) != self.size:
            if len(self._kept) * self.size >= KEPT_ROWS:
                self._kept.clear()
            values = answer(np.arange(self.size))
            self._kept[shape, question] = _Kept(values, len(self._changes))
            return values
        if found.seen < len(self._changes):
            news = self._changes[found.seen :]
            changed = np.array(news if len(news) == 1 else list(set(news)), dtype=np.intp)
            found.values[changed] = answer(changed)
            found.seen = len(self._changes)
        return cast("NDArray[S]", found.values)

    def counts(
        self, question: object, selector: Selector, asks: Callable[[Placed], bool], by_space_labels: bool = False
    ) -> Ints:
        """Pods per row for which `asks` holds; kept up to date under the hashable name `question` from then on.

        `asks` must hold only for pods that `selector` matches. With `by_space_labels` the answer depends on the labels
        of namespaces.
        """
        found = self._counts.get(question)
        if found is None:
            if len(self._counts) >= COUNTERS:
                self._forget(next(iter(self._counts)))
            per_node = self._sum(lambda placed: int(asks(placed)))
            found = self._counts[question] = _Count(asks, per_node, selector, by_space_labels)
            self._counted.add(question, selector)
        return found.per_node

    def _sum(self, amount: Callable[[Placed], int]) -> Ints:
        per_node = np.zeros(self.size, dtype=np.int64)
        for node, pods in self.by_node.items():
            slot = self.slots.get(node)
            if slot is not None:
                per_node[slot] = sum(amount(placed) for placed in pods.values())
        return per_node

    def _forget(self, question: object) -> None:
        self._counted.discard(question, self._counts.pop(question).selector)

    def matching(self, space: str, selector: Selector) -> Ints:
        """Pods of a namespace that a selector matches and that stay, per row."""

        def asks(placed: Placed) -> bool:
            return placed.namespace == space and not placed.terminating and selector.matches(placed.labels)

        return self.counts((space, selector), selector, asks)

    def carried(self, carried: Carried) -> Ints:
        """How often pods of each row carry a term."""
        found = self._carried.get(carried)
        if found is None:
            if len(self._carried) >= COUNTERS:
                self._carried.pop(next(iter(self._carried)))
            found = self._carried[carried] = self._sum(lambda placed: _carries(placed).count(carried))
        return found

    def terms_about(self, kind: str, space: str, pod_labels: dict[str, str]) -> list[Carried]:
        """Terms of placed pods that a pod with these labels in this namespace meets."""
        return [
            key
            for key in self._terms[kind].about(pod_labels)
            if key[1].selector.matches(pod_labels) and self.concerns(key[1], space)
        ]

    def remembered(self, shape: Shape, question: str, answer: Callable[[], T]) -> T:
        """`answer()`, which depends on nodes and shape only, computed once until a node changes."""
        found = self._memory.get((shape, question))
        if found is None:
            if len(self._memory) > MEMORY_ANSWERS:
                self._memory.clear()
            found = self._memory[shape, question] = answer()
        return cast(T, found)

    # --- namespaces --------------------------------------------------------------------------------------------------

    def set_namespace(self, obj: Obj) -> None:
        """Terms choose namespaces by their labels."""
        if self.namespaces.get(name(obj)) != labels(obj):
            self.namespaces[name(obj)] = labels(obj)
            for question in [one for one, count in self._counts.items() if count.by_space_labels]:
                self._forget(question)

    def remove_namespace(self, space: str) -> None:
        self.namespaces.pop(space, None)

    def concerns(self, term: PodTerm, space: str) -> bool:
        """Whether a term is about pods of namespace `space`."""
        if space in term.namespaces:
            return True
        chosen = term.namespace_selector
        return chosen is not None and chosen.matches(self.namespaces.get(space, {}))


def _is_settled(pod: Obj) -> bool:
    """Whether what a pod asks for is in its containers alone: it is not being resized, and matches by no labels."""
    spec = pod["spec"]
    if spec.get("resources") or spec.get("initContainers") or spec.get("topologySpreadConstraints"):
        return False
    return not (pod.get("status") or {}).get("containerStatuses")


def _carries(placed: Placed) -> list[Carried]:
    shape = placed.shape
    if not (shape.anti_affinity or shape.affinity or shape.preferred_affinity):
        return []
    space = placed.namespace
    return [
        *((ANTI, term, space) for term in shape.anti_affinity),
        *((REQUIRED, term, space) for term in shape.affinity),
        *((PREFERRED, term, space) for term in shape.preferred_affinity),
    ]


def _node(obj: Obj) -> Node:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    images = {one: int(image.get("sizeBytes") or 0) for image in status.get("images") or () for one in image["names"]}
    taints = tuple(spec.get("taints") or ())
    return Node(name(obj), labels(obj), taints, bool(spec.get("unschedulable")), images, obj)


def _differs(old: Node, new: Node) -> bool:
    parts = ("labels", "taints", "unschedulable", "images")
    return any(getattr(old, part) != getattr(new, part) for part in parts)


def _grown(array: Ints, rows: int) -> Ints:
    return np.pad(array, ((0, rows - len(array)),) + ((0, 0),) * (array.ndim - 1))
