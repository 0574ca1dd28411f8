"""This host's decision to end a pod, on disk before it is carried out: the agent that comes next carries it through."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import structlog

from agents.durable import read_object, write_file
from agents.pods.memory import Doom

log = structlog.get_logger()

_FILE = "verdict.json"


def load_verdict(directory: Path) -> Doom | None:
    """What was decided about the pod whose directory it is; None when it may live."""
    try:
        found = read_object(directory / _FILE)
        grace = found["grace"]
        return Doom(
            str(found["reason"]),
            str(found["message"]),
            grace=None if grace is None else float(grace),
            disruption=str(found["disruption"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Written at once or not at all, so the disk is at fault. The pod lives; who wanted its end will want it again.
        log.warning("verdict cannot be read", file=str(directory / _FILE), error=str(error))
        return None


async def save_verdict(directory: Path, doom: Doom) -> None:
    """On disk when it returns, also after a power cut. Raises OSError."""
    kept = {"reason": doom.reason, "message": doom.message, "grace": doom.grace, "disruption": doom.disruption}
    await asyncio.to_thread(write_file, directory, _FILE, json.dumps(kept))
