"""Owners and dependents of all objects, by uid. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from orca.api.objects import Obj, meta, owner_references
from orca.api.resources import Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Owner:
    """One owner reference."""

    uid: str
    api_version: str
    kind: str
    name: str
    blocks: bool


class Node(NamedTuple):
    """What is remembered of an object; one is made of every object that comes."""

    uid: str
    resource: Resource
    namespace: str
    name: str
    owners: tuple[Owner, ...]
    deleting: bool
    foreground: bool
    orphan: bool

    @property
    def waits_for_dependents(self) -> bool:
        """It is deleted in the foreground: its blocking dependents go first."""
        return self.deleting and self.foreground


def is_called(node: Node, reference: Owner) -> bool:
    """Whether kind, group and name of a reference are the object's; its version is only one way to see it."""
    group = reference.api_version.rpartition("/")[0]
    return (node.name, node.resource.kind, node.resource.group) == (reference.name, reference.kind, group)


def owners_of(obj: Obj) -> tuple[Owner, ...]:
    """The object's owner references."""
    return tuple(
        Owner(
            r["uid"], r.get("apiVersion", ""), r.get("kind", ""), r.get("name", ""), bool(r.get("blockOwnerDeletion"))
        )
        for r in owner_references(obj)
    )


def node_of(resource: Resource, obj: Obj) -> Node:
    """What the graph keeps of `obj`."""
    metadata = meta(obj)
    holders = metadata.get("finalizers") or ()
    return Node(
        metadata.get("uid") or "",
        resource,
        metadata.get("namespace") or "",
        metadata.get("name") or "",
        owners_of(obj) if metadata.get("ownerReferences") else (),
        bool(metadata.get("deletionTimestamp")),
        FOREGROUND in holders,
        ORPHAN in holders,
    )


def equal(old: Obj, new: Obj) -> bool:
    """Whether `node_of` is the same of two states of an object."""
    before, after = old["metadata"], new["metadata"]
    return all(before.get(part) == after.get(part) for part in ("ownerReferences", "finalizers", "deletionTimestamp"))


class Graph:
    """Nodes by uid and, for each owner's uid, its dependents' uids; an owner need not be known itself."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<Graph of {len(self._nodes)} objects, {len(self._dependents)} owners>"

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, identity: str) -> bool:
        return identity in self._nodes

    def get(self, identity: str) -> Node | None:
        """The node with that uid."""
        return self._nodes.get(identity)

    def dependents(self, identity: str) -> Iterator[Node]:
        """Known objects with an owner reference to that uid."""
        for dependent in tuple(self._dependents.get(identity, ())):
            node = self._nodes.get(dependent)
            if node is not None:
                yield node

    def blocking(self, identity: str) -> list[Node]:
        """Dependents that hold up a deletion in the foreground."""
        return [d for d in self.dependents(identity) if any(o.uid == identity and o.blocks for o in d.owners)]

    def put(self, node: Node) -> set[str]:
        """Takes in an object's state; answers the uids that have to be looked at because of it."""
        before = self._nodes.get(node.uid)
        if before == node:
            return set()
        self._nodes[node.uid] = node
        if before is None and not node.owners and not node.deleting:
            return set()
        former = {owner.uid for owner in before.owners} if before else set()
        current = {owner.uid for owner in node.owners}
        for gone in former - current:
            self._unlink(gone, node.uid)
        for added in current - former:
            self._dependents.setdefault(added, set()).add(node.uid)
        look = {owner for owner in former | current if self._waits(owner)}
        if look or not all(self.owner(reference, node) for reference in node.owners):
            look.add(node.uid)
        if node.deleting and (node.foreground or node.orphan):
            look.add(node.uid)
            if node.foreground and not (before and before.waits_for_dependents):
                look.update(self._dependents.get(node.uid, ()))
        return look

    def remove(self, identity: str) -> set[str]:
        """Forgets an object that is gone; answers the uids to look at: its dependents, and owners that waited."""
        node = self._nodes.pop(identity, None)
        look = set(self._dependents.get(identity, ()))
        if node is not None:
            for owner in {owner.uid for owner in node.owners}:
                self._unlink(owner, identity)
                if self._waits(owner):
                    look.add(owner)
        return look

    def remove_all_of(self, resource: Resource) -> None:
        """Forgets a resource that is no longer served, without judging its dependents."""
        for identity in [identity for identity, node in self._nodes.items() if node.resource == resource]:
            self.remove(identity)

    def owner(self, reference: Owner, dependent: Node) -> Node | None:
        """The object that an owner reference of `dependent` means, as far as it is known here: one of its uid that is
        called so, cluster-wide or in the dependent's namespace. None: the server has to be asked."""
        found = self._nodes.get(reference.uid)
        if found is None or found.namespace not in ("", dependent.namespace) or not is_called(found, reference):
            return None
        return found

    def _waits(self, identity: str) -> bool:
        owner = self._nodes.get(identity)
        return owner is not None and owner.waits_for_dependents

    def _unlink(self, owner: str, dependent: str) -> None:
        found = self._dependents.get(owner)
        if found is not None:
            found.discard(dependent)
            if not found:
                del self._dependents[owner]


class State(Enum):
    """What an owner reference turned out to mean."""

    SOLID = auto()
    """The owner exists: it keeps its dependents."""
    UNKNOWN = auto()
    """Nobody can tell: its kind is not served, or the reference is such that it can mean nothing."""
    DANGLING = auto()
    """There is no such owner (any more)."""
    WAITING = auto()
    """The owner is being deleted in the foreground and waits for this dependent."""


class Verdict(Enum):
    """What happens to an object that has owners."""

    KEEP = auto()
    DROP_REFERENCES = auto()
    """It has an owner left; the references to the others go."""
    DELETE = auto()
    DELETE_FOREGROUND = auto()


def judge(states: Iterable[State], *, has_dependents: bool) -> Verdict:
    """An object lives as long as one owner does."""
    found = set(states)
    if not found or State.UNKNOWN in found or found == {State.SOLID}:
        return Verdict.KEEP
    if State.SOLID in found:
        return Verdict.DROP_REFERENCES
    if State.WAITING in found and has_dependents:
        return Verdict.DELETE_FOREGROUND
    return Verdict.DELETE


def references_without(obj: Obj, gone: Mapping[str, State]) -> list[Obj]:
    """The owner references that stay when those whose state is not SOLID are dropped."""
    return [r for r in owner_references(obj) if gone.get(r["uid"], State.SOLID) is State.SOLID]
