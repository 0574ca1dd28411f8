"""What people type: every everyday kubectl command, with the installed kubectl and with Debian's 1.20.2."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.cluster import workloads
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

MANIFESTS = Path(__file__).parents[2] / "manifests"


@pytest.fixture
def web(any_kubectl: Kubectl) -> Kubectl:
    """A namespace with the Deployment ``web`` (2 replicas, rolled out) and its Service."""
    any_kubectl("apply", "-f", "-", stdin=workloads.text(workloads.who_am_i("web", 2), workloads.service("web")))
    any_kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    return any_kubectl


@pytest.fixture
def sleeper(any_kubectl: Kubectl) -> Kubectl:
    """A namespace with one Ready pod ``sleeper``."""
    any_kubectl("apply", "-f", "-", stdin=workloads.text(workloads.pod("sleeper")))
    any_kubectl("wait", "--for=condition=Ready", "pod/sleeper", "--timeout=120s")
    return any_kubectl


def test_get_nodes_wide(any_kubectl: Kubectl) -> None:
    lines = any_kubectl("get", "nodes", "-o", "wide").splitlines()
    columns = "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME"
    assert " ".join(lines[0].split()) == columns
    rows = {line.split()[0]: line.split() for line in lines[1:]}
    assert set(rows) == {"host-0", "host-1", "host-2"}
    assert rows["host-0"][2] == "control-plane"
    for row in rows.values():
        assert row[1] == "Ready"
        assert row[4].startswith("v1.36.")
        assert row[-1].startswith("docker://")

    def drivers() -> bool:
        found = [line.split()[:2] for line in any_kubectl("get", "csinodes", "--no-headers").splitlines()]
        return sorted(found) == [["host-0", "0"], ["host-1", "0"], ["host-2", "0"]]

    eventually(drivers, what="each host has its CSINode")  # a Node made anew gets its own a moment later


def test_get_all_in_all_namespaces(web: Kubectl) -> None:
    shown = web("get", "all", "-A")
    for wanted in ("pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-", "service/kubernetes"):
        assert wanted in shown


def test_apply_diff_and_delete_the_manifests_folder(any_kubectl: Kubectl) -> None:
    first = any_kubectl("apply", "-f", str(MANIFESTS / "nginx"))
    assert "deployment.apps/nginx created" in first
    assert "service/nginx created" in first
    assert any_kubectl.try_("diff", "-f", str(MANIFESTS / "nginx")).code == 0
    any_kubectl("scale", "deployment/nginx", "--replicas=1")
    changed = any_kubectl.try_("diff", "-f", str(MANIFESTS / "nginx"))
    assert changed.code == 1
    assert "+  replicas: 2" in changed.out
    second = any_kubectl("apply", "-f", str(MANIFESTS / "nginx"))
    assert "deployment.apps/nginx configured" in second
    assert "service/nginx unchanged" in second
    any_kubectl("rollout", "status", "deployment/nginx", "--timeout=120s")
    deleted = any_kubectl("delete", "-f", str(MANIFESTS / "nginx"))
    assert 'deployment.apps "nginx" deleted' in deleted
    # A pod that is told to stop before nginx listens for the signal takes its whole grace period of 30 s.
    eventually(lambda: any_kubectl.items("pods") == [], what="pods are gone after their deployment")


def test_create_expose_scale(any_kubectl: Kubectl) -> None:
    any_kubectl("create", "deployment", "hello", "--image=nginx:1.22.1")
    any_kubectl("expose", "deployment", "hello", "--type=NodePort", "--port=80")
    any_kubectl("scale", "deployment", "hello", "--replicas=3")
    any_kubectl("rollout", "status", "deployment/hello", "--timeout=120s")
    assert any_kubectl.json("get", "deployment", "hello")["status"]["readyReplicas"] == 3
    port = any_kubectl("get", "service", "hello", "-o", "jsonpath={.spec.ports[0].nodePort}")
    node = any_kubectl("get", "node", "host-2", "-o", "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}")

    def page() -> bool:
        with urllib.request.urlopen(f"http://{node}:{port}", timeout=2) as answer:
            return b"Welcome to nginx!" in answer.read()

    eventually(lambda: _quietly(page), what="the exposed page")


def _quietly(check) -> bool:
    try:
        return check()
    except OSError:
        return False


def test_rollout_history_undo_pause_resume_restart(web: Kubectl) -> None:
    web("set", "env", "deployment/web", "RELEASE=two")
    web("rollout", "status", "deployment/web", "--timeout=120s")
    history = web("rollout", "history", "deployment/web")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    assert "RELEASE:\ttwo" in web("rollout", "history", "deployment/web", "--revision=2")

    web("rollout", "undo", "deployment/web")
    web("rollout", "status", "deployment/web", "--timeout=120s")
    assert "two" not in web("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env}")

    web("rollout", "pause", "deployment/web")
    before = web("get", "rs", "-o", "name")
    web("set", "image", "deployment/web", "web=busybox:1.28")
    eventually(lambda: _observed(web), what="the paused deployment is observed")
    assert web("get", "rs", "-o", "name") == before
    web("rollout", "resume", "deployment/web")
    web("rollout", "status", "deployment/web", "--timeout=120s")
    assert {pod["spec"]["containers"][0]["image"] for pod in _living(web)} == {"busybox:1.28"}

    old = {pod["metadata"]["name"] for pod in _living(web)}
    web("rollout", "restart", "deployment/web")
    web("rollout", "status", "deployment/web", "--timeout=120s")
    assert not old & {pod["metadata"]["name"] for pod in _living(web)}


def _observed(kubectl: Kubectl) -> bool:
    deployment = kubectl.json("get", "deployment", "web")
    return deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]


def _living(kubectl: Kubectl) -> list[dict]:
    return [pod for pod in kubectl.items("pods") if "deletionTimestamp" not in pod["metadata"]]


def test_describe(web: Kubectl) -> None:
    pod = web("get", "pods", "-o", "name").split()[0]
    shown = eventually(lambda: "Started" in (text := web("describe", pod)) and text, what="the pod's events")
    for wanted in ("Status:", "Running", "QoS Class:", "Scheduled", "Started", "ReplicaSet/web-", "Container ID:"):
        assert wanted in shown, shown
    assert "ScalingReplicaSet" in web("describe", "deployment", "web")
    service = eventually(lambda: ":8080" in (text := web("describe", "service", "web")) and text, what="its endpoints")
    assert "Endpoints:" in service
    node = web("describe", "node", "host-1")
    for wanted in ("Allocatable:", "KubeletReady", "PodCIDR:", "Non-terminated Pods:"):
        assert wanted in node


def test_logs_follow_and_previous(any_kubectl: Kubectl) -> None:
    talker = workloads.pod(
        "talker", ["sh", "-c", "i=0; while [ $i -lt 5 ]; do i=$((i+1)); echo line $i; sleep 0.3; done; exit 3"]
    )
    any_kubectl("apply", "-f", "-", stdin=workloads.text(talker))
    eventually(lambda: "line 1" in any_kubectl.try_("logs", "talker").out, what="the first line")
    followed = any_kubectl("logs", "-f", "talker")
    assert followed.splitlines()[-1] == "line 5"
    eventually(
        lambda: any_kubectl.json("get", "pod", "talker")["status"]["containerStatuses"][0]["restartCount"] >= 1,
        what="a restart",
    )
    assert any_kubectl("logs", "-p", "talker").splitlines() == [f"line {i}" for i in range(1, 6)]
    assert any_kubectl("logs", "-p", "--tail=2", "talker").splitlines() == ["line 4", "line 5"]
    assert any_kubectl("logs", "-p", "--timestamps", "talker").splitlines()[0].startswith("20")
    eventually(lambda: "CrashLoopBackOff" in any_kubectl("get", "pod", "talker"), what="CrashLoopBackOff")


def test_exec_passes_streams_and_exit_codes(sleeper: Kubectl) -> None:
    assert sleeper("exec", "sleeper", "--", "echo", "hello") == "hello\n"
    failed = sleeper.try_("exec", "sleeper", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (failed.code, failed.out) == (7, "out\n")
    assert "err" in failed.err
    assert sleeper("exec", "-i", "sleeper", "--", "cat", stdin="piped\n") == "piped\n"
    missing = sleeper.try_("exec", "sleeper", "--", "no-such-program")
    assert missing.code != 0


def test_exec_on_a_terminal(sleeper: Kubectl) -> None:
    code, seen = sleeper.on_terminal("exec", "-it", "sleeper", "--", "sh", typed="tty && exit 5\n", until="#")
    assert code == 5, seen
    assert "/dev/pts/" in seen or "/dev/console" in seen


def test_attach(any_kubectl: Kubectl) -> None:
    ticker = workloads.pod("ticker", ["sh", "-c", "while :; do echo tick; sleep 0.2; done"])
    any_kubectl("apply", "-f", "-", stdin=workloads.text(ticker))
    any_kubectl("wait", "--for=condition=Ready", "pod/ticker", "--timeout=120s")
    attached = any_kubectl.start("attach", "ticker")
    try:
        assert attached.stdout is not None
        lines = [attached.stdout.readline() for _ in range(4)]
    finally:
        attached.kill()
        attached.wait()
    assert b"tick\n" in lines


def test_copy_there_and_back(sleeper: Kubectl, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(bytes(range(256)) * 4096 * 8)
    sleeper("cp", str(source), "sleeper:/tmp/there", timeout=300)
    sleeper("cp", "sleeper:/tmp/there", str(back), timeout=300)
    assert back.read_bytes() == source.read_bytes()


def test_port_forward(web: Kubectl) -> None:
    pod = web("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    # It is ready as soon as it runs; kubectl ends when nobody listens yet.
    ask = ("exec", pod, "--", "wget", "-qO-", "http://127.0.0.1:8080/")
    eventually(lambda: web.try_(*ask).out.strip() == pod, what="the pod serves")
    forward = web.start("port-forward", f"pod/{pod}", ":8080")
    try:
        assert forward.stdout is not None
        told = re.match(rb"Forwarding from 127\.0\.0\.1:(\d+) -> 8080", forward.stdout.readline())
        assert told
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{int(told[1])}", timeout=PATIENCE) as answer:
                assert answer.read().decode().strip() == pod
    finally:
        forward.kill()
        forward.wait()


def test_label_annotate_patch(sleeper: Kubectl) -> None:
    sleeper("label", "pod", "sleeper", "tier=backend")
    assert "sleeper" in sleeper("get", "pods", "-l", "tier=backend")
    assert "sleeper" not in sleeper("get", "pods", "-l", "tier notin (backend)")
    sleeper("annotate", "pod", "sleeper", "note=hello")
    sleeper("patch", "pod", "sleeper", "-p", '{"metadata":{"labels":{"a":"strategic"}}}')
    sleeper("patch", "pod", "sleeper", "--type=merge", "-p", '{"metadata":{"labels":{"b":"merge"}}}')
    sleeper("patch", "pod", "sleeper", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/c","value":"json"}]')
    meta = sleeper.json("get", "pod", "sleeper")["metadata"]
    assert {key: meta["labels"].get(key) for key in "abc"} == {"a": "strategic", "b": "merge", "c": "json"}
    assert meta["annotations"]["note"] == "hello"
    sleeper("label", "pod", "sleeper", "tier-")
    assert "tier" not in sleeper.json("get", "pod", "sleeper")["metadata"]["labels"]


def test_taint_cordon_drain(any_kubectl: Kubectl) -> None:
    any_kubectl("taint", "node", "host-2", "test=here:NoSchedule")
    assert "test=here:NoSchedule" in any_kubectl("describe", "node", "host-2")
    any_kubectl("taint", "node", "host-2", "test:NoSchedule-")
    any_kubectl("apply", "-f", "-", stdin=workloads.text(workloads.who_am_i("web", 4)))
    any_kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    try:
        any_kubectl("cordon", "host-2")
        assert "SchedulingDisabled" in any_kubectl("get", "node", "host-2")
        any_kubectl("drain", "host-2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s")
        any_kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        # The status may be of before the drain.
        there = ["host-1"] * 4
        eventually(lambda: [pod["spec"]["nodeName"] for pod in _living(any_kubectl)] == there, what="all elsewhere")
    finally:
        any_kubectl("uncordon", "host-2")


def test_edit_with_a_scripted_editor(web: Kubectl, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/replicas: 2/replicas: 1/' \"$1\"\n")
    editor.chmod(0o755)
    edited = web("edit", "deployment", "web", env={"KUBE_EDITOR": str(editor)})
    assert "deployment.apps/web edited" in edited
    assert web.json("get", "deployment", "web")["spec"]["replicas"] == 1


def test_explain_and_api_resources(any_kubectl: Kubectl) -> None:
    explained = any_kubectl("explain", "deployment.spec.strategy.rollingUpdate.maxSurge")
    assert "maximum number of pods that can be scheduled above" in explained
    assert "containers" in any_kubectl("explain", "pod.spec")
    resources = any_kubectl("api-resources", "-o", "wide")
    # Of two groups with a resource of that name (metrics.k8s.io has pods, too) the first is the one people mean.
    rows = {line.split()[0]: line for line in reversed(resources.splitlines()[1:])}
    assert rows["pods"].split()[1] == "po"
    assert "deploy" in rows["deployments"]
    assert "customresourcedefinitions" in rows
    assert "apps/v1" in any_kubectl("api-versions").split()


def test_wait_for_deletion_and_conditions(sleeper: Kubectl) -> None:
    waiting = sleeper.start("wait", "--for=delete", "pod/sleeper", "--timeout=120s")
    sleeper("delete", "pod", "sleeper", "--wait=false")
    assert waiting.wait(timeout=PATIENCE) == 0
    assert sleeper.try_("get", "pod", "sleeper").code == 1


def test_watch_shows_changes(sleeper: Kubectl) -> None:
    watching = sleeper.start("get", "pods", "-w")
    try:
        assert watching.stdout is not None
        while not watching.stdout.readline().startswith(b"sleeper"):
            assert watching.poll() is None
        sleeper("apply", "-f", "-", stdin=workloads.text(workloads.pod("seen")))
        states: list[str] = []
        while "Running" not in states and watching.poll() is None:
            line = watching.stdout.readline().decode().split()
            if line and line[0] == "seen":
                states.append(line[2])
    finally:
        watching.kill()
        watching.wait()
    assert states[0] == "Pending"
    assert states[-1] == "Running"


def test_output_formats(sleeper: Kubectl) -> None:
    assert json.loads(sleeper("get", "pod", "sleeper", "-o", "json"))["kind"] == "Pod"
    assert "kind: Pod" in sleeper("get", "pod", "sleeper", "-o", "yaml")
    assert sleeper("get", "pod", "sleeper", "-o", "jsonpath={.status.phase}") == "Running"
    assert sleeper("get", "pod", "sleeper", "-o", "name") == "pod/sleeper\n"
    custom = sleeper("get", "pod", "-o", "custom-columns=NAME:.metadata.name,NODE:.spec.nodeName")
    assert custom.splitlines()[1].split()[0] == "sleeper"
    wide = sleeper("get", "pod", "sleeper", "-o", "wide").splitlines()
    assert wide[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert wide[1].split()[5].startswith("10.244.")


def test_run_interactively_and_remove(any_kubectl: Kubectl) -> None:
    argv = ["run", "once", "--rm", "-i", "--restart=Never", "--image=busybox:1.36", "--", "sh", "-c", "cat; echo done"]
    shown = any_kubectl(*argv, stdin="typed\n")
    assert "done" in shown
    eventually(lambda: any_kubectl.items("pods") == [], what="the pod is removed")


def test_run_on_a_terminal(any_kubectl: Kubectl) -> None:
    argv = ["run", "shell", "--rm", "-it", "--restart=Never", "--image=busybox:1.36", "--", "sh"]
    code, seen = any_kubectl.on_terminal(*argv, typed="\necho fo''und; exit\n", until="If you don't see")
    assert "found" in seen, seen
    assert code == 0, seen


def test_version_and_cluster_info(any_kubectl: Kubectl) -> None:
    version = any_kubectl.json("version")
    assert version["serverVersion"]["gitVersion"].startswith("v1.36.")
    assert "+orca." in version["serverVersion"]["gitVersion"]
    assert "is running at" in any_kubectl("cluster-info")
    assert subprocess.run(["curl", "-ks", f"{_server(any_kubectl)}/livez"], capture_output=True).stdout == b"ok"


def _server(kubectl: Kubectl) -> str:
    return kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
