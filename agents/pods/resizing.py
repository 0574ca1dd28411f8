"""Applying what was allotted: other limits for running containers, and the record of it on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import structlog

from agents.pods.allocation import told
from agents.pods.checkpoint import save, text_of
from agents.pods.memory import Memory
from agents.pods.paths import pod_files
from agents.pods.sizes import Update
from agents.pods.sizing import Progress
from agents.pods.steps import Resize
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.resources.limits import UNLIMITED, Limits
from agents.resources.usage import find_hierarchy
from agents.runtime.errors import EngineTimeout, EngineUnavailable, NoSuchContainer, RuntimeFailure
from agents.runtime.model import Resources
from orca.api.objects import meta, uid

log = structlog.get_logger()

FIRST_RETRY = 2.0
LAST_RETRY = 60.0


async def save_sizes(subject: Subject, tools: Tools) -> bool:
    """Put the allotment on disk; nothing of it is applied before. False when that failed, which is noted."""
    sizing = subject.memory.sizing
    text = text_of(sizing)
    try:
        await save(pod_files(tools.config, uid(subject.pod)).directory, text)
    except OSError as error:
        subject.failed("sizes", "", str(error))
        _blocked(subject, f"allocation cannot be saved: {error}")
        return False
    subject.succeeded("sizes")
    # Another resize may have been allotted meanwhile.
    sizing.unsaved = text_of(sizing) != text
    return True


async def resize(subject: Subject, tools: Tools, action: Resize) -> None:
    """One update after the other, memory before cpu. What grows, grows from the pod's own cgroup down to those of the
    containers; what shrinks, the other way. A failure leaves the rest for the next try."""
    updates, memory = action.updates, subject.memory
    try:
        if not await _place(subject, tools, action.placements):
            return
        pod = subject.allotted
        want, now = tools.cgroups.limits_of(pod), await tools.cgroups.current(pod)
        have, used = now or (Limits(), 0)
        tight = [text for one in updates if one.shrinks_memory and (text := await _too_small(one, memory))]
        if want.memory and _below(want.memory, have.memory) and used >= want.memory:
            tight.append(f"attempting to set pod memory limit ({want.memory}) below current usage ({used})")
        if tight:
            why = tight[0] if len(tight) == 1 else f"[{', '.join(tight)}]"
            _failed(subject, f"cannot decrease memory limits: {why}")
            return
        bytes_ = Limits(memory=want.memory)
        cpu = Limits(cpu_shares=want.cpu_shares, cpu_quota=want.cpu_quota, cpu_period=want.cpu_period)
        of_memory = [one for one in updates if not (one.limits.cpu_shares or one.limits.cpu_quota)]
        of_cpu = [one for one in updates if one not in of_memory]
        for limits, down, part in (
            (bytes_, _below(want.memory, have.memory), of_memory),
            (cpu, _below(want.cpu_quota, have.cpu_quota), of_cpu),
        ):
            if now is not None and not down:
                await tools.cgroups.change(pod, limits)
            if not await _update(subject, tools, part):
                return
            if now is not None and down:
                await tools.cgroups.change(pod, limits)
    except (EngineUnavailable, EngineTimeout):
        raise
    except NoSuchContainer:
        return  # it ended meanwhile, and is made anew with what is allotted
    except (RuntimeFailure, OSError) as error:
        _failed(subject, str(error))
        return
    if want == tools.cgroups.limits_of(subject.allotted):
        # Otherwise more was allotted meanwhile.
        memory.sizing.whole, memory.sizing.in_force = True, None
    subject.succeeded("resize")


async def _update(subject: Subject, tools: Tools, updates: Sequence[Update]) -> bool:
    """False when one of them did not take."""
    memory, runtime = subject.memory, tools.runtime
    for one in updates:
        if one.limits != Resources():
            await runtime.update(one.id, one.limits)
            info = await runtime.inspect(one.id)
            memory.observe(info)
            if info.running and not _taken(one.limits, info.resources):
                _failed(subject, f'the engine does not set the limits of container "{one.container}" on this host')
                return False
        if one.request is not None:
            memory.sizing.requested[one.id] = one.request
            memory.sizing.unsaved = True
    return True


async def _place(subject: Subject, tools: Tools, placements: Sequence[Update]) -> bool:
    """Have containers run on other cpus; nobody asked for it, so nobody is told. False when one could not."""
    for one in placements:
        try:
            await tools.runtime.update(one.id, one.limits)
        except NoSuchContainer:
            continue
        except (EngineUnavailable, EngineTimeout):
            raise
        except RuntimeFailure as error:
            subject.failed("resize", "", str(error), first=FIRST_RETRY, last=LAST_RETRY)
            log.warning("container cannot be moved to other cpus", container=one.id[:12], error=str(error))
            return False
        subject.memory.observe(await tools.runtime.inspect(one.id))
    return True


def _below(wanted: int | None, had: int | None) -> bool:
    """Whether a limit comes down; none at all is the greatest."""
    if wanted is None or had is None or wanted == UNLIMITED:
        return False
    return had == UNLIMITED or wanted < had


def _taken(asked: Resources, shown: Resources) -> bool:
    """An engine without a kind of limit warns and leaves it out."""
    pairs = zip(astuple(asked), astuple(shown), strict=True)
    return all(one in (0, "", other) for one, other in pairs)


async def _too_small(update: Update, memory: Memory) -> str:
    """Why memory cannot be taken away: the kernel would kill for it."""
    wanted, info = update.limits.memory, memory.find(update.id)
    used = await asyncio.to_thread(_memory_in_use, info.pid) if info is not None and info.running else 0
    if used < wanted:
        return ""
    return f'attempting to set container "{update.container}" memory limit ({wanted}) below current usage ({used})'


def _memory_in_use(pid: int) -> int:
    """Bytes in the cgroup of a process, page cache included; 0 when it has ended."""
    try:
        membership = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return 0
    hierarchy = find_hierarchy()
    location = hierarchy.locate(membership)
    usage = hierarchy.usage(location) if location is not None else None
    return usage.memory if usage is not None else 0


def _failed(subject: Subject, why: str) -> None:
    subject.failed("resize", "", why, first=FIRST_RETRY, last=LAST_RETRY)
    _blocked(subject, why)


def _blocked(subject: Subject, why: str) -> None:
    """Tell what is in the way, once."""
    sizing = subject.memory.sizing
    before = sizing.progress
    generation = before.generation if before is not None else int(meta(subject.pod).get("generation") or 0)
    if before is None or before.error != why:
        sizing.progress = Progress(generation, why)
        subject.tell("ResizeError", told("error", subject.allotted, generation, why), warning=True)
