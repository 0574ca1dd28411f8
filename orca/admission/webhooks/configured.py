"""The configured webhooks, parsed once, and which of them a kind of request may concern."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orca.admission.chain import Attributes, Cluster
from orca.admission.matching import Rule, exempt, matching_row
from orca.api.objects import Obj, name
from orca.api.resources import Resource, ResourceTable
from orca.api.selectors import Selector, from_label_selector

_REVIEWS = ("v1", "v1beta1")


@dataclass(eq=False, slots=True)
class Hook:
    """One webhook of one configuration. ``index`` counts all hooks of its sort; ``review`` is "" for none we speak."""

    index: int
    configuration: str
    name: str
    uid: str
    client: Obj
    rules: tuple[Rule, ...]
    equivalent: bool
    namespaces: Selector
    objects: Selector
    conditions: list[Obj]
    fail: bool
    dry_run: bool | None  # whether a dry run may call it; None when it does not say
    seconds: int
    review: str
    reinvocable: bool
    compiled: Any = field(default=None)  # match conditions, once they were needed


def parse_hook(hook: Obj, configuration: str, position: int, index: int) -> Hook:
    """From the API's form, which has been validated and defaulted."""
    effects = hook.get("sideEffects")
    hook_name = hook.get("name") or ""
    spoken = (version for version in hook.get("admissionReviewVersions") or () if version in _REVIEWS)
    return Hook(
        index=index,
        configuration=configuration,
        name=hook_name,
        uid=f"{configuration}/{hook_name}/{position}",
        client=hook.get("clientConfig") or {},
        rules=tuple(Rule.parse(rule) for rule in hook.get("rules") or ()),
        equivalent=hook.get("matchPolicy") != "Exact",
        namespaces=from_label_selector(hook.get("namespaceSelector") or {}),
        objects=from_label_selector(hook.get("objectSelector") or {}),
        conditions=list(hook.get("matchConditions") or ()),
        fail=hook.get("failurePolicy") != "Ignore",
        dry_run=None if effects is None else effects in ("None", "NoneOnDryRun"),
        seconds=hook.get("timeoutSeconds") or 10,
        review=next(spoken, ""),
        reinvocable=hook.get("reinvocationPolicy") == "IfNeeded",
    )


Candidate = tuple[Hook, Resource]
"""A hook and the row (version) in which it wants to see the object."""


class ConfiguredHooks:
    """All hooks of one kind of configuration, as the cache shows them."""

    def __init__(self, cluster: Cluster, table: ResourceTable, kind: Resource) -> None:
        self._cluster = cluster
        self._table = table
        self._kind = kind
        self._seen = -1
        self._hooks: tuple[Hook, ...] = ()
        self._candidates: dict[tuple[str, Resource, str], tuple[Candidate, ...]] = {}
        table.subscribe(lambda _what, _row: self._candidates.clear())

    def candidates(self, attrs: Attributes) -> tuple[Candidate, ...]:
        """Hooks whose rules mean the operation on the resource, in the order in which they are called."""
        change = self._cluster.last_change(self._kind)
        if change != self._seen:
            self._load(change)
        if not self._hooks:
            return ()
        row = attrs.resource
        key = (attrs.operation, row, attrs.subresource)
        found = self._candidates.get(key)
        if found is None:
            found = self._candidates[key] = () if exempt(row) else tuple(self._matching(*key))
        return found

    def _matching(self, operation: str, row: Resource, subresource: str) -> list[Candidate]:
        found = []
        for hook in self._hooks:
            wanted = matching_row(
                hook.rules, operation, row, subresource, equivalent=hook.equivalent, table=self._table
            )
            if wanted is not None:
                found.append((hook, wanted))
        return found

    def _load(self, change: int) -> None:
        hooks: list[Hook] = []
        for configuration in sorted(self._cluster.peek_list(self._kind), key=name):
            for position, hook in enumerate(configuration.get("webhooks") or ()):
                hooks.append(parse_hook(hook, name(configuration), position, len(hooks)))
        self._hooks = tuple(hooks)
        self._candidates.clear()
        self._seen = change
