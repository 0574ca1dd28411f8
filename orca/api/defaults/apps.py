"""Workload controllers of the apps group, and ReplicationController."""

from __future__ import annotations

from orca.api.defaults.pods import claim_spec, template
from orca.api.defaults.registry import Obj, defaults, part, put, put_text

HISTORY = 10
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
"""An annotation that counts a DaemonSet's templates. Every version shows it, and only a create listens to it."""


@defaults("apps", "Deployment")
def deployment(obj: Obj) -> None:
    """Defaults of a Deployment."""
    spec = part(obj, "spec")
    put(spec, replicas=1, revisionHistoryLimit=HISTORY, progressDeadlineSeconds=600)
    strategy = part(spec, "strategy")
    put_text(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        put(part(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")
    template(spec.get("template"))


@defaults("apps", "ReplicaSet")
def replica_set(obj: Obj) -> None:
    """Defaults of a ReplicaSet."""
    spec = part(obj, "spec")
    put(spec, replicas=1)
    template(spec.get("template"))


@defaults("", "ReplicationController")
def replication_controller(obj: Obj) -> None:
    """Defaults of a ReplicationController: selector and labels come from the template."""
    spec = part(obj, "spec")
    put(spec, replicas=1)
    found = spec.get("template")
    template(found)
    labels = ((found or {}).get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        meta = part(obj, "metadata")
        if not meta.get("labels"):
            meta["labels"] = dict(labels)


@defaults("apps", "DaemonSet")
def daemon_set(obj: Obj) -> None:
    """Defaults of a DaemonSet."""
    put(part(part(obj, "metadata"), "annotations"), **{TEMPLATE_GENERATION: "0"})
    spec = part(obj, "spec")
    put(spec, revisionHistoryLimit=HISTORY)
    strategy = part(spec, "updateStrategy")
    put_text(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        put(part(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)
    template(spec.get("template"))


@defaults("apps", "StatefulSet")
def stateful_set(obj: Obj) -> None:
    """Defaults of a StatefulSet, its claim templates included."""
    spec = part(obj, "spec")
    put(spec, replicas=1, revisionHistoryLimit=HISTORY)
    put_text(spec, podManagementPolicy="OrderedReady")
    strategy = part(spec, "updateStrategy")
    put_text(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        put(part(strategy, "rollingUpdate"), partition=0)
    put_text(part(spec, "persistentVolumeClaimRetentionPolicy"), whenDeleted="Retain", whenScaled="Retain")
    template(spec.get("template"))
    for claim in spec.get("volumeClaimTemplates") or ():
        put_text(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        claim_spec(part(claim, "spec"))
        put_text(part(claim, "status"), phase="Pending")
