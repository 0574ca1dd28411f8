"""What to do about one HorizontalPodAutoscaler, from what was observed. Pure but for the History it is given.

Reference: k8s.io/kubernetes ``pkg/controller/podautoscaler/horizontal.go``: order, reasons and messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orca.api.objects import Obj, meta
from orca.api.quantity import Quantity
from orca.api.times import format_time
from orca.controllers import conditions
from orca.controllers.horizontalpodautoscaler import replicas
from orca.controllers.horizontalpodautoscaler.behavior import History, next_step
from orca.controllers.horizontalpodautoscaler.describing import FIELD_OF, long_prefix, name_of, prefix, status_of
from orca.controllers.horizontalpodautoscaler.readings import MetricsError, Readings, milli
from orca.controllers.horizontalpodautoscaler.replicas import Proposal, Tolerance

DEFAULT_TOLERANCE = 0.1
_ABLE, _ACTIVE, _LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"


@dataclass(frozen=True, slots=True)
class Measured:
    """One entry of ``spec.metrics``: readings of pods, or one value (thousandths), or why there is neither."""

    readings: Readings = field(default_factory=dict)
    value: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """The target's Scale, the pods it selects, and what was measured, in the order of ``spec.metrics``.

    ``rivals`` are the autoscalers that select some of these pods too, this one among them. ``unreadable`` says why the
    selector of the Scale cannot be read.
    """

    scale: Obj
    pods: Sequence[Obj]
    measured: Sequence[Measured]
    rivals: Sequence[str] = ()
    unreadable: str = ""


@dataclass(slots=True)
class Decision:
    """The whole new status; the count to set (None: leave it) and why; events as (type, reason, message). ``former`` is
    the count that was wanted before."""

    status: Obj
    replicas: int | None = None
    reason: str = ""
    former: int = 0
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def put(self, kind: str, *, true: bool, reason: str, message: str, now: datetime) -> None:
        """Set a condition; when it came to be so is kept while its status stays."""
        present = list(self.status.get("conditions") or ())
        made = conditions.build(kind, "True" if true else "False", reason, message, now)
        before = conditions.find(present, kind)
        if before is None:
            self.status["conditions"] = [*present, made]
            return
        if before["status"] == made["status"] and before.get("lastTransitionTime"):
            made["lastTransitionTime"] = before["lastTransitionTime"]
        self.status["conditions"] = [made if one["type"] == kind else one for one in present]


def without_scale(autoscaler: Obj, error: str, now: datetime) -> Decision:
    """The target cannot be read, or does not exist."""
    decision = _begin(autoscaler)
    message = f"the HPA controller was unable to get the target's current scale: {error}"
    decision.put(_ABLE, true=False, reason="FailedGetScale", message=message, now=now)
    decision.events.append(("Warning", "FailedGetScale", error))
    return decision


def decide(autoscaler: Obj, seen: Observed, history: History, now: datetime) -> Decision:
    """Compare what is measured with what is wanted, and say how many replicas there shall be."""
    spec, decision = autoscaler["spec"], _begin(autoscaler)
    current = int((seen.scale.get("spec") or {}).get("replicas") or 0)
    least, most = _or(spec.get("minReplicas"), 1), int(spec["maxReplicas"])
    decision.put(
        _ABLE,
        true=True,
        reason="SucceededGetScale",
        message="the HPA controller was able to get the target's current scale",
        now=now,
    )
    if not history.recommendations:
        history.recommended(current, now, 0)
    decision.status |= {"currentReplicas": current, "currentMetrics": []}
    if current == 0 and least != 0:
        message = "scaling is disabled since the replica count of the target is zero"
        decision.put(_ACTIVE, true=False, reason="ScalingDisabled", message=message, now=now)
        return _settle(decision, 0, [])
    if current > most:
        return _rescale(decision, most, "Current number of replicas above Spec.MaxReplicas")
    if current < least:
        return _rescale(decision, least, "Current number of replicas below Spec.MinReplicas")
    unclear = _unclear(seen)
    if unclear is not None:
        reason, event, message, error = unclear
        decision.put(_ACTIVE, true=False, reason=reason, message=message, now=now)
        decision.events += [("Warning", event, error), ("Warning", "FailedComputeMetricsReplicas", error)]
        return decision
    wanted, metric, statuses = _wanted(autoscaler, seen, current, decision, now)
    decision.status["currentMetrics"] = statuses
    if wanted is None:
        return decision
    step = next_step(wanted, current, least=least, most=most, behavior=spec.get("behavior"), history=history, now=now)
    decision.put(_ABLE, true=True, reason=step.able[0], message=step.able[1], now=now)
    reason, message = step.limited or step.within
    decision.put(_LIMITED, true=step.limited is not None, reason=reason, message=message, now=now)
    if step.replicas == current:
        return _settle(decision, current, statuses)
    why = f"{metric} above target" if wanted > current else "All metrics below target"
    return _rescale(decision, step.replicas, why)


def _unclear(seen: Observed) -> tuple[str, str, str, str] | None:
    """Reasons of the condition and of the event, the condition's message and the error, when it is not clear which pods
    are the target's."""
    text = (seen.scale.get("status") or {}).get("selector")
    if not text:
        missing = "the HPA target's scale is missing a selector"
        return "InvalidSelector", "SelectorRequired", missing, "selector is required"
    if seen.unreadable:
        message = f"couldn't convert selector into a corresponding internal selector object: {seen.unreadable}"
        return "InvalidSelector", "InvalidSelector", message, message
    if len(seen.rivals) > 1:
        message = f"pods by selector {text} are controlled by multiple HPAs: [{' '.join(seen.rivals)}]"
        return "AmbiguousSelector", "AmbiguousSelector", message, message
    return None


def rescaled(decision: Decision, error: str, now: datetime) -> None:
    """Note in the decision how setting its count went; ``error`` is "" when it was set."""
    if error:
        message = f"the HPA controller was unable to update the target scale: {error}"
        decision.put(_ABLE, true=False, reason="FailedUpdateScale", message=message, now=now)
        told = f"New size: {decision.replicas}; reason: {decision.reason}; error: {error}"
        decision.events.append(("Warning", "FailedRescale", told))
        decision.status["desiredReplicas"] = decision.former
        return
    message = f"the HPA controller was able to update the target scale to {decision.replicas}"
    decision.put(_ABLE, true=True, reason="SucceededRescale", message=message, now=now)
    told = f"New size: {decision.replicas}; reason: {decision.reason}"
    decision.events.append(("Normal", "SuccessfulRescale", told))
    decision.status["lastScaleTime"] = format_time(now)


def _begin(autoscaler: Obj) -> Decision:
    status = dict(autoscaler.get("status") or {})
    status.setdefault("desiredReplicas", 0)
    status["observedGeneration"] = meta(autoscaler).get("generation", 0)
    return Decision(status, former=int(status["desiredReplicas"] or 0))


def _settle(decision: Decision, desired: int, statuses: list[Obj]) -> Decision:
    decision.status["desiredReplicas"] = desired
    decision.status["currentMetrics"] = statuses
    return decision


def _rescale(decision: Decision, desired: int, reason: str) -> Decision:
    decision.status["desiredReplicas"] = desired
    decision.replicas, decision.reason = desired, reason
    return decision


def _wanted(
    autoscaler: Obj, seen: Observed, current: int, decision: Decision, now: datetime
) -> tuple[int | None, str, list[Obj]]:
    """The highest count any metric asks for, and that metric's name; None when too little is known to scale."""
    metrics = autoscaler["spec"].get("metrics") or ()
    best, named, statuses, failures = 0, "", [], []
    tolerance = tolerance_of(autoscaler)
    for metric, measured in zip(metrics, seen.measured, strict=True):
        try:
            if measured.error:
                raise MetricsError(measured.error)
            proposal = _propose(metric, measured, seen, current, tolerance, now)
        except MetricsError as error:
            text = prefix(metric) + str(error)
            failures.append((f"FailedGet{metric['type']}Metric", text, long_prefix(metric) + text))
            statuses.append({"type": ""})
            continue
        statuses.append(status_of(metric, proposal))
        if not best or proposal.replicas > best:
            best, named = proposal.replicas, name_of(metric)
    for reason, text, _ in failures:
        decision.events.append(("Warning", reason, text))
    if failures and (len(failures) == len(metrics) or best < current):
        reason, text, whole = failures[0]
        message = f"the HPA was unable to compute the replica count: {text}"
        decision.put(_ACTIVE, true=False, reason=reason, message=message, now=now)
        told = f"invalid metrics ({len(failures)} invalid out of {len(metrics)}), first error is: {whole}"
        decision.events.append(("Warning", "FailedComputeMetricsReplicas", told))
        return None, "", statuses
    message = f"the HPA was able to successfully calculate a replica count from {named}"
    decision.put(_ACTIVE, true=True, reason="ValidMetricFound", message=message, now=now)
    return best, named, statuses


def tolerance_of(autoscaler: Obj) -> Tolerance:
    """Of ``spec.behavior``, else the cluster's."""
    behavior = autoscaler["spec"].get("behavior") or {}

    def share(direction: str) -> float:
        given = (behavior.get(direction) or {}).get("tolerance")
        return DEFAULT_TOLERANCE if given is None else float(Quantity.parse(given).value)

    return Tolerance(down=share("scaleDown"), up=share("scaleUp"))


def _propose(
    metric: Obj, measured: Measured, seen: Observed, current: int, tolerance: Tolerance, now: datetime
) -> Proposal:
    kind = metric["type"]
    details = metric[FIELD_OF[kind]]
    target: Obj = details["target"]
    if kind in ("Resource", "ContainerResource"):
        resource, container = details["name"], details.get("container") or ""
        if target.get("averageValue") is None:
            return replicas.by_utilization(
                seen.pods,
                measured.readings,
                resource=resource,
                container=container,
                target=int(target["averageUtilization"]),
                current=current,
                tolerance=tolerance,
                now=now,
            )
        wanted = milli(target["averageValue"])
        return replicas.by_average(
            seen.pods,
            measured.readings,
            resource=resource,
            target=wanted,
            current=current,
            tolerance=tolerance,
            now=now,
        )
    if kind == "Pods":
        wanted = milli(target["averageValue"])
        return replicas.by_average(
            seen.pods, measured.readings, target=wanted, current=current, tolerance=tolerance, now=now
        )
    if target.get("averageValue") is not None:
        running = int((seen.scale.get("status") or {}).get("replicas") or 0)
        return replicas.by_share(
            measured.value, target=milli(target["averageValue"]), current=running, tolerance=tolerance
        )
    return replicas.by_value(
        seen.pods, measured.value, target=milli(target["value"]), current=current, tolerance=tolerance
    )


def _or(value: Any, otherwise: int) -> int:
    return otherwise if value is None else int(value)
