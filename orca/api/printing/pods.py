"""Pods: the STATUS and RESTARTS logic people know from ``kubectl get pods``."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing import formats
from orca.api.printing.columns import AGE, NAME, Cells, Obj, name, printer, spec, status, text, wide
from orca.api.printing.duration import since

_SUCCEEDED = {
    "type": "Completed",
    "status": "True",
    "reason": "Succeeded",
    "message": "The pod has completed successfully.",
}
_FAILED = {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}


def row_conditions(pod: Obj) -> list[Obj]:
    """The Completed condition of a finished pod's row."""
    phase = status(pod).get("phase")
    if phase == "Succeeded":
        return [_SUCCEEDED]
    return [_FAILED] if phase == "Failed" else []


class _Summary:
    """What the container statuses add up to; filled in two passes, init containers first."""

    def __init__(self, pod: Obj) -> None:
        self.spec, self.status = spec(pod), status(pod)
        self.conditions = {c.get("type"): c for c in self.status.get("conditions") or ()}
        self.sidecars = {
            c.get("name") for c in self.spec.get("initContainers") or () if c.get("restartPolicy") == "Always"
        }
        self.total = len(self.spec.get("containers") or ()) + len(self.sidecars)
        self.ready = 0
        self.restarts = 0
        self.last_restart = ""
        self.reason: str = self.status.get("reason") or self.status.get("phase") or ""
        if (self.conditions.get("PodScheduled") or {}).get("reason") == "SchedulingGated":
            self.reason = "SchedulingGated"

    def is_true(self, condition: str) -> bool:
        return (self.conditions.get(condition) or {}).get("status") == "True"

    def read(self) -> None:
        initializing = self._read_init()
        if not initializing or self.is_true("Initialized"):
            self._read_main()

    def _read_init(self) -> bool:
        """Count init containers up to the first unfinished one; True when there is one."""
        sidecar_restarts, sidecar_last = 0, ""
        initializing = False
        for index, container in enumerate(self.status.get("initContainerStatuses") or ()):
            sidecar = container.get("name") in self.sidecars
            self._count_restarts(container)
            if sidecar:
                sidecar_restarts += container.get("restartCount") or 0
                sidecar_last = max(sidecar_last, _finished(container))
            state = container.get("state") or {}
            ended, waiting = state.get("terminated"), state.get("waiting")
            if ended is not None and not ended.get("exitCode"):
                continue
            if sidecar and container.get("started"):
                self.ready += bool(container.get("ready"))
                continue
            if ended is not None:
                self.reason = "Init:" + _ended_reason(ended)
            elif waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
                self.reason = "Init:" + waiting["reason"]
            else:
                self.reason = f"Init:{index}/{len(self.spec.get('initContainers') or ())}"
            initializing = True
            break
        if not initializing or self.is_true("Initialized"):
            # From here on only restarts of containers that are meant to run count.
            self.restarts, self.last_restart = sidecar_restarts, sidecar_last
        return initializing

    def _read_main(self) -> None:
        running = False
        for container in reversed(self.status.get("containerStatuses") or ()):
            self._count_restarts(container)
            state = container.get("state") or {}
            waiting, ended = state.get("waiting"), state.get("terminated")
            if waiting and waiting.get("reason"):
                self.reason = waiting["reason"]
            elif ended is not None:
                self.reason = _ended_reason(ended)
            elif container.get("ready") and state.get("running") is not None:
                running = True
                self.ready += 1
        if self.reason == "Completed" and running:
            self.reason = "Running" if self.is_true("Ready") else "NotReady"

    def _count_restarts(self, container: Obj) -> None:
        self.restarts += container.get("restartCount") or 0
        # RFC 3339 in UTC sorts as text.
        self.last_restart = max(self.last_restart, _finished(container))


def _finished(container: Obj) -> str:
    last = (container.get("lastState") or {}).get("terminated")
    return (last.get("finishedAt") or "") if last else ""


def _ended_reason(ended: Obj) -> str:
    reason: str = ended.get("reason") or ""
    if reason:
        return reason
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _gates(summary: _Summary) -> str:
    gates = summary.spec.get("readinessGates") or ()
    if not gates:
        return formats.NONE
    return f"{sum(summary.is_true(gate.get('conditionType', '')) for gate in gates)}/{len(gates)}"


@printer(
    "",
    "Pod",
    NAME,
    text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    text("Status", "The aggregate status of the containers in this pod."),
    text("Restarts", "The number of times the containers in this pod have been restarted and when the last was."),
    AGE,
    wide(text("IP", "The pod's first address.")),
    wide(text("Node", "The node the pod is bound to.")),
    wide(text("Nominated Node", "The node that pods are being evicted from for this pod.")),
    wide(text("Readiness Gates", "How many of the pod's readiness gates are true.")),
)
def pod(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get pods -o wide``."""
    summary = _Summary(obj)
    summary.read()
    state, meta = summary.status, obj["metadata"]
    if meta.get("deletionTimestamp"):
        if state.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif state.get("phase") not in ("Succeeded", "Failed"):
            summary.reason = "Terminating"
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts = f"{restarts} ({since(summary.last_restart, now)} ago)"
    addresses = state.get("podIPs") or ()
    return [
        name(obj),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        since(meta.get("creationTimestamp"), now),
        (addresses[0].get("ip") if addresses else state.get("podIP")) or formats.NONE,
        summary.spec.get("nodeName") or formats.NONE,
        state.get("nominatedNodeName") or formats.NONE,
        _gates(summary),
    ]
