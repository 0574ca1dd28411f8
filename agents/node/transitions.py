"""What the kubelet says in events when the state of its node changes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orca.api.objects import Obj

_REASONS = {
    "MemoryPressure": {"True": "NodeHasInsufficientMemory", "False": "NodeHasSufficientMemory"},
    "DiskPressure": {"True": "NodeHasDiskPressure", "False": "NodeHasNoDiskPressure"},
    "PIDPressure": {"True": "NodeHasInsufficientPID", "False": "NodeHasSufficientPID"},
    "Ready": {"True": "NodeReady", "False": "NodeNotReady"},
}


def transitions(node: str, before: Sequence[Obj], after: Sequence[Obj]) -> Iterator[tuple[str, str]]:
    """Reason and message for each condition of a kubelet's that is not what it was; that a new node is not ready needs
    no saying."""
    known = {condition["type"]: condition.get("status") for condition in before}
    for condition in after:
        kind, status = condition["type"], condition["status"]
        reason = _REASONS.get(kind, {}).get(status)
        if reason is None or known.get(kind) == status or (kind == "Ready" and kind not in known):
            continue
        yield reason, f"Node {node} status is now: {reason}"


def cordoning(node: str, *, cordoned: bool) -> tuple[str, str]:
    """Reason and message for a node that is, or is no more, closed to new pods (``kubectl cordon``)."""
    reason = "NodeNotSchedulable" if cordoned else "NodeSchedulable"
    return reason, f"Node {node} status is now: {reason}"


def reboot(node: str, before: Obj, after: Obj) -> tuple[str, str] | None:
    """Reason and message when two statuses of a node are of different boots; None for the first of all."""
    known, boot = ((status.get("nodeInfo") or {}).get("bootID", "") for status in (before, after))
    if not known or known == boot:
        return None
    return "Rebooted", f"Node {node} has been rebooted, boot id: {boot}"
