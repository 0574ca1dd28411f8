"""What was made for which pod, on disk: an agent that starts anew, after whatever end, can have it checked and taken
away by the very plugins and configuration that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from agents.durable import read_object, write_file
from agents.network.cni.chain import Attachment
from agents.network.cni.configs import NetworkConfig
from orca.api.objects import Obj

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Record:
    """``result`` is None from before the first plugin ran until the last one was done. ``pid`` and ``inode`` tell the
    namespace: a process that has another now is a stranger."""

    network: NetworkConfig
    sandbox: str
    pod: str
    namespace: str
    pid: int
    inode: int
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    result: Obj | None = None

    def done(self, result: Obj) -> Record:
        return replace(self, result=result)

    def attachment(self, uid: str) -> Attachment:
        """What plugins are told now."""
        path = netns_path(self.pid)
        netns = path if self.inode and inode_of(path) == self.inode else ""
        return Attachment(self.sandbox, netns, self.pod, self.namespace, uid, self.capabilities)


def netns_path(pid: int) -> str:
    return f"/proc/{pid}/ns/net"


def inode_of(path: str) -> int:
    """0 when there is none."""
    try:
        return Path(path).stat().st_ino
    except OSError:
        return 0


class Records:
    """``<root>/network/cni/<pod uid>.json``, all of them in memory too. Writes block."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "network" / "cni"
        self.by_uid: dict[str, Record] = {}

    def load(self) -> None:
        """What former agents left; what cannot be read is told and left alone."""
        try:
            files = sorted(self.directory.glob("*.json"))
        except OSError:
            return
        for path in files:
            try:
                self.by_uid[path.stem] = _parsed(read_object(path))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("what plugins made for a pod cannot be read", file=str(path), error=str(error))

    def save(self, uid: str, record: Record) -> None:
        """Raises OSError."""
        text = json.dumps(
            {
                "network": record.network.record,
                "sandbox": record.sandbox,
                "pod": record.pod,
                "namespace": record.namespace,
                "pid": record.pid,
                "inode": record.inode,
                "capabilities": dict(record.capabilities),
                "result": record.result,
            }
        )
        write_file(self.directory, f"{uid}.json", text)
        self.by_uid[uid] = record

    def forget(self, uid: str) -> None:
        """Raises OSError."""
        (self.directory / f"{uid}.json").unlink(missing_ok=True)
        self.by_uid.pop(uid, None)


def _parsed(found: Obj) -> Record:
    return Record(
        NetworkConfig.of(found["network"]),
        str(found["sandbox"]),
        str(found["pod"]),
        str(found["namespace"]),
        int(found["pid"]),
        int(found["inode"]),
        dict(found["capabilities"]),
        found["result"] if found["result"] is None else dict(found["result"]),
    )
