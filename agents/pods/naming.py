"""How pods and their containers are called outside of the API."""

from __future__ import annotations

from orca.api.objects import Obj, name, namespace, uid


def pod_title(pod: Obj) -> str:
    """As upstream's messages name a pod."""
    return f"{name(pod)}_{namespace(pod)}({uid(pod)})"


def container_name(pod: Obj, container: str, attempt: int) -> str:
    """The engine's name for an attempt, as dockershim chose it."""
    return f"k8s_{container}_{name(pod)}_{namespace(pod)}_{uid(pod)}_{attempt}"
