"""What the Node object last said of addresses, kept for a start without a server: pods of files need a network too."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import structlog

from agents.durable import read_object, write_file
from orca.api.objects import Obj, meta

_FILE = "node.json"

log = structlog.get_logger()


class NodeMemory:
    """The part of the Node that the pod network starts with, in the agent's directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept: Obj = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def read(self) -> Obj | None:
        """The Node as it was kept last, None when it never was."""
        try:
            return await asyncio.to_thread(read_object, self._root / _FILE)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the node of before is not known", error=str(error))
            return None

    def keep(self, node: Obj) -> None:
        """Remember this state, in the background."""
        spec, status = node.get("spec") or {}, node.get("status") or {}
        kept = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": meta(node).get("name"), "uid": meta(node).get("uid")},
            "spec": {part: spec[part] for part in ("podCIDR", "podCIDRs") if part in spec},
            "status": {"addresses": status.get("addresses") or []},
        }
        if kept == self._kept or not kept["spec"]:
            return
        self._kept = kept
        task = asyncio.ensure_future(self._write(kept))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, kept: Obj) -> None:
        try:
            await asyncio.to_thread(write_file, self._root, _FILE, json.dumps(kept))
        except OSError as error:
            log.warning("the node cannot be remembered", error=str(error))
