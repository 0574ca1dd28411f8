"""Both kubectl against the API alone: what needs no node."""

from __future__ import annotations

import json
import re

from tests.api.server.manifests import WEB_DEPLOYMENT
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

WEB_SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
"""
MANIFEST = f"{WEB_DEPLOYMENT}---{WEB_SERVICE}"


def test_apply_diff_delete(kubectl: Kubectl) -> None:
    assert kubectl("apply", "-f", "-", stdin=MANIFEST).splitlines() == [
        "deployment.apps/web created",
        "service/web created",
    ]
    assert kubectl("apply", "-f", "-", stdin=MANIFEST).splitlines() == [
        "deployment.apps/web unchanged",
        "service/web unchanged",
    ]
    assert kubectl.try_("diff", "-f", "-", stdin=MANIFEST).code == 0
    more = MANIFEST.replace("replicas: 2", "replicas: 3")
    differs = kubectl.try_("diff", "-f", "-", stdin=more)
    assert differs.code == 1
    assert "+  replicas: 3" in differs.out
    assert "deployment.apps/web configured" in kubectl("apply", "-f", "-", stdin=more)
    assert "(server dry run)" in kubectl("apply", "--dry-run=server", "-f", "-", stdin=MANIFEST)
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 3
    kubectl("delete", "-f", "-", stdin=MANIFEST)
    assert kubectl.items("deployments,services") == []


def test_imperative_commands(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=nginx:1", "--replicas=2", "--port=80")
    kubectl("expose", "deployment", "web", "--type=NodePort", "--port=80")
    kubectl("scale", "deployment", "web", "--replicas=4")
    kubectl("set", "image", "deployment/web", "nginx=nginx:2")
    kubectl("label", "deployment", "web", "tier=front")
    kubectl("annotate", "deployment", "web", "note=hello")
    kubectl("patch", "deployment", "web", "-p", '{"spec":{"minReadySeconds":1}}')
    kubectl("patch", "deployment", "web", "--type=merge", "-p", '{"spec":{"revisionHistoryLimit":3}}')
    kubectl("patch", "deployment", "web", "--type=json", "-p", '[{"op":"add","path":"/spec/paused","value":true}]')
    kubectl("create", "configmap", "settings", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "hidden", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "job", "once", "--image=busybox")
    kubectl("create", "role", "reader", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "reading", "--role=reader", f"--serviceaccount={kubectl.namespace}:robot")
    kubectl("run", "alone", "--image=busybox", "--restart=Never", "--", "sleep", "1")
    robot = f"--as=system:serviceaccount:{kubectl.namespace}:robot"
    assert kubectl("auth", "can-i", "get", "pods", robot).strip() == "yes"
    assert kubectl.try_("auth", "can-i", "delete", "pods", robot).out.strip() == "no"
    found = kubectl.json("get", "deployment", "web")
    assert found["spec"]["replicas"] == 4
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:2"
    assert found["spec"]["minReadySeconds"] == 1
    assert found["spec"]["revisionHistoryLimit"] == 3
    assert found["spec"]["paused"] is True
    assert found["metadata"]["labels"]["tier"] == "front"
    assert kubectl.json("get", "service", "web")["spec"]["ports"][0]["nodePort"] >= 30000
    assert kubectl.json("get", "pod", "alone")["spec"]["restartPolicy"] == "Never"


def test_edit(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=nginx:1")
    kubectl("edit", "deployment", "web", env={"EDITOR": "sed -i s/nginx:1/nginx:2/"})
    image = kubectl("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    assert image == "nginx:2"


def test_output_forms(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=nginx:1")
    lines = kubectl("get", "deployments").splitlines()
    assert lines[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert lines[1].split()[:4] == ["web", "0/1", "0", "0"]
    wide = kubectl("get", "deployments", "-o", "wide").splitlines()[0].split()
    assert wide[-3:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    assert kubectl("get", "deployments", "-o", "name").strip() == "deployment.apps/web"
    assert kubectl("get", "deploy", "-o", "custom-columns=N:.metadata.name").split() == ["N", "web"]
    assert json.loads(kubectl("get", "deploy", "web", "-o", "json"))["kind"] == "Deployment"
    assert "kind: Deployment" in kubectl("get", "deploy", "web", "-o", "yaml")
    assert "NAMESPACE" in kubectl("get", "all", "-A")
    assert "Selector:" in kubectl("describe", "deployment", "web")
    kubectl("get", "--raw", "/readyz?verbose")


def test_discovery_and_explain(kubectl: Kubectl) -> None:
    resources = kubectl("api-resources", "--verbs=list", "-o", "name").split()
    assert {"pods", "deployments.apps", "ingresses.networking.k8s.io", "jobs.batch"} <= set(resources)
    assert "apps/v1" in kubectl("api-versions").split()
    explained = kubectl("explain", "deployment.spec.strategy.rollingUpdate")
    assert "maxSurge" in explained
    assert re.search(r"VERSION:\s+(apps/)?v1", explained)
    assert "containers" in kubectl("explain", "pods", "--recursive")
    for kind in ("svc", "cronjob", "networkpolicies", "pvc", "nodes"):
        assert "DESCRIPTION" in kubectl("explain", kind)
    assert "v1.36" in kubectl("version")


def test_watch_prints_changes(kubectl: Kubectl) -> None:
    watching = kubectl.start("get", "configmaps", "--watch")
    try:
        assert watching.stdout is not None
        kubectl("create", "configmap", "first", "--from-literal=a=b")
        head, row = watching.stdout.readline().split(), watching.stdout.readline().split()
        assert head == [b"NAME", b"DATA", b"AGE"]
        assert row[:2] == [b"first", b"1"]
        kubectl("patch", "configmap", "first", "-p", '{"data":{"c":"d"}}')
        assert watching.stdout.readline().split()[:2] == [b"first", b"2"]
    finally:
        watching.kill()
        watching.wait()


def test_delete_waits_for_finalizers(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "going")
    kubectl("patch", "configmap", "going", "-p", '{"metadata":{"finalizers":["example.com/hold"]}}')
    deleting = kubectl.start("delete", "configmap", "going")
    eventually(lambda: kubectl.json("get", "configmap", "going")["metadata"].get("deletionTimestamp"))
    assert deleting.poll() is None
    kubectl("patch", "configmap", "going", "-p", '{"metadata":{"finalizers":null}}')
    assert deleting.wait(timeout=PATIENCE) == 0
