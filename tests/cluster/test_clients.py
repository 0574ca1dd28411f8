"""Client libraries where they need a host: exec, attach, logs and port-forward over WebSockets."""

from __future__ import annotations

import json

import pytest
from kubernetes import client, config, stream, watch

from orca.lab.layout import Lab
from tests.cluster import workloads
from tests.support import node
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE


@pytest.fixture
def web(kubectl: Kubectl) -> str:
    """A pod that serves its name, and says so."""
    body = workloads.pod("web", ["sh", "-c", f"echo started; {workloads.WHO}"])
    body["spec"]["containers"][0]["name"] = "web"
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 10}
    body["spec"]["containers"][0]["readinessProbe"] = probe
    kubectl("apply", "-f", "-", stdin=workloads.text(body))
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
    eventually(lambda: kubectl("logs", "web") == "started\n", what="what it says")
    return kubectl.namespace


def test_python(lab: Lab, web: str) -> None:
    with config.new_client_from_config(str(lab.kubeconfig)) as api:
        core = client.CoreV1Api(api)
        said = stream.stream(
            core.connect_get_namespaced_pod_exec, "web", web, command=["hostname"], stdout=True, stderr=True
        )
        assert said.strip() == "web"
        command = ["sh", "-c", "read line; echo got $line; echo oops >&2; exit 3"]
        running = stream.stream(
            core.connect_get_namespaced_pod_exec,
            "web",
            web,
            command=command,
            stdin=True,
            stdout=True,
            stderr=True,
            _preload_content=False,
        )
        running.write_stdin("hello\n")
        running.run_forever(timeout=PATIENCE)
        assert (running.read_stdout(), running.read_stderr(), running.returncode) == ("got hello\n", "oops\n", 3)
    with config.new_client_from_config(str(lab.kubeconfig)) as api:
        core = client.CoreV1Api(api)
        ports = stream.portforward(core.connect_get_namespaced_pod_portforward, "web", web, ports="8080")
        connection = ports.socket(8080)
        connection.settimeout(PATIENCE)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
        assert answer.endswith(b"web\n")
    with config.new_client_from_config(str(lab.kubeconfig)) as api:
        core = client.CoreV1Api(api)
        assert core.read_namespaced_pod_log("web", web) == "started\n"
        lines = watch.Watch().stream(core.read_namespaced_pod_log, "web", web)
        assert next(iter(lines)) == "started"


def test_nodejs(lab: Lab, web: str) -> None:
    found = json.loads(node.run("exec.mjs", str(lab.kubeconfig), web, "web"))
    assert found["stdout"] == "got hello\n"
    assert found["stderr"] == "oops\n"
    assert found["status"] == ["Failure", "NonZeroExitCode", "3"]
    assert found["page"] == "web\n"
    assert found["logs"] == "started\n"
