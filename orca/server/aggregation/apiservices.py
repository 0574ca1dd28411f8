"""What APIServices say: who serves a group version, and with which priority. Reads the cache only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from orca.api.builtin import APISERVICES
from orca.api.objects import Obj
from orca.api.resources import Resource

GroupVersion = tuple[str, str]

CUSTOM_PRIORITY = (1000, 100)
PRIORITIES: dict[GroupVersion, tuple[int, int]] = {
    ("", "v1"): (18000, 1),
    ("apps", "v1"): (17800, 15),
    ("events.k8s.io", "v1"): (17750, 15),
    ("authentication.k8s.io", "v1"): (17700, 15),
    ("authorization.k8s.io", "v1"): (17600, 15),
    ("autoscaling", "v1"): (17500, 15),
    ("autoscaling", "v2"): (17500, 30),
    ("batch", "v1"): (17400, 15),
    ("certificates.k8s.io", "v1"): (17300, 15),
    ("networking.k8s.io", "v1"): (17200, 15),
    ("policy", "v1"): (17100, 15),
    ("rbac.authorization.k8s.io", "v1"): (17000, 15),
    ("storage.k8s.io", "v1"): (16800, 15),
    ("apiextensions.k8s.io", "v1"): (16700, 15),
    ("admissionregistration.k8s.io", "v1"): (16700, 15),
    ("scheduling.k8s.io", "v1"): (16600, 15),
    ("coordination.k8s.io", "v1"): (16500, 15),
    ("node.k8s.io", "v1"): (16300, 15),
    ("discovery.k8s.io", "v1"): (16200, 15),
    ("flowcontrol.apiserver.k8s.io", "v1"): (16100, 21),
    ("resource.k8s.io", "v1"): (15900, 20),
    ("storagemigration.k8s.io", "v1"): (15800, 15),
}
"""(groupPriorityMinimum, versionPriority) of built-in group versions, as kube-apiserver registers them."""

_VERSION = re.compile(r"^v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?$")


class Reader(Protocol):
    """The cached side of the store."""

    def peek_list(
        self, resource: Resource, namespace: str = "", /, *, hint: tuple[str, str] | None = None
    ) -> list[Obj]:
        """All objects of the cluster."""

    def last_change(self, resource: Resource, /) -> int:
        """While this stays equal, nothing of the kind changed."""


def name_of(group: str, version: str) -> str:
    """The APIService's name."""
    return f"{version}.{group}"


def group_version(service: Obj) -> GroupVersion:
    """What an APIService is about."""
    spec = service.get("spec") or {}
    return spec.get("group") or "", spec.get("version") or ""


def is_available(service: Obj) -> bool:
    """Whether its Available condition is true."""
    conditions = (service.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Available" and one.get("status") == "True" for one in conditions)


def version_order(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes prefers them: GA, beta, alpha; high numbers first; others last, by name."""
    found = _VERSION.match(version)
    if found is None:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[found[2]]
    return (stage, -int(found[1]), -int(found[3] or 0), version)


class ApiServices:
    """The APIServices that lead elsewhere, by group version."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._seen = -1
        self._remote: dict[GroupVersion, Obj] = {}

    def remote(self, group: str, version: str) -> Obj | None:
        """The APIService whose server has this group version; None when that is served here, or by nobody."""
        self._refresh()
        return self._remote.get((group, version)) if self._remote else None

    def remotes(self) -> Iterable[Obj]:
        """All of them."""
        self._refresh()
        return tuple(self._remote.values())

    def _refresh(self) -> None:
        change = self._reader.last_change(APISERVICES)
        if change != self._seen:
            found = self._reader.peek_list(APISERVICES)
            self._remote = {group_version(one): one for one in found if (one.get("spec") or {}).get("service")}
            self._seen = change
