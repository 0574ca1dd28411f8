"""Pods for tests of this room."""

from __future__ import annotations

from typing import Any

from orca.api.objects import Obj


def sizes(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> Obj:
    """``resources``."""
    return {"requests": requests or {}, "limits": limits or {}}


def same(**amounts: str) -> Obj:
    """Requests and limits alike."""
    return sizes(amounts, amounts)


def pod(
    *containers: Obj, init: tuple[tuple[Obj, bool], ...] = (), uid: str = "u-1", notes: Any = None, **spec: Any
) -> Obj:
    """A pod of containers a, b, … with these ``resources``; ``init`` has (resources, is a sidecar)."""
    inits = [
        {"name": f"i{number}", "resources": one, **({"restartPolicy": "Always"} if sidecar else {})}
        for number, (one, sidecar) in enumerate(init)
    ]
    mains = [{"name": chr(97 + number), "resources": one} for number, one in enumerate(containers)]
    found = {"initContainers": inits} if inits else {}
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": uid, "annotations": notes or {}},
        "spec": {**found, "containers": mains, **spec},
    }
