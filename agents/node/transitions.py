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
