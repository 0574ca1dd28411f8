"""ComponentStatus: the deprecated view of what a control plane is made of.

Scheduler and controllers run in whichever server leads; they are well while that one renews its lease.
"""

from __future__ import annotations

from datetime import timedelta

import orjson

from orca.api.builtin import LEASES
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.times import parse_time
from orca.server.verbs.core import Core
from orca.store import Entry

_LEASE = ("kube-system", "orca-controllers")
_NAMES = ("controller-manager", "scheduler", "etcd-0")


async def statuses(core: Core) -> list[Entry]:
    """One entry a component, in upstream's order."""
    led = _led(core)
    try:
        await core.store.ping()
    except (ApiError, OSError, TimeoutError) as error:
        stored = str(error) or "etcd does not answer"
    else:
        stored = ""
    found = []
    for name in _NAMES:
        problem = stored if name == "etcd-0" else led
        obj = _status(name, problem)
        found.append(Entry("", name, core.store.revision, obj, orjson.dumps(obj)))
    return found


def _led(core: Core) -> str:
    """ "" while somebody leads, else what is wrong."""
    spec = (core.store.peek(LEASES, *_LEASE) or {}).get("spec") or {}
    renewed = spec.get("renewTime")
    if not renewed:
        return "no server leads"
    ends = parse_time(renewed) + timedelta(seconds=spec.get("leaseDurationSeconds") or 0)
    return "" if core.clock.now() < ends else f"the leading server renewed its lease last at {renewed}"


def _status(name: str, problem: str) -> Obj:
    condition = {"type": "Healthy", "status": "False" if problem else "True", "message": problem or "ok"}
    return {"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]}
