"""Which FlowSchema a request belongs to, and which flow within it. Pure.

Reference: k8s.io/apiserver ``pkg/util/flowcontrol/rule.go`` and ``shufflesharding``.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca.api.objects import Obj
from orca.auth.identity import UserInfo, service_account_of
from orca.server.fairness.levels import Level

_ALL = "*"
_BOUNDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
"""Seconds: upstream's buckets of waiting and executing times, without the first (0)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides about its flow. ``path`` is set for what is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    """With its subresource: ``pods/status``."""
    namespace: str = ""
    path: str = ""


def _has(wanted: Sequence[str], value: str) -> bool:
    return value in wanted or _ALL in wanted


def _subject(subject: Obj) -> Callable[[UserInfo], bool]:
    kind = subject.get("kind")
    if kind == "User":
        name = (subject.get("user") or {}).get("name")
        return lambda user: name in (_ALL, user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return lambda user: name == _ALL or name in user.groups
    account = subject.get("serviceAccount") or {}
    space, name = account.get("namespace"), account.get("name")

    def is_account(user: UserInfo) -> bool:
        found = service_account_of(user.name)
        return found is not None and found[0] == space and name in (_ALL, found[1])

    return is_account


def _resource_rule(rule: Obj, asked: Asked) -> bool:
    if not (
        _has(rule.get("verbs") or (), asked.verb)
        and _has(rule.get("apiGroups") or (), asked.group)
        and _has(rule.get("resources") or (), asked.resource)
    ):
        return False
    if not asked.namespace:
        return bool(rule.get("clusterScope"))
    return _has(rule.get("namespaces") or (), asked.namespace)


def _path_rule(rule: Obj, asked: Asked) -> bool:
    if not _has(rule.get("verbs") or (), asked.verb):
        return False
    for url in rule.get("nonResourceURLs") or ():
        if url in (_ALL, asked.path):
            return True
        if url.endswith("/*") and asked.path.startswith(url[:-1]):
            return True
    return False


class Schema:
    """A FlowSchema, ready to match."""

    def __init__(self, obj: Obj) -> None:
        spec = obj.get("spec") or {}
        self.name: str = obj["metadata"]["name"]
        self.uid: str = obj["metadata"].get("uid") or ""
        self.level_name: str = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
        self.precedence: int = spec.get("matchingPrecedence") or 0
        self.by: str = (spec.get("distinguisherMethod") or {}).get("type") or ""
        self._rules: list[tuple[list[Callable[[UserInfo], bool]], list[Obj], list[Obj]]] = [
            (
                [_subject(one) for one in rule.get("subjects") or ()],
                list(rule.get("resourceRules") or ()),
                list(rule.get("nonResourceRules") or ()),
            )
            for rule in spec.get("rules") or ()
        ]

    def matches(self, user: UserInfo, asked: Asked) -> bool:
        """Whether one of the rules covers subject and request."""
        for subjects, resources, paths in self._rules:
            if not any(one(user) for one in subjects):
                continue
            if asked.path:
                if any(_path_rule(rule, asked) for rule in paths):
                    return True
            elif any(_resource_rule(rule, asked) for rule in resources):
                return True
        return False

    def distinguisher(self, user: UserInfo, asked: Asked) -> str:
        """What tells the flows of this schema apart."""
        if self.by == "ByUser":
            return user.name
        return asked.namespace if self.by == "ByNamespace" else ""


@dataclass(slots=True)
class Times:
    """A histogram of seconds that costs little to fill."""

    count: int = 0
    total: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 2))

    def add(self, seconds: float) -> None:
        """One more observation."""
        self.count += 1
        self.total += seconds
        self.buckets[1 + bisect_left(_BOUNDS, seconds) if seconds > 0 else 0] += 1

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, how many up to it), as the exposition wants them."""
        found, so_far = [], 0
        for bound, count in zip(("0.0", *map(str, _BOUNDS), "+Inf"), self.buckets, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found


@dataclass(slots=True)
class Stats:
    """What happened to the requests of one schema at one level."""

    schema: str
    level: str
    dispatched: int = 0
    beside: int = 0
    """Seats taken now beside the one that each request has."""
    rejected: dict[str, int] = field(default_factory=dict)
    queued: int = 0
    queued_seats: int = 0
    turning: int = 0
    """Requests that have their seats and wait for a turn of the event loop."""
    passed_over: int = 0
    """How often the first of a queue found no room, of requests that wait no more."""
    wide: Counter[int] = field(default_factory=Counter)
    """Requests that came for so many seats; all others came for one."""
    lengths: Counter[int] = field(default_factory=Counter)
    """Requests that made their queue so long."""
    served: Times = field(default_factory=Times)
    begun: Times = field(default_factory=Times)
    """How long requests took, and watches until they had begun."""
    waited: Times = field(default_factory=Times)
    """Only of requests that did wait; all others waited for 0 seconds."""
    refused_after: Times = field(default_factory=Times)

    @property
    def came(self) -> int:
        """All requests so far, let in or not: each is in one of these all the time."""
        return self.dispatched + self.queued + self.turning + sum(self.rejected.values())

    def reject(self, reason: str) -> None:
        """One more was not let in."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    @property
    def running(self) -> int:
        """Requests being served now."""
        return self.dispatched - self.served.count - self.begun.count


class Flow:
    """Requests that share their queues. ``hand`` are the queues they may stand in."""

    __slots__ = ("distinguisher", "hand", "head", "level", "schema", "stats")

    def __init__(self, schema: Schema, level: Level, distinguisher: str, stats: Stats) -> None:
        self.schema = schema
        self.level = level
        self.distinguisher = distinguisher
        self.stats = stats
        self.head = b""
        """What answers begin with, for whoever makes many; theirs to keep."""
        self.hand = deal(flow_hash(schema.name, distinguisher), level.queue_count, level.hand_size)

    def __repr__(self) -> str:
        return f"<Flow {self.schema.name}/{self.distinguisher} at {self.level.name}>"


def flow_hash(schema: str, distinguisher: str) -> int:
    """64 bits that decide about a flow's queues."""
    return int.from_bytes(hashlib.sha256(f"{schema}\0{distinguisher}".encode()).digest()[:8], "little")


def deal(number: int, deck: int, hand: int) -> tuple[int, ...]:
    """``hand`` different cards of 0..``deck``-1, drawn by the digits of ``number``."""
    cards: list[int] = []
    for i in range(hand if deck else 0):
        number, card = divmod(number, deck - i)
        for held in sorted(cards):
            if card >= held:
                card += 1
        cards.append(card)
    return tuple(cards)


def in_order(objs: Sequence[Any]) -> list[Schema]:
    """Compiled schemas in the order in which they are asked."""
    return sorted((Schema(obj) for obj in objs), key=lambda schema: (schema.precedence, schema.name))
