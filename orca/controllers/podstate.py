"""What a pod's status says, in the words controllers use. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from orca.api.objects import Obj, annotations, is_terminating, meta
from orca.api.podphase import is_finished, phase
from orca.api.times import parse_time
from orca.controllers import conditions

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime.min.replace(tzinfo=UTC)


def is_active(pod: Obj) -> bool:
    """Neither finished nor being deleted: counts as a replica."""
    return not is_finished(pod) and not is_terminating(pod)


def is_ready(pod: Obj) -> bool:
    """Its Ready condition is True."""
    return conditions.status_of(pod, "Ready") == "True"


def ready_since(pod: Obj) -> datetime | None:
    """Since when it is ready; None when it is not."""
    condition = conditions.find(pod.get("status", {}).get("conditions"), "Ready")
    if condition is None or condition["status"] != "True":
        return None
    stamp = condition.get("lastTransitionTime")
    return parse_time(stamp) if stamp else _EPOCH


def available_in(pod: Obj, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until it counts as available (0: it does), None while it is not ready."""
    if not min_ready_seconds:
        return 0.0 if is_ready(pod) else None
    since = ready_since(pod)
    if since is None:
        return None
    if since == _EPOCH:
        return None
    return max((since + timedelta(seconds=min_ready_seconds) - now).total_seconds(), 0.0)


def created_at(obj: Obj) -> datetime:
    """`metadata.creationTimestamp`; the beginning of time when missing."""
    stamp = meta(obj).get("creationTimestamp")
    return parse_time(stamp) if stamp else _EPOCH


def restarts(pod: Obj) -> tuple[int, int]:
    """Highest restart count of its containers, and that of its sidecars."""
    status = pod.get("status", {})
    beside = {one["name"] for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"}
    sidecars = [one for one in status.get("initContainerStatuses") or () if one.get("name") in beside]
    regular = status.get("containerStatuses") or ()
    return _most_restarts(regular), _most_restarts(sidecars)


def _most_restarts(statuses: Iterable[Obj]) -> int:
    return max((status.get("restartCount", 0) for status in statuses), default=0)


def deletion_cost(pod: Obj) -> int:
    """The annotation's integer, 0 when missing or unreadable."""
    try:
        return int(annotations(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def deletion_order(pods: Sequence[Obj], crowd: dict[str, int], now: datetime) -> list[Obj]:
    """Pods in the order in which a set that shrinks gives them up (upstream's ActivePodsWithRanks).

    Unassigned before assigned; Pending before Unknown before Running; not ready before ready; lower deletion cost;
    on the node with more related pods (`crowd`: node name -> count); ready more recently; more restarts; younger. Ages
    are compared by their order of magnitude, so that among pods of about the same age the victims are spread.
    """

    def rank(pod: Obj) -> tuple[object, ...]:
        node = pod.get("spec", {}).get("nodeName") or ""
        since = ready_since(pod)
        regular, sidecars = restarts(pod)
        return (
            bool(node),
            _PHASES.get(phase(pod), 3),
            since is not None,
            deletion_cost(pod),
            -crowd.get(node, 0),
            _magnitude(since, now),
            -regular,
            -sidecars,
            _magnitude(created_at(pod), now),
            meta(pod).get("uid", ""),
        )

    return sorted(pods, key=rank)


def active_order(pods: Sequence[Obj]) -> list[Obj]:
    """Pods in the order in which a Job gives them up (upstream's ActivePods): as `deletion_order` without costs and
    neighbours, and with ages as they are."""

    def rank(pod: Obj) -> tuple[object, ...]:
        since, made = ready_since(pod), created_at(pod)
        regular, sidecars = restarts(pod)
        return (
            bool(pod.get("spec", {}).get("nodeName")),
            _PHASES.get(phase(pod), 3),
            since is not None,
            _youngest_first(since or _EPOCH),
            -regular,
            -sidecars,
            _youngest_first(made),
        )

    return sorted(pods, key=rank)


def _youngest_first(since: datetime) -> float:
    """Sorts later times first, before them what has no time."""
    return float("-inf") if since == _EPOCH else -since.timestamp()


def _magnitude(since: datetime | None, now: datetime) -> int:
    """log2 of the age in nanoseconds, lower is younger; unknown ages count as oldest."""
    if since is None or since == _EPOCH:
        return 64
    age = (now - since) // _MICROSECOND * 1000
    return age.bit_length() if age > 0 else 0
