"""The workloads that change under chaos: thirty, of all kinds that make pods."""

from __future__ import annotations

import random

from orca.api.builtin import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
)
from orca.api.resources import Resource
from tests.api.chaos.kubelets import FAILS
from tests.api.chaos.world import Obj

SPACES = ("chaos-a", "chaos-b")
DOOMED = "chaos-doomed"
"""A namespace that is deleted and made again."""
QUOTA = 70
"""Pods in the second namespace: enough for what is wanted there, hardly for what a rollout may want on top."""


def template(name: str, *, never: bool = False, **labels: str) -> Obj:
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": "200m", "memory": "64Mi"}}}
    spec: Obj = {"containers": [container], "automountServiceAccountToken": False}
    if never:
        spec["restartPolicy"] = "Never"
    return {"metadata": {"labels": {"app": name, **labels}}, "spec": spec}


def _of(resource: Resource, space: str, name: str, spec: Obj) -> Obj:
    metadata = {"name": name, "namespace": space}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


def deployment(space: str, name: str, chance: random.Random) -> Obj:
    spec: Obj = {
        "replicas": chance.randint(1, 6),
        "selector": {"matchLabels": {"app": name}},
        "template": template(name),
    }
    how = chance.choice(["recreate", "percent", "surge", "unavailable", "default"])
    if how == "recreate":
        spec["strategy"] = {"type": "Recreate"}
    elif how != "default":
        limits = {"percent": ("50%", "34%"), "surge": (2, 0), "unavailable": (0, 2)}[how]
        rolling = {"maxSurge": limits[0], "maxUnavailable": limits[1]}
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return _of(DEPLOYMENTS, space, name, spec)


def replicaset(space: str, name: str, chance: random.Random) -> Obj:
    spec = {"replicas": chance.randint(1, 6), "selector": {"matchLabels": {"app": name}}, "template": template(name)}
    return _of(REPLICASETS, space, name, spec)


def replication_controller(space: str, name: str, chance: random.Random) -> Obj:
    spec = {"replicas": chance.randint(1, 6), "selector": {"app": name}, "template": template(name)}
    return _of(REPLICATIONCONTROLLERS, space, name, spec)


def statefulset(space: str, name: str, chance: random.Random, *, claims: bool = False, parallel: bool = False) -> Obj:
    spec: Obj = {
        "replicas": chance.randint(1, 4),
        "serviceName": name,
        "selector": {"matchLabels": {"app": name}},
        "template": template(name),
    }
    if parallel:
        spec["podManagementPolicy"] = "Parallel"
    if claims:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        spec["volumeClaimTemplates"] = [
            {"metadata": {"name": "data"}, "spec": {**claim, "storageClassName": "local-path"}}
        ]
        spec["template"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return _of(STATEFULSETS, space, name, spec)


def daemonset(space: str, name: str, *, surge: bool = False) -> Obj:
    spec: Obj = {"selector": {"matchLabels": {"app": name}}, "template": template(name)}
    rolling = {"maxSurge": 2, "maxUnavailable": 0} if surge else {"maxUnavailable": 3}
    spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return _of(DAEMONSETS, space, name, spec)


def job(space: str, name: str, chance: random.Random, *, indexed: bool) -> Obj:
    completions = chance.randint(2, 6)
    spec = {
        "completions": completions,
        "parallelism": chance.randint(1, 4),
        "backoffLimit": 50,
        "template": template(name, never=True, **{FAILS: "some"}),
    }
    if indexed:
        spec["completionMode"] = "Indexed"
    return _of(JOBS, space, name, spec)


def cronjob(space: str, name: str, policy: str, kept: int) -> Obj:
    work = {"completions": 2, "parallelism": 2, "template": template(name, never=True)}
    spec = {
        "schedule": "* * * * *",
        "concurrencyPolicy": policy,
        "successfulJobsHistoryLimit": kept,
        "jobTemplate": {"spec": work},
    }
    return _of(CRONJOBS, space, name, spec)


def service(space: str, name: str) -> Obj:
    return _of(SERVICES, space, name, {"selector": {"app": name}, "ports": [{"port": 80}]})


def thirty(chance: random.Random) -> list[tuple[Resource, Obj]]:
    """Whatever the chance, the same kinds and names."""
    made: list[tuple[Resource, Obj]] = []
    for number in range(9):
        made.append((DEPLOYMENTS, deployment(SPACES[number % 2], f"deploy-{number}", chance)))
    for number in range(2):
        made.append((REPLICASETS, replicaset(SPACES[number % 2], f"set-{number}", chance)))
        made.append((REPLICATIONCONTROLLERS, replication_controller(SPACES[number % 2], f"rc-{number}", chance)))
    for number in range(5):
        how = {"claims": number < 2, "parallel": number in (1, 2)}
        made.append((STATEFULSETS, statefulset(SPACES[number % 2], f"state-{number}", chance, **how)))
    for number in range(3):
        made.append((DAEMONSETS, daemonset(SPACES[number % 2], f"daemon-{number}", surge=number == 1)))
    for number in range(6):
        made.append((JOBS, job(SPACES[number % 2], f"job-{number}", chance, indexed=number % 2 == 0)))
    for number, (policy, kept) in enumerate((("Allow", 0), ("Forbid", 1), ("Replace", 0))):
        made.append((CRONJOBS, cronjob(SPACES[number % 2], f"cron-{number}", policy, kept)))
    return made
