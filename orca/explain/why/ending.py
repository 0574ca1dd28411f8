"""What holds a pod that is being deleted, and how one that is over has ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orca.api.durations import format_duration
from orca.api.objects import Obj, meta, name
from orca.api.times import parse_time
from orca.explain.why import events
from orca.explain.why.containers import end, printed
from orca.explain.why.findings import Finding, World
from orca.explain.why.nodes import is_ready, node_of, state_of

_STUCK = ("FailedKillPod", "FailedUnmount", "FailedUnMount", "VolumeFailedDelete", "ExceededGracePeriod")


def explain_ending(pod: Obj, world: World, now: datetime) -> Iterator[Finding]:
    """Why a pod with a deletionTimestamp is still there."""
    status, node = pod.get("status") or {}, node_of(pod, world)
    left = (parse_time(meta(pod)["deletionTimestamp"]) - now).total_seconds()
    placed = pod["spec"].get("nodeName")
    if placed and node is None and "nodes" not in world.unread:
        yield Finding(f"its node {placed} is gone: nobody can end it there", _by_force(pod))
        return
    if node is not None and not is_ready(node):
        says = f"its node {name(node)} is not ready ({state_of(node)}), so nobody can say that it has ended"
        yield Finding(says, f"bring the host back, or: {_by_force(pod)}")
        return
    running = [
        one["name"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for one in status.get(kind) or ()
        if "running" in (one.get("state") or {})
    ]
    finalizers = meta(pod).get("finalizers") or ()
    if running:
        which = f"container{'s' if len(running) > 1 else ''} {', '.join(running)}"
        has = "have" if len(running) > 1 else "has"
        if left > 0:
            hook = " (its preStop hook counts)" if _hooks(pod) else ""
            says = f"{which} {has} not ended yet; {format_duration(int(left))} of the grace period are left{hook}"
            yield Finding(says, waits=True)
        else:
            over = format_duration(int(-left))
            yield Finding(f"{which} {has} not ended, {over} after the grace period", *_trouble(pod, world, now, placed))
    elif stuck := events.of(world, pod, _STUCK):
        last = stuck[-1]
        says = f"its containers have ended; {last['reason']}: {events.text(last)}{events.ago(last, now)}"
        yield Finding(says, "free the volume, or what the message names, on its host")
    elif not finalizers and left <= 0:
        late = format_duration(int(-left))
        says = f"its containers have ended, and its host has not let it go, {late} after the grace period"
        yield Finding(says, f"see the log of the agent on {placed}" if placed else "")
    elif not finalizers:
        yield Finding("its containers have ended; its host is clearing it away", waits=True)
    if finalizers:
        yield Finding(f"finalizers: {', '.join(finalizers)}", "whoever set them has to take them away")


def _trouble(pod: Obj, world: World, now: datetime, placed: str) -> tuple[str, tuple[str, ...]]:
    """(fix, details)"""
    told = tuple(f"{one['reason']}: {events.text(one)}{events.ago(one, now)}" for one in events.of(world, pod, _STUCK))
    return f"see the log of the agent on {placed}, or: {_by_force(pod)}", told[-1:]


def _by_force(pod: Obj) -> str:
    return f"kubectl delete pod {name(pod)} --force --grace-period=0"


def _hooks(pod: Obj) -> bool:
    return any((one.get("lifecycle") or {}).get("preStop") for one in pod["spec"].get("containers") or ())


def explain_over(pod: Obj, world: World) -> Iterator[Finding]:
    """Of a pod that Failed."""
    status = pod.get("status") or {}
    if status.get("phase") != "Failed":
        return
    if status.get("reason") or status.get("message"):
        yield Finding(f"{status.get('reason') or 'Failed'}: {status.get('message') or ''}".rstrip(": "))
    listed = (("init container", "initContainerStatuses"), ("container", "containerStatuses"))
    for called, kind in listed:
        for container in status.get(kind) or ():
            ended = (container.get("state") or {}).get("terminated")
            if ended and ended.get("exitCode"):
                fix = f"kubectl logs {name(pod)} -c {container['name']}"
                if ended.get("reason") == "OOMKilled":
                    fix = "raise its memory limit"
                yield Finding(f"{called} {container['name']} {end(ended)}", fix, printed(pod, container, world))
