"""What modules of tests leave behind on the lab that they share: nothing that the next one could stumble over.

A module may do with the lab what it likes as long as the next finds it as if it had been the first: any order of
modules is one in which they pass. Namespaces of tests may still be going.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca.lab import host as hosts
from orca.lab.layout import Lab, LabError
from orca.lab.services import AGENT, ENGINE, SERVER
from tests.support.agents import wait_until_followed
from tests.support.kubectl import Kubectl, eventually

BESIDE = ("autoscaling-", "story-")
"""Namespaces of what goes on beside tests, and so comes and goes with none of them."""
_OF_THE_CLUSTER = "nodes,namespaces,persistentvolumes,storageclasses,ingressclasses,runtimeclasses,priorityclasses"
_OF_A_NAMESPACE = "pods,services,configmaps,secrets,deployments,statefulsets,daemonsets,jobs,networkpolicies"


@dataclass(frozen=True)
class LabState:
    """All that tests could have changed, each with a name of its own; ``processes`` may be others and are none."""

    found: dict[str, Any]
    processes: dict[str, int]

    def differs(self, other: LabState) -> dict[str, tuple[Any, Any]]:
        """What is otherwise here: (here, there)."""
        names = self.found.keys() | other.found.keys()
        both = {name: (self.found.get(name), other.found.get(name)) for name in sorted(names)}
        return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def look(lab: Lab, admin: Kubectl) -> LabState:
    """The lab as it is."""
    found: dict[str, Any] = {}
    for obj in admin.items(_OF_THE_CLUSTER):
        found.update(_of_object(obj))
    for space in ("default", "kube-system"):
        for obj in admin.within(space).items(_OF_A_NAMESPACE):
            found.update(_of_object(obj))
    processes = {}
    for host in lab.hosts:
        for service in (AGENT, ENGINE, *((SERVER,) if host.is_server else ())):
            pid = hosts.service_pid(host, service)
            processes[f"{service} of {host.name}"] = pid
            found[f"arguments of {service} of {host.name}"] = _arguments(pid)
    return LabState(found, processes)


def look_first(lab: Lab, admin: Kubectl) -> LabState:
    """The lab as it is once nothing of its beginning is under way: nodes are Ready before the taint of those that are
    not is taken from them, and what the server makes by itself comes when it comes."""
    seen = [look(lab, admin)]

    def settled() -> bool:
        time.sleep(1)
        seen.append(look(lab, admin))
        taints = [one for name, value in seen[-1].found.items() if name.endswith(": taints") for one in value]
        assert not [one for one in taints if one.startswith("node.kubernetes.io/")], taints
        different = seen[-1].differs(seen[-2])
        assert not different, different
        return True

    eventually(settled, what="the lab has settled")
    return seen[-1]


def check_left_as(before: LabState, lab: Lab, admin: Kubectl) -> LabState:
    """The lab as it is now, once it is as it was; fails with what stays otherwise. Agents that began anew meanwhile,
    or have lost a server that did, follow it again."""
    seen: list[LabState] = []

    def the_same() -> bool:
        try:
            seen.append(look(lab, admin))
        except (LabError, OSError) as error:
            raise AssertionError(error) from error  # a service between two lives, or that ends while it is looked at
        different = seen[-1].differs(before)
        assert not different, "\n".join(f"{name}: {now} (was {was})" for name, (now, was) in different.items())
        return True

    eventually(the_same, what="the lab is left as it was found")
    if seen[-1].processes != before.processes:
        wait_until_followed(lab, admin)
    return seen[-1]


def _of_object(obj: dict[str, Any]) -> dict[str, Any]:
    """What counts of an object, by names of it; nothing of one that is going, or is of what goes on beside tests."""
    kind, metadata = obj["kind"], obj["metadata"]
    name = f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"
    if "deletionTimestamp" in metadata or metadata["name"].startswith(BESIDE):
        return {}
    if kind == "PersistentVolume":
        # Of a claim: it goes with that, a little later.
        return {} if "claimRef" in obj["spec"] else {name: True}
    if kind != "Node":
        return {name: True}
    ready = next((one["status"] for one in obj["status"]["conditions"] if one["type"] == "Ready"), "")
    taints = [f"{one['key']}={one.get('value', '')}:{one['effect']}" for one in obj["spec"].get("taints") or ()]
    return {
        f"{name}: ready": ready,
        f"{name}: taints": sorted(taints),
        f"{name}: unschedulable": obj["spec"].get("unschedulable", False),
        f"{name}: labels": metadata["labels"],
        f"{name}: pods": obj["status"]["capacity"]["pods"],
    }


def _arguments(pid: int) -> list[str]:
    """What a program was started with, but for the token with which an agent joined at first."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return [json.dumps(word) if " " in word else word for word in words if word and not word.startswith("--token=")]
