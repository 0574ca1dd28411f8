"""How often the engine was asked for what, how long it took and how often it failed: for `/metrics`. Pure counting.

Operations go by the names under which a kubelet counts what it asks of its runtime.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

BUCKETS = tuple(0.005 * 2.5**power for power in range(14))
"""Upper bounds in seconds, as upstream's."""

_OF_ONE: dict[tuple[str, str], str] = {
    ("GET", "json"): "container_status",
    ("GET", "stats"): "container_stats",
    ("POST", "start"): "start_container",
    ("POST", "stop"): "stop_container",
    ("POST", "kill"): "stop_container",
    ("POST", "update"): "update_container_resources",
    ("POST", "exec"): "exec_sync",
    ("POST", "wait"): "wait_container",
}
_PLAIN = {
    ("POST", "/containers/create"): "create_container",
    ("GET", "/containers/json"): "list_containers",
    ("POST", "/images/create"): "pull_image",
    ("GET", "/images/json"): "list_images",
    ("GET", "/version"): "version",
    ("GET", "/info"): "status",
}


@dataclass(slots=True)
class Counts:
    """Of one operation. ``buckets`` has one more than `BUCKETS`: longer than all."""

    total: int = 0
    errors: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))


def operation_of(method: str, path: str, params: Mapping[str, str] | None) -> str:
    """The operation that a request is; "" for what nobody graphs."""
    plain = _PLAIN.get((method, path))
    if plain == "create_container" and (params or {}).get("name", "").startswith("k8s_POD_"):
        return "run_podsandbox"
    if plain is not None:
        return plain
    parts = path.split("/")
    if len(parts) == 3 and parts[1] == "containers" and method == "DELETE":
        return "remove_container"
    if len(parts) == 4 and parts[1] == "containers":
        return _OF_ONE.get((method, parts[3]), "")
    if parts[1] == "images":
        return {"GET": "image_status", "DELETE": "remove_image"}.get(method, "")
    return ""


class OperationTally:
    """Of one engine since the agent's start."""

    def __init__(self) -> None:
        self.counts: dict[str, Counts] = {}

    def __repr__(self) -> str:
        return f"<OperationTally of {len(self.counts)} operations>"

    def count(self, operation: str, seconds: float, *, failed: bool) -> None:
        """One request that has ended."""
        counts = self.counts.setdefault(operation, Counts())
        counts.total += 1
        counts.errors += failed
        counts.seconds += seconds
        counts.buckets[bisect_left(BUCKETS, seconds)] += 1
