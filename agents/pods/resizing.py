"""Applying what was allotted: other limits for running containers, and the record of it on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from agents.pods.allocation import told
from agents.pods.checkpoint import save, text_of
from agents.pods.compose import pod_files
from agents.pods.sizes import Update
from agents.pods.sizing import Progress
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.runtime.errors import EngineTimeout, EngineUnavailable, NoSuchContainer, RuntimeFailure
from agents.runtime.model import Resources
from orca.api.objects import meta, uid

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


async def resize(subject: Subject, tools: Tools, updates: Sequence[Update]) -> None:
    """One update after the other; a failure leaves the rest for the next try."""
    memory, runtime = subject.memory, tools.runtime
    try:
        tight = [text for one in updates if one.shrinks_memory and (text := await _too_small(one, tools))]
        if tight:
            why = tight[0] if len(tight) == 1 else f"[{', '.join(tight)}]"
            _failed(subject, f"cannot decrease memory limits: {why}")
            return
        for one in updates:
            if one.limits != Resources():
                await runtime.update(one.id, one.limits)
                info = await runtime.inspect(one.id)
                memory.observe(info)
                if info.running and not _taken(one.limits, info.resources):
                    _failed(subject, f'the engine does not set the limits of container "{one.container}" on this host')
                    return
            if one.request is not None:
                memory.sizing.requested[one.id] = one.request
                memory.sizing.unsaved = True
    except (EngineUnavailable, EngineTimeout):
        raise
    except NoSuchContainer:
        return  # it ended meanwhile, and is made anew with what is allotted
    except RuntimeFailure as error:
        _failed(subject, str(error))
        return
    subject.succeeded("resize")


def _taken(asked: Resources, shown: Resources) -> bool:
    """An engine without a kind of limit warns and leaves it out."""
    pairs = zip(astuple(asked), astuple(shown), strict=True)
    return all(one in (0, other) for one, other in pairs)


async def _too_small(update: Update, tools: Tools) -> str:
    """Why memory cannot be taken away: the kernel would kill for it."""
    wanted = update.limits.memory
    used = await tools.runtime.memory_usage(update.id)
    if used < wanted:
        return ""
    return f'attempting to set container "{update.container}" memory limit ({wanted}) below current usage ({used})'


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
