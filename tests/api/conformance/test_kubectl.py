"""sig-cli: what the cases of the suite type."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.api.conformance.cases import ok, pod, template, when
from tests.api.conformance.host import Host
from tests.api.server.api import Api
from tests.support.kubectl import Kubectl


async def typed(kubectl: Kubectl, *argv: str, stdin: str | None = None) -> str:
    return await asyncio.to_thread(kubectl, *argv, stdin=stdin)


async def controller(api: Api, space: str, replicas: int = 1) -> str:
    """A running ReplicationController ``agnhost-primary``; the name of its first pod."""
    labels = {"app": "agnhost", "role": "primary"}
    made = template(labels)
    made["spec"]["containers"][0]["ports"] = [{"name": "agnhost-server", "containerPort": 6379}]
    body = {"metadata": {"name": "agnhost-primary", "labels": labels}}
    path = f"/api/v1/namespaces/{space}/replicationcontrollers"
    spec = {"replicas": replicas, "selector": labels, "template": made}
    ok(await api.post(path, {**body, "spec": spec}), 201)
    await when(api, f"{path}/agnhost-primary", lambda rc: rc["status"].get("readyReplicas") == replicas)
    name: str = ok(await api.get(f"/api/v1/namespaces/{space}/pods"))["items"][0]["metadata"]["name"]
    return name


async def test_versions_and_cluster_info(kubectl: Kubectl) -> None:
    assert "v1" in (await typed(kubectl, "api-versions")).splitlines()
    assert "Kubernetes control plane" in await typed(kubectl, "cluster-info")
    version = await typed(kubectl, "version")
    for side in ("Client Version: ", "Server Version: "):
        assert re.search(side + r"v\d\.\d+\.[\d\w\-.+]+", version)


async def test_describe(api: Api, space: str, kubectl: Kubectl, running: Host) -> None:
    name = await controller(api, space)
    service = {"metadata": {"name": "agnhost-primary", "labels": {"app": "agnhost", "role": "primary"}}}
    spec = {"ports": [{"port": 6379, "targetPort": "agnhost-server"}], "selector": {"app": "agnhost"}}
    ok(await api.post(f"/api/v1/namespaces/{space}/services", {**service, "spec": spec}), 201)
    for argv, wanted in (
        (
            ("pod", name),
            (
                "Name:",
                "Namespace:",
                "Node:",
                "Labels:",
                "app=agnhost",
                "role=primary",
                "Annotations:",
                "Status:",
                "Running",
                "IP:",
                "Controlled By:",
                "ReplicationController/agnhost-primary",
                "Image:",
                "State:",
                "QoS Class:",
            ),
        ),
        (
            ("rc", "agnhost-primary"),
            (
                "Name:",
                "Namespace:",
                "Selector:",
                "app=agnhost,role=primary",
                "Labels:",
                "Annotations:",
                "Replicas:",
                "1 current",
                "1 desired",
                "Pods Status:",
                "1 Running",
                "0 Waiting",
                "0 Succeeded",
                "0 Failed",
                "Pod Template:",
                "Image:",
                "Events:",
            ),
        ),
        (
            ("service", "agnhost-primary"),
            (
                "Name:",
                "agnhost-primary",
                "Namespace:",
                "Labels:",
                "Annotations:",
                "Selector:",
                "Type:",
                "ClusterIP",
                "IP:",
                "Port:",
                "<unset>",
                "6379/TCP",
                "Endpoints:",
                "Session Affinity:",
                "None",
            ),
        ),
        (
            ("node", "claims-to-run"),
            (
                "Name:",
                "Labels:",
                "Annotations:",
                "CreationTimestamp:",
                "Conditions:",
                "Type",
                "Status",
                "LastHeartbeatTime",
                "LastTransitionTime",
                "Reason",
                "Message",
                "Addresses:",
                "Capacity:",
                "Version",
                "Pods",
            ),
        ),
        (
            ("namespace", space),
            ("Name:", space, "Labels:", "Annotations:", "Status:", "Active", "No LimitRange resource."),
        ),
    ):
        shown = await typed(kubectl, "describe", *argv)
        for text in wanted:
            assert text in shown, (argv, text, shown)


async def test_label_patch_and_replace(api: Api, space: str, kubectl: Kubectl, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    ok(await api.post(path, pod("pause")), 201)
    await when(api, f"{path}/pause", lambda p: p["status"]["phase"] == "Running")
    await typed(kubectl, "label", "pods", "pause", "testing-label=testing-label-value")
    assert "testing-label-value" in await typed(kubectl, "get", "pod", "pause", "-L", "testing-label")
    await typed(kubectl, "label", "pods", "pause", "testing-label-")
    assert "testing-label-value" not in await typed(kubectl, "get", "pod", "pause", "-L", "testing-label")
    name = await controller(api, space)
    await typed(kubectl, "patch", "pod", name, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
    assert ok(await api.get(f"{path}/{name}"))["metadata"]["annotations"]["x"] == "y"
    read = json.loads(await typed(kubectl, "get", "pod", "pause", "-o", "json"))
    read["spec"]["containers"][0]["image"] = "busybox:1"
    await typed(kubectl, "replace", "-f", "-", stdin=json.dumps(read))
    assert ok(await api.get(f"{path}/pause"))["spec"]["containers"][0]["image"] == "busybox:1"


async def test_run_and_server_side_dry_run(api: Api, space: str, kubectl: Kubectl, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/pods/e2e-test-httpd-pod"
    await typed(
        kubectl, "run", "e2e-test-httpd-pod", "--restart=Never", "--pod-running-timeout=2m0s", "--image=httpd:2"
    )
    made = await when(api, path, lambda p: p["status"]["phase"] == "Running")
    assert made["spec"]["restartPolicy"] == "Never"
    assert made["spec"]["containers"][0]["image"] == "httpd:2"
    patch = '{"spec":{"containers":[{"name": "e2e-test-httpd-pod","image": "busybox"}]}}'
    await typed(kubectl, "patch", "pod", "e2e-test-httpd-pod", "-p", patch, "--dry-run=server")
    assert ok(await api.get(path))["spec"]["containers"][0]["image"] == "httpd:2"


async def test_diff(api: Api, space: str, kubectl: Kubectl) -> None:
    labels = {"app": "httpd"}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template(labels)}
    manifest: Any = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "httpd"}, "spec": spec}
    await typed(kubectl, "create", "-f", "-", stdin=json.dumps(manifest))
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "busybox:9"
    shown = await asyncio.to_thread(kubectl.try_, "diff", "-f", "-", stdin=json.dumps(manifest))
    assert shown.code == 1
    for text in ("agnhost:2", "busybox:9"):
        assert text in shown.out
    await typed(kubectl, "delete", "-f", "-", stdin=json.dumps(manifest))


async def test_expose_and_scale_a_controller(api: Api, space: str, kubectl: Kubectl, running: Host) -> None:
    await controller(api, space)
    await typed(kubectl, "expose", "rc", "agnhost-primary", "--name=rm2", "--port=1234", "--target-port=6379")
    await typed(kubectl, "expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379")
    for name, port in (("rm2", 1234), ("rm3", 2345)):
        spec = ok(await api.get(f"/api/v1/namespaces/{space}/services/{name}"))["spec"]
        assert (spec["ports"][0]["port"], spec["ports"][0]["targetPort"]) == (port, 6379)
        assert spec["selector"] == {"app": "agnhost", "role": "primary"}
        found = await when(api, f"/api/v1/namespaces/{space}/endpoints/{name}", lambda e: e.get("subsets"))
        assert found["subsets"][0]["ports"][0]["port"] == 6379
    for count in (2, 1):
        await typed(kubectl, "scale", "rc", "agnhost-primary", f"--replicas={count}", "--timeout=1m")
        names = await typed(
            kubectl, "get", "pods", "-l", "app=agnhost", "-o", "template",
            "--template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}",
        )  # fmt: skip
        assert len(names.split()) == count
    await typed(kubectl, "delete", "rc", "agnhost-primary", "--grace-period=0", "--force")


async def test_proxy_at_a_port_and_at_a_socket(kubectl: Kubectl, tmp_path: Path) -> None:
    def asked(connection: socket.socket) -> bytes:
        with connection:
            connection.sendall(b"GET /api/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
            found = b""
            while chunk := connection.recv(65536):
                found += chunk
            return found

    def proxied(*flags: str) -> bytes:
        command = [*kubectl.argv, "proxy", *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            try:
                line = next(line for line in process.stdout if line.startswith("Starting to serve"))
                port = re.search(r":(\d+)$", line.strip())
                if port:
                    return asked(socket.create_connection(("127.0.0.1", int(port[1]))))
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(str(tmp_path / "s"))
                return asked(connection)
            finally:
                process.kill()

    for flags in (("-p", "0", "--disable-filter"), (f"--unix-socket={tmp_path / 's'}",)):
        versions = json.loads((await asyncio.to_thread(proxied, *flags)).partition(b"\r\n\r\n")[2])
        assert versions["versions"] == ["v1"]
