"""Where a pod is in its life, by ``status.phase``."""

from orca.api.objects import Obj


def phase(pod: Obj) -> str:
    """``status.phase``; Pending before anyone has set it."""
    return (pod.get("status") or {}).get("phase") or "Pending"


def is_finished(pod: Obj) -> bool:
    """Succeeded or Failed: will never run again."""
    return phase(pod) in ("Succeeded", "Failed")
