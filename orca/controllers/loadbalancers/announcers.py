"""Which host announces the addresses of a Service: exactly one, and the same as long as it can. Pure.

Addresses spread over hosts by a hash of both (rendezvous hashing), so a host that comes or goes moves only what is its
own. A host is lost for this purpose when its lease was not renewed for `LOST_SECONDS`: those that announce renew it
every two seconds (``agents.balancer``), so addresses move long before the node counts as NotReady. As connections do
not survive the move, a host whose kernel answers while its agent does not has longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orca.api.objects import Obj, labels, name
from orca.controllers import conditions

LOST_SECONDS = 8.0
DEAF_SECONDS = 20.0
"""For a host that is there while its agent is silent: it starts again, perhaps on a busy machine. The rules in the
kernel serve meanwhile, and clients keep the address of a neighbour that long."""
HEARD_SECONDS = 13.0
"""A host that announces nothing renews its lease every ten."""
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
_GOING = "ToBeDeletedByClusterAutoscaler"


@dataclass(frozen=True, slots=True)
class Host:
    """A node as seen now; ``silent``: seconds since a sign of life."""

    name: str
    able: bool
    labels: Mapping[str, str]
    silent: float


def host_of(node: Obj, silent: float) -> Host:
    """A node may announce when it is ready, not excluded, and not about to be removed."""
    taints = (node.get("spec") or {}).get("taints") or ()
    able = (
        conditions.status_of(node, "Ready") == "True"
        and EXCLUDED not in labels(node)
        and not node["metadata"].get("deletionTimestamp")
        and not any(taint.get("key") == _GOING for taint in taints)
    )
    return Host(name(node), able, labels(node), silent)


def announcer(
    address: str,
    hosts: Iterable[Host],
    current: str,
    *,
    silent: float,
    local: Sequence[str] | None = None,
    selector: Mapping[str, str] | None = None,
) -> str:
    """The host for ``address``, "" when there is none. ``current`` has it now and has been silent for so long since;
    ``local``: only these may (policy Local); ``selector``: labels a host must have."""
    wanted = (selector or {}).items()
    able = [
        host for host in hosts if host.able and wanted <= host.labels.items() and (local is None or host.name in local)
    ]
    known = {host.name for host in able}
    if current in known and silent < LOST_SECONDS:
        return current
    others = [host for host in able if host.name != current]
    heard = [host for host in others if host.silent < HEARD_SECONDS]
    best = min(heard or others, key=lambda host: _rank(host.name, address), default=None)
    if best is not None and (heard or current not in known):
        return best.name
    # Nobody else was heard of either: then more likely this side is deaf, and moving would help nobody.
    return current if current in known else ""


def _rank(host: str, address: str) -> bytes:
    return hashlib.sha256(f"{host}#{address}".encode()).digest()


def local_hosts(slices: Iterable[Obj]) -> list[str]:
    """Hosts with endpoints of a Service that are ready; else those whose endpoints still serve while they end."""
    ready: set[str] = set()
    ending: set[str] = set()
    for one in slices:
        for endpoint in one.get("endpoints") or ():
            state, host = endpoint.get("conditions") or {}, endpoint.get("nodeName") or ""
            if host and state.get("ready") is not False:
                ready.add(host)
            elif host and state.get("terminating") and state.get("serving") is not False:
                ending.add(host)
    return sorted(ready or ending)
