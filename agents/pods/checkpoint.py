"""A resized pod's allotment in its directory, and which of its containers were stopped to be made anew, for the agent
that comes after this one."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from agents.durable import read_object, write_file
from agents.pods.sizing import Sizing

log = structlog.get_logger()

_FILE = "resources.json"
_ONE_BY_ONE = ThreadPoolExecutor(1, "allotments")


def load(directory: Path) -> Sizing | None:
    """What was saved of the pod whose directory it is; None when there is nothing."""
    try:
        found = read_object(directory / _FILE)
        return Sizing(
            dict(found["allotted"]),
            dict(found["requested"]),
            restarting=set(found["restarting"]),
            replaced=set(found.get("replaced", ())),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Written at once or not at all, so the disk is at fault: containers' labels tell the next best.
        log.warning("allotment cannot be read", file=str(directory / _FILE), error=str(error))
        return None


async def save(directory: Path, text: str) -> None:
    """Write what :func:`text_of` made, so that it is there after a power cut or not at all; in the order of the calls.
    Raises OSError."""
    # A write whose caller was cancelled still ends; it must not overtake one that came after it.
    await asyncio.get_running_loop().run_in_executor(_ONE_BY_ONE, write_file, directory, _FILE, text)


def text_of(sizing: Sizing) -> str:
    """The part of a pod's sizing that is to outlive the agent."""
    kept = {
        "allotted": sizing.allotted,
        "requested": sizing.requested,
        "restarting": sorted(sizing.restarting),
        "replaced": sorted(sizing.replaced),
    }
    return json.dumps(kept)
