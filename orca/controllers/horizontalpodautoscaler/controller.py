"""HorizontalPodAutoscalers: every 15 seconds, and when one changes, compares what is used with what is wanted.

Reference: k8s.io/kubernetes ``pkg/controller/podautoscaler/horizontal.go``.
"""

from __future__ import annotations

import asyncio

from orca.api.builtin import HORIZONTALPODAUTOSCALERS, PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj, key, labels, namespace
from orca.api.resources import Resource
from orca.api.selectors import Selector, parse_label_selector
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter
from orca.controllers.horizontalpodautoscaler.behavior import History
from orca.controllers.horizontalpodautoscaler.measuring import Measuring
from orca.controllers.horizontalpodautoscaler.plan import (
    Decision,
    Observed,
    decide,
    rescaled,
    without_scale,
)

SYNC_PERIOD = 15.0
"""``--horizontal-pod-autoscaler-sync-period``, in seconds."""


class HorizontalPodAutoscalerController(Controller):
    """Keys are autoscalers."""

    name = "horizontal-pod-autoscaler"
    resource = HORIZONTALPODAUTOSCALERS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._autoscalers = self.caches.of(HORIZONTALPODAUTOSCALERS)
        self._pods = self.caches.of(PODS)
        self._table = context.config.table
        pages = context.config.pages
        self._measuring = Measuring(pages, self._table) if pages is not None else None
        self._histories: dict[str, History] = {}
        self._selectors: dict[str, tuple[str, Selector]] = {}
        self._autoscalers.informer.on_add(self.enqueue)
        self._autoscalers.informer.on_update(self._changed)
        self._autoscalers.informer.on_delete(self._gone)

    def _changed(self, old: Obj, new: Obj) -> None:
        if old.get("spec") != new.get("spec"):
            self.enqueue(new)

    def _gone(self, autoscaler: Obj) -> None:
        self.queue.forget(key(autoscaler))
        self._histories.pop(key(autoscaler), None)
        self._selectors.pop(key(autoscaler), None)

    async def sync(self, key: str) -> Outcome:
        """One autoscaler; looked at again after the sync period whatever happened."""
        autoscaler = self._autoscalers.get(key)
        if autoscaler is None or self._measuring is None:
            return DONE
        history = self._histories.setdefault(key, History())
        decision = await self._decide(key, autoscaler, self._measuring, history)
        for kind, reason, message in decision.events:
            self.recorder.event(autoscaler, kind, reason, message)
        if decision.status != autoscaler.get("status"):
            await self._autoscalers.update_status(autoscaler, decision.status)
        return RetryAfter(SYNC_PERIOD)

    async def _decide(self, key: str, autoscaler: Obj, measuring: Measuring, history: History) -> Decision:
        reference, space = autoscaler["spec"]["scaleTargetRef"], namespace(autoscaler)
        row = self._row(reference)
        if row is None:
            group = (reference.get("apiVersion") or "").rpartition("/")[0]
            missing = f'no matches for kind "{reference["kind"]}" in group "{group}"'
            return without_scale(autoscaler, missing, self.clock.now())
        try:
            scale = await self.client.get(row, reference["name"], space, subresource="scale")
        except ApiError as error:
            return without_scale(autoscaler, error.message, self.clock.now())
        seen = await self._observe(key, autoscaler, scale, measuring)
        decision = decide(autoscaler, seen, history, self.clock.now())
        if decision.replicas is not None:
            await self._rescale(row, scale, decision, autoscaler, history)
        return decision

    async def _observe(self, key: str, autoscaler: Obj, scale: Obj, measuring: Measuring) -> Observed:
        space = namespace(autoscaler)
        text = (scale.get("status") or {}).get("selector") or ""
        if not text:
            self._selectors.pop(key, None)
            return Observed(scale, (), ())
        try:
            selector = parse_label_selector(text)
        except ApiError as error:
            self._selectors.pop(key, None)
            return Observed(scale, (), (), unreadable=error.message)
        self._selectors[key] = (space, selector)
        pods = [pod for pod in self._pods.by_index("namespace", space) if selector.matches(labels(pod))]
        metrics = autoscaler["spec"].get("metrics") or ()
        measured = await asyncio.gather(*(measuring.measure(metric, space, text) for metric in metrics))
        return Observed(scale, pods, measured, self._rivals(space, pods))

    def _rivals(self, space: str, pods: list[Obj]) -> list[str]:
        """Names of the autoscalers whose targets select one of these pods."""
        near = {key: selector for key, (where, selector) in self._selectors.items() if where == space}
        if len(near) < 2:
            return []
        return sorted(key for key, selector in near.items() if any(selector.matches(labels(pod)) for pod in pods))

    async def _rescale(self, row: Resource, scale: Obj, decision: Decision, autoscaler: Obj, history: History) -> None:
        before = int((scale.get("spec") or {}).get("replicas") or 0)
        assert decision.replicas is not None
        wanted = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": decision.replicas}}
        error = ""
        try:
            await self.client.update(row, wanted, subresource="scale")
        except ApiError as refused:
            error = refused.message
        now = self.clock.now()
        rescaled(decision, error, now)
        if not error:
            history.rescaled(before, decision.replicas, now, autoscaler["spec"].get("behavior"))

    def _row(self, reference: Obj) -> Resource | None:
        """The kind that a reference names, in whatever version of its group is served."""
        found = self._table.by_kind(reference.get("apiVersion") or "v1", reference["kind"])
        if found is not None:
            return found
        group = (reference.get("apiVersion") or "").rpartition("/")[0]
        return next((row for row in self._table if (row.group, row.kind) == (group, reference["kind"])), None)
