"""Whom a container's first process was started as, read from what the engine gave its runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

_PROC = Path("/proc")


def linux_user(container_id: str, pid: int, proc: Path = _PROC) -> dict[str, Any] | None:
    """``{"uid", "gid", "supplementalGroups"}`` of a running container's process as it was started; None when that
    cannot be told any more. ``pid`` is its process on this host.

    Its parent, the shim, stands in the bundle's directory, whose ``config.json`` says it; the process itself may have
    become somebody else since.
    """
    try:
        parent = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        bundle = proc / str(parent) / "cwd"
        if container_id not in str(bundle.readlink()):
            return None
        user = orjson.loads((bundle / "config.json").read_bytes())["process"]["user"]
        gid = int(user["gid"])
        # As upstream's runtimes tell it, the primary group is one of them.
        groups = [gid, *(int(one) for one in user.get("additionalGids") or () if int(one) != gid)]
        return {"uid": int(user["uid"]), "gid": gid, "supplementalGroups": groups}
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
