"""An operator, run by ``kopf run``: a Shop is a Deployment and a Service, with status, events and a finalizer."""

from typing import Any

import kopf
from kubernetes import client, config

config.load_kube_config()


def workload(name: str, replicas: int, image: str) -> dict[str, Any]:
    """The Deployment behind a Shop."""
    labels = {"shop": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "shop", "image": image}]},
            },
        },
    }


@kopf.on.startup()
def settle(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Events are part of what is tested."""
    settings.posting.level = 20
    settings.watching.server_timeout = 5  # streams end and are taken up again while the test runs


@kopf.on.create("test.orca.dev", "v1", "shops")
def open_shop(spec: kopf.Spec, name: str, namespace: str, **_: Any) -> dict[str, Any]:
    """Make what the Shop owns."""
    body = workload(name, spec.get("replicas", 1), spec["image"])
    kopf.adopt(body)
    made = client.AppsV1Api().create_namespaced_deployment(namespace, body)
    return {"deployment": made.metadata.name}


@kopf.on.field("test.orca.dev", "v1", "shops", field="spec.replicas")
def resize(old: int | None, new: int | None, name: str, namespace: str, body: kopf.Body, **_: Any) -> None:
    """Follow a changed size."""
    if old is None:
        return
    client.AppsV1Api().patch_namespaced_deployment_scale(name, namespace, {"spec": {"replicas": new}})
    kopf.event(body, type="Normal", reason="Resized", message=f"from {old} to {new}")


@kopf.on.delete("test.orca.dev", "v1", "shops")
def close(name: str, namespace: str, **_: Any) -> None:
    """Leave a note before the finalizer goes."""
    client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-closed"}})
