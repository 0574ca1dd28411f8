"""Discovery of group versions that are served elsewhere, in the forms clients ask for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orca.api.objects import Obj
from orca.server.aggregation.apiservices import CUSTOM_PRIORITY, PRIORITIES, GroupVersion, version_order


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """One group version of another server: its resources as ``apidiscovery.k8s.io`` shows them, old ones if not
    ``fresh``."""

    group: str
    version: str
    group_priority: int
    version_priority: int
    resources: tuple[Obj, ...] = ()
    fresh: bool = False


def merged_groups(local: Mapping[str, Sequence[str]], remote: Sequence[RemoteVersion]) -> dict[str, list[str]]:
    """group -> versions, preferred first, of both together, by their priorities."""
    order = {group: at for at, group in enumerate(local)}
    group_rank: dict[str, int] = {}
    version_rank: dict[GroupVersion, int] = {}
    for group, versions in local.items():
        for version in versions:
            least, rank = PRIORITIES.get((group, version), CUSTOM_PRIORITY)
            group_rank[group] = max(group_rank.get(group, 0), least)
            # Versions of one custom kind share their priority; their order is the table's.
            version_rank[group, version] = rank
    for one in remote:
        group_rank[one.group] = max(group_rank.get(one.group, 0), one.group_priority)
        version_rank[one.group, one.version] = one.version_priority
    found: dict[str, list[str]] = {}
    for group in sorted(group_rank, key=lambda name: (-group_rank[name], order.get(name, len(order)), name)):
        versions = [version for of, version in version_rank if of == group]
        found[group] = sorted(versions, key=lambda one: (-version_rank[group, one], version_order(one)))
    return found


def aggregated_resources(group: str, version: str, listed: Any) -> tuple[Obj, ...]:
    """The entries of an APIResourceList in aggregated form. Raises ValueError for something else."""
    entries = listed.get("resources") if isinstance(listed, dict) and listed.get("kind") == "APIResourceList" else None
    if entries is None:
        if isinstance(listed, dict) and listed.get("kind") == "APIResourceList":
            return ()
        raise ValueError("not an APIResourceList")
    found: dict[str, Obj] = {}
    for entry in entries:
        name, _, sub = str(entry.get("name") or "").partition("/")
        kind = {
            "group": entry.get("group") or group,
            "version": entry.get("version") or version,
            "kind": entry.get("kind") or "",
        }
        if not sub:
            row = found.setdefault(name, {"resource": name})
            row |= {
                "responseKind": kind,
                "scope": "Namespaced" if entry.get("namespaced") else "Cluster",
                "singularResource": entry.get("singularName") or "",
                "verbs": list(entry.get("verbs") or ()),
            }
            for key in ("shortNames", "categories"):
                if entry.get(key):
                    row[key] = list(entry[key])
            continue
        row = found.setdefault(name, {"resource": name})
        row.setdefault("scope", "Namespaced" if entry.get("namespaced") else "Cluster")
        shown = {"subresource": sub, "responseKind": kind, "verbs": list(entry.get("verbs") or ())}
        row.setdefault("subresources", []).append(shown)
    return tuple(found.values())
