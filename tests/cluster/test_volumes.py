"""Volumes as containers see them, on real hosts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orca.lab.layout import Lab
from tests.cluster.conftest import orca
from tests.support.kubectl import Kubectl, eventually

BUSYBOX = "busybox:latest"


def pod(name: str, volumes: list[dict[str, Any]], mounts: dict[str, str], **spec: Any) -> str:
    container = {
        "name": "app",
        "image": BUSYBOX,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "while :; do sleep 1; done"],
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes, **spec},
        }
    )


def start(kubectl: Kubectl, manifest: str, name: str) -> None:
    kubectl("apply", "-f", "-", stdin=manifest)
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def run(kubectl: Kubectl, name: str, script: str) -> str:
    return kubectl("exec", name, "--", "sh", "-c", script)


def test_configuration_is_read_only_and_follows_changes(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "conf", "--from-literal=greeting=hello")
    kubectl("create", "secret", "generic", "sec", "--from-literal=password=swordfish")
    labels = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    volumes = [
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 0o400}},
        {"name": "down", "downwardAPI": labels},
    ]
    start(kubectl, pod("reader", volumes, {"conf": "/conf", "sec": "/sec", "down": "/down"}), "reader")
    assert run(kubectl, "reader", "cat /conf/greeting /sec/password /down/labels") == 'helloswordfishapp="reader"'
    assert run(kubectl, "reader", "stat -L -c %a /sec/password").strip() == "400"
    for path in ("/conf", "/sec", "/down", "/var/run/secrets/kubernetes.io/serviceaccount"):
        assert "Read-only" in kubectl.try_("exec", "reader", "--", "touch", f"{path}/x").err
    kubectl("patch", "configmap", "conf", "-p", '{"data":{"greeting":"changed","more":"1"}}')
    kubectl("label", "pod", "reader", "extra=1")
    eventually(lambda: run(kubectl, "reader", "cat /conf/greeting /conf/more") == "changed1", seconds=5)
    eventually(lambda: 'extra="1"' in run(kubectl, "reader", "cat /down/labels"), seconds=5)


def test_the_service_account_reaches_the_api(kubectl: Kubectl) -> None:
    start(kubectl, pod("account", [], {}), "account")
    where = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert run(kubectl, "account", f"cat {where}/namespace") == kubectl.namespace
    assert run(kubectl, "account", f"head -c 27 {where}/ca.crt") == "-----BEGIN CERTIFICATE-----"
    assert run(kubectl, "account", f"cat {where}/token").count(".") == 2


def test_files_belong_to_the_pods_group(kubectl: Kubectl) -> None:
    token = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}}
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "token", "projected": {"sources": [token]}}]
    security = {"runAsUser": 1000, "fsGroup": 2000}
    start(kubectl, pod("grouped", volumes, {"disk": "/disk", "token": "/token"}, securityContext=security), "grouped")
    assert run(kubectl, "grouped", "touch /disk/mine; stat -c '%u %g' /disk/mine").strip() == "1000 2000"
    assert run(kubectl, "grouped", "stat -L -c '%u %g %a' /token/token").strip() == "1000 2000 640"
    assert run(kubectl, "grouped", "cat /token/token").count(".") == 2


def test_memory_is_limited_and_gone_with_the_pod(kubectl: Kubectl, lab: Lab) -> None:
    volumes = [{"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "disk", "emptyDir": {}}]
    start(kubectl, pod("ram", volumes, {"ram": "/ram", "disk": "/disk"}), "ram")
    too_much = "dd if=/dev/zero of=/ram/big bs=1k count=2000"
    assert "No space" in kubectl.try_("exec", "ram", "--", "sh", "-c", too_much).err
    description = kubectl.json("get", "pod", "ram")
    uid, host = description["metadata"]["uid"], description["spec"]["nodeName"]
    look = f"grep -c {uid} /proc/self/mountinfo; ls -d /var/lib/orca-agent/*/{uid} 2>/dev/null; true"
    assert not orca("lab", "exec", "--name", lab.name, host, "--", "sh", "-c", look).startswith("0\n")
    kubectl("delete", "pod", "ram", "--timeout=30s")
    eventually(lambda: orca("lab", "exec", "--name", lab.name, host, "--", "sh", "-c", look) == "0\n", seconds=10)


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        ({"configMap": {"name": "nowhere"}}, 'MountVolume.SetUp failed for volume "v" : configmap "nowhere" not found'),
        ({"hostPath": {"path": "/no", "type": "Directory"}}, "hostPath type check failed: /no is not a directory"),
        ({"nfs": {"server": "nas", "path": "/"}}, 'volume "v" is of type nfs, which this host does not support'),
    ],
    ids=["missing", "host-path", "unsupported"],
)
def test_what_cannot_be_mounted_is_told_in_an_event(kubectl: Kubectl, volume: dict[str, Any], text: str) -> None:
    kubectl("apply", "-f", "-", stdin=pod("stuck", [{"name": "v", **volume}], {"v": "/v"}))

    def told() -> bool:
        events = kubectl.items("events", "--field-selector=involvedObject.name=stuck")
        return any(event["reason"] == "FailedMount" and text in event["message"] for event in events)

    eventually(told, seconds=20, what=text)
    assert kubectl.json("get", "pod", "stuck")["status"]["phase"] == "Pending"
