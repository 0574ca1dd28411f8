"""Manifests the cluster tests share."""

from __future__ import annotations

import json
from typing import Any

Manifest = dict[str, Any]

# Answers every HTTP request with the pod's own name.
WHO = "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www"


def who_am_i(
    name: str, replicas: int, *, readiness: bool = False, env: str = "", spec: Manifest | None = None
) -> Manifest:
    """A Deployment whose pods answer HTTP on 8080 with their name; ``env`` tells one template from another."""
    container: Manifest = {
        "name": "web",
        "image": "busybox:1.36",
        "command": ["sh", "-c", WHO],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "RELEASE", "value": env}],
    }
    if readiness:
        # A machine that is slow for a moment must not take replicas out.
        probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10}
        container["readinessProbe"] = probe
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [container], **(spec or {})},
            },
        },
    }


def service(name: str, *, kind: str = "NodePort", port: int = 80, target: int | str = "http") -> Manifest:
    """A Service in front of ``who_am_i``."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": kind, "selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]},
    }


def pod(name: str, command: list[str] | None = None, **spec: Any) -> Manifest:
    """A busybox Pod that runs a command, by default a long sleep."""
    container = {"name": "main", "image": "busybox:1.36", "command": command or ["sleep", "3600"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def text(*manifests: Manifest) -> str:
    """Manifests as one JSON list for ``kubectl apply -f -``."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
