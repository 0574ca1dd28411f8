"""Pods that a workload may not make: who refuses them, and what would be taken. Pure.

The texts are those of admission plugins, which conditions and FailedCreate events carry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from orca.api.objects import Obj, name
from orca.api.quantity import Quantity
from orca.explain.why import events
from orca.explain.why.findings import Finding, World

_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (\S+), used: (\S+), limited: (\S+)")
_UNSAID = re.compile(r"failed quota: (\S+): must specify (\S+) for: (\S+)")
_WEBHOOK_DENIED = re.compile(r'admission webhook "([^"]+)" denied')
_WEBHOOK_DOWN = re.compile(r'failed calling webhook "([^"]+)"')
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)'")
_SECURITY = re.compile(r'violates PodSecurity "([^"]+)"')
_ACCOUNT = re.compile(r'serviceaccount "([^"]+)" not found')
_CLASS = re.compile(r"no PriorityClass with name (\S+) was found")
_RANGE = re.compile(r"(maximum|minimum) \S+ usage per|max limit to request ratio per")
_INVALID = re.compile(r" is invalid: ")


def explain_refusals(makers: Sequence[Obj], world: World, now: datetime) -> Iterator[Finding]:
    """Of the objects that make the pods. Told once, however many of them say it."""
    seen: set[str] = set()
    for maker in makers:
        for reason, message, suffix in _complaints(maker, world, now):
            text = message.partition("Error creating: ")[2] or message
            if (mark := _without_names(text)) in seen:
                continue
            seen.add(mark)
            says = f"{maker['kind'].lower()}/{name(maker)} may not make pods: {text}{suffix}"
            if reason == "FailedDelete":
                says = f"{maker['kind'].lower()}/{name(maker)} may not delete pods: {text}{suffix}"
            yield Finding(says, fix_of(text))


def _complaints(maker: Obj, world: World, now: datetime) -> Iterator[tuple[str, str, str]]:
    """(reason, message, when) of what its conditions and the newest events say."""
    for one in (maker.get("status") or {}).get("conditions") or ():
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            yield str(one.get("reason") or ""), str(one.get("message") or ""), ""
    reasons = ("FailedCreate", "ReplicaSetCreateError", "SuccessfulCreate")
    made = events.of(world, maker, reasons)
    # A creation that succeeded later says that it was let through at last.
    if made and made[-1]["reason"] != "SuccessfulCreate":
        yield str(made[-1]["reason"]), events.text(made[-1]), events.ago(made[-1], now)


def _without_names(text: str) -> str:
    """Pods have names of their own: alike but for them is the same refusal."""
    return re.sub(r'"[^"]*"', '""', text, count=1)


def fix_of(text: str) -> str:
    """What would be taken; "" when the message itself has to be understood."""
    if found := _QUOTA.search(text):
        return _quota(*found.groups())
    if found := _UNSAID.search(text):
        return (
            f"give the container {found[3]} {found[2]}, or a default by a LimitRange: the quota {found[1]} asks for it"
        )
    if found := _SECURITY.search(text):
        label = "pod-security.kubernetes.io/enforce"
        return f"meet the standard {found[1]}, or change the namespace's label {label}"
    if found := _WEBHOOK_DENIED.search(text):
        return f"do as the webhook {found[1]} asks"
    if found := _WEBHOOK_DOWN.search(text):
        return f"bring the Service of the webhook {found[1]} back, or set its failurePolicy to Ignore"
    if found := _POLICY.search(text):
        return f"do as the policy {found[1]} asks"
    if found := _ACCOUNT.search(text):
        return f"kubectl create serviceaccount {found[1]}"
    if found := _CLASS.search(text):
        return f"make the PriorityClass {found[1]}, or name another"
    if _RANGE.search(text):
        return "ask for what the namespace's LimitRange allows, or change it"
    return "correct the pod template" if _INVALID.search(text) else ""


def _quota(quota: str, requested: str, used: str, limited: str) -> str:
    asks, has, most = (_amounts(one) for one in (requested, used, limited))
    wanted = []
    for resource, limit in most.items():
        needs = has.get(resource, Quantity.parse("0")) + asks.get(resource, Quantity.parse("0"))
        if needs.value > limit.value:
            wanted.append(f"{resource} from {limit} to {needs}")
    raised = f"raise {' and '.join(wanted)} in the quota {quota}" if wanted else f"raise the quota {quota}"
    return f"{raised} for one more pod, ask for less, or delete others"


def _amounts(text: str) -> dict[str, Quantity]:
    found = {}
    for pair in text.split(","):
        resource, _, amount = pair.partition("=")
        try:
            found[resource] = Quantity.parse(amount)
        except ValueError:
            continue
    return found
