"""How full the volumes of claims are: the file systems that they are on, as upstream tells it of local volumes and nfs
(``MetricsStatFS``).

Asking a file system whose server does not answer takes minutes. So each volume is asked in a thread of its own, and not
again before that has come back: it is left out meanwhile, and holds up nothing but itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agents.pods.ports import Tenant
from agents.stats.disk import filesystem
from agents.stats.model import Filesystem
from orca.api.objects import Obj, name, namespace, uid

ANSWER_SECONDS = 2.0
"""A file system that has not answered by then is left out."""


@dataclass(frozen=True, slots=True)
class ClaimUse:
    """A volume of a pod that a claim stands for, and how full it is."""

    pod_uid: str
    volume: str
    """The name in the pod's spec."""
    namespace: str
    claim: str
    filesystem: Filesystem


def claim_of(pod: Obj, volume: Obj) -> str:
    """The name of the claim that a volume of a pod's spec stands for, "" where it is of another kind."""
    if "ephemeral" in volume:
        return f"{name(pod)}-{volume['name']}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


class ClaimMeter:
    """See the module. ``look`` asks one file system; it may block for as long as it likes."""

    def __init__(self, look: Callable[[str, datetime], Filesystem | None] = filesystem) -> None:
        self._look = look
        self._asked: dict[str, asyncio.Future[Filesystem | None]] = {}

    def __repr__(self) -> str:
        return f"<ClaimMeter asking {len(self._asked)}>"

    async def measure(self, tenants: Iterable[Tenant], now: datetime) -> list[ClaimUse]:
        """The volumes of claims that these pods have mounted; without those that do not answer."""
        wanted = [(tenant.pod, *one) for tenant in tenants for one in _mounted(tenant)]
        asking = {path: self._ask(path, now) for path in {path for *_, path in wanted}}
        if asking:
            await asyncio.wait(asking.values(), timeout=ANSWER_SECONDS)
        found = {path: asked.result() for path, asked in asking.items() if asked.done()}
        return [
            ClaimUse(uid(pod), volume, namespace(pod), claim, there)
            for pod, volume, claim, path in wanted
            if (there := found.get(path)) is not None
        ]

    def _ask(self, path: str, now: datetime) -> asyncio.Future[Filesystem | None]:
        asked = self._asked.get(path)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asked[path] = loop.create_future()

            def answered(there: Filesystem | None) -> None:
                self._asked.pop(path).set_result(there)

            def ask() -> None:
                there = self._look(path, now)
                if not loop.is_closed():
                    loop.call_soon_threadsafe(answered, there)

            threading.Thread(target=ask, name="claim-use", daemon=True).start()
        return asked


def by_volume(uses: Sequence[ClaimUse]) -> Mapping[str, dict[str, ClaimUse]]:
    """Pod uid -> the name in its spec -> how full that is."""
    found: dict[str, dict[str, ClaimUse]] = {}
    for use in uses:
        found.setdefault(use.pod_uid, {})[use.volume] = use
    return found


def _mounted(tenant: Tenant) -> Iterator[tuple[str, str, str]]:
    """(name in the spec, claim, path) of volumes that are mounted."""
    for volume in (tenant.pod.get("spec") or {}).get("volumes") or ():
        claim, path = claim_of(tenant.pod, volume), tenant.volumes.get(volume["name"])
        if claim and path is not None:
            yield volume["name"], claim, str(path)
