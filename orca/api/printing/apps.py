"""Workloads: Deployment, ReplicaSet, StatefulSet, DaemonSet, ControllerRevision, ReplicationController, PodTemplate."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing import formats
from orca.api.printing.columns import (
    AGE,
    NAME,
    Cells,
    Obj,
    integer,
    name,
    printer,
    spec,
    status,
    text,
    workload_columns,
)
from orca.api.printing.duration import since

number = formats.number


def _age(obj: Obj, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


@printer(
    "apps",
    "Deployment",
    NAME,
    text("Ready", "Number of the pod with ready state"),
    text("Up-to-date", "Number of pods that have the wanted template."),
    text("Available", "Number of pods ready for at least minReadySeconds."),
    AGE,
    *workload_columns(),
)
def deployment(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get deployments -o wide``."""
    wanted, state = spec(obj), status(obj)
    return [
        name(obj),
        f"{number(state.get('readyReplicas'))}/{number(wanted.get('replicas'))}",
        number(state.get("updatedReplicas")),
        number(state.get("availableReplicas")),
        _age(obj, now),
        *formats.containers(formats.template_spec(wanted)),
        formats.selector_text(wanted.get("selector")),
    ]


_REPLICAS = (
    integer("Desired", "Number of pods wanted."),
    integer("Current", "Number of pods that exist."),
    integer("Ready", "Number of pods that are ready."),
)


@printer("apps", "ReplicaSet", NAME, *_REPLICAS, AGE, *workload_columns())
def replica_set(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get replicasets -o wide``."""
    wanted, state = spec(obj), status(obj)
    return [
        name(obj),
        number(wanted.get("replicas")),
        number(state.get("replicas")),
        number(state.get("readyReplicas")),
        _age(obj, now),
        *formats.containers(formats.template_spec(wanted)),
        formats.selector(wanted.get("selector")),
    ]


@printer("", "ReplicationController", NAME, *_REPLICAS, AGE, *workload_columns())
def replication_controller(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get replicationcontrollers -o wide``; its selector is a plain label set."""
    cells = replica_set({**obj, "spec": {**spec(obj), "selector": None}}, now)
    cells[-1] = formats.labels(spec(obj).get("selector"))
    return cells


@printer("apps", "StatefulSet", NAME, text("Ready", "Number of the pod with ready state"), AGE,
         *workload_columns(selector=False))  # fmt: skip
def stateful_set(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get statefulsets -o wide``."""
    wanted, state = spec(obj), status(obj)
    return [
        name(obj),
        f"{number(state.get('readyReplicas'))}/{number(wanted.get('replicas'))}",
        _age(obj, now),
        *formats.containers(formats.template_spec(wanted)),
    ]


@printer(
    "apps",
    "DaemonSet",
    NAME,
    integer("Desired", "Number of nodes that should run the pod."),
    integer("Current", "Number of nodes that run at least one pod and should."),
    integer("Ready", "Number of nodes with a ready pod."),
    integer("Up-to-date", "Number of nodes with a pod of the wanted template."),
    integer("Available", "Number of nodes with an available pod."),
    text("Node Selector", "Labels a node must have."),
    AGE,
    *workload_columns(),
)
def daemon_set(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get daemonsets -o wide``."""
    wanted, state = spec(obj), status(obj)
    pod_spec = formats.template_spec(wanted)
    return [
        name(obj),
        number(state.get("desiredNumberScheduled")),
        number(state.get("currentNumberScheduled")),
        number(state.get("numberReady")),
        number(state.get("updatedNumberScheduled")),
        number(state.get("numberAvailable")),
        formats.labels(pod_spec.get("nodeSelector")),
        _age(obj, now),
        *formats.containers(pod_spec),
        formats.selector(wanted.get("selector")),
    ]


@printer("apps", "ControllerRevision", NAME, text("Controller", "Controller of the object"),
         text("Revision", "Revision of the state."), AGE)  # fmt: skip
def controller_revision(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get controllerrevisions``."""
    owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    controller = formats.NONE
    if owner:
        group = owner["apiVersion"].rpartition("/")[0]
        kind = owner["kind"].lower() + (f".{group}" if group else "")
        controller = f"{kind}/{owner['name']}"
    return [name(obj), controller, number(obj.get("revision")), _age(obj, now)]


@printer(
    "",
    "PodTemplate",
    NAME,
    text("Containers", "Names of each container in the template."),
    text("Images", "Images referenced by each container in the template."),
    text("Pod Labels", "The labels for the pod template."),
)
def pod_template(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get podtemplates``."""
    template = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [name(obj), *formats.containers(template.get("spec")), formats.labels(labels)]


@printer("autoscaling", "Scale", NAME, integer("Desired", "Number of desired pods."),
         integer("Available", "Number of pods."), AGE)  # fmt: skip
def scale(obj: Obj, now: datetime) -> Cells:
    """A Scale, whatever it scales."""
    desired = (obj.get("spec") or {}).get("replicas", 0)
    return [name(obj), desired, (obj.get("status") or {}).get("replicas", 0), _age(obj, now)]
