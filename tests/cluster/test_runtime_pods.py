"""Pods on a real engine: each behaviour is produced for real and read from the status the API was given."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from orca.api.builtin import CONFIGMAPS, PODS, SECRETS
from tests.cluster.podhost import PodHost, container, ended, pod, ready, shell, waiting
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def test_a_pod_runs_with_names_files_and_environment(host: PodHost) -> None:
    await host.client.create(
        CONFIGMAPS, {"metadata": {"name": "cm", "namespace": "default"}, "data": {"K": "v", "2": "x"}}
    )
    await host.client.create(SECRETS, {"metadata": {"name": "s", "namespace": "default"}, "data": {"p": "c2VzYW0="}})
    await host.create(
        pod(
            "full",
            hostname="web",
            subdomain="site",
            hostAliases=[{"ip": "192.0.2.9", "hostnames": ["far"]}],
            container={
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "value": "$(A)2$$(A)"},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "CM_"}],
                "workingDir": "/tmp",
                "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
                "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "readOnlyRootFilesystem": True},
            },
            securityContext={"fsGroup": 3000},
        )
    )
    made = await host.running("full")
    status = made["status"]
    assert status["qosClass"] == "Guaranteed"
    assert container(status)["containerID"].startswith("docker://")
    environment = dict(line.split("=", 1) for line in (await host.output("full", "env")).splitlines())
    assert environment["B"] == "12$(A)"
    assert environment["IP"] == status["podIP"]
    assert environment["SECRET"] == "sesam"
    assert environment["CM_K"] == "v"
    assert (await host.output("full", "hostname")).strip() == "web"
    hosts = await host.output("full", "cat", "/etc/hosts")
    assert f"{status['podIP']}\tweb.site.default.svc.cluster.local\tweb" in hosts
    assert "192.0.2.9\tfar" in hosts
    resolver = await host.output("full", "cat", "/etc/resolv.conf")
    assert "nameserver 10.96.0.10" in resolver
    assert "search default.svc.cluster.local svc.cluster.local cluster.local" in resolver
    assert (await host.output("full", "id")).strip() == "uid=1000 gid=2000 groups=2000,3000"
    assert "Read-only" in await host.output("full", "touch", "/x")
    await host.until("full", lambda _: {"Pulled", "Created", "Started"} <= set(host.told.reasons()))
    await host.delete("full")


async def test_containers_of_a_pod_share_network_ipc_and_hostname(host: PodHost) -> None:
    two = pod("two", container=shell("httpd -p 8080 -h /etc; sleep 3600"), shareProcessNamespace=True)
    two["spec"]["containers"].append({**two["spec"]["containers"][0], "name": "d", "command": ["sleep", "3600"]})
    await host.create(two)
    await host.running("two")
    ask = ("wget", "-qO-", "http://127.0.0.1:8080/hosts")
    async with asyncio.timeout(PATIENCE):  # until it listens
        while "two" not in await host.output("two", *ask, container="d"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert (await host.output("two", "hostname", container="d")).strip() == "two"
    for kind in ("ipc", "net", "pid"):
        one = await host.output("two", "readlink", f"/proc/self/ns/{kind}")
        assert one == await host.output("two", "readlink", f"/proc/self/ns/{kind}", container="d"), kind
    await host.delete("two")


async def test_a_crashing_container_backs_off_and_shows_why(host: PodHost) -> None:
    await host.create(pod("crash", container=shell("echo last words > /dev/termination-log; exit 3")))
    status = (await host.until("crash", lambda s: waiting(s) == "CrashLoopBackOff"))["status"]
    last = container(status)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (3, "Error", "last words\n")
    assert container(status)["restartCount"] == 1
    assert (
        "back-off 10s restarting failed container=c pod=crash_default("
        in container(status)["state"]["waiting"]["message"]
    )
    assert status["phase"] == "Running"
    await host.until("crash", lambda _: "BackOff" in host.told.reasons())
    await host.delete("crash")


async def test_jobs_end_as_their_containers_did(host: PodHost) -> None:
    await host.create(pod("good", container=shell("exit 0"), restartPolicy="Never"))
    await host.create(pod("bad", container=shell("exit 2"), restartPolicy="Never"))
    good = (await host.until("good", lambda s: s["phase"] == "Succeeded"))["status"]
    bad = (await host.until("bad", lambda s: s["phase"] == "Failed"))["status"]
    assert ended(good)["reason"] == "Completed"
    assert ended(bad)["exitCode"] == 2
    assert not ready(good, "Ready")
    await host.no_sandbox_is_left()
    await host.delete("good")
    await host.delete("bad")


async def test_on_failure_restarts_until_success(host: PodHost) -> None:
    script = "test -e /data/done && exit 0; touch /data/done; exit 1"
    await host.create(
        pod(
            "retry",
            container=shell(script, volumeMounts=[{"name": "data", "mountPath": "/data"}]),
            restartPolicy="OnFailure",
            volumes=[{"name": "data", "emptyDir": {}}],
        )
    )
    status = (await host.until("retry", lambda s: s["phase"] == "Succeeded"))["status"]
    assert container(status)["restartCount"] == 1
    await host.delete("retry")


async def test_init_containers_run_in_order_and_sidecars_stay(host: PodHost) -> None:
    mount = [{"name": "data", "mountPath": "/data"}]
    base = {"image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "volumeMounts": mount}
    first = "until grep -q side /data/log; do sleep 0.1; done"  # started before, it may write a little later
    await host.create(
        pod(
            "init",
            container=shell("cat /data/log; sleep 3600", volumeMounts=mount),
            volumes=[{"name": "data", "emptyDir": {}}],
            initContainers=[
                {**base, "name": "one", **shell("echo one >> /data/log")},
                {**base, "name": "side", "restartPolicy": "Always", **shell("echo side >> /data/log; sleep 3600")},
                {**base, "name": "two", **shell(f"{first}; echo two >> /data/log")},
            ],
        )
    )
    status = (await host.running("init"))["status"]
    assert (await host.output("init", "cat", "/data/log")).split() == ["one", "side", "two"]
    assert ended(status, "one")["reason"] == "Completed"
    assert "running" in container(status, "side")["state"]
    assert ready(status, "Initialized")
    await host.delete("init")


async def test_a_failed_init_container_of_a_job_fails_the_pod(host: PodHost) -> None:
    first = {"name": "i", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", **shell("exit 4")}
    await host.create(pod("initbad", restartPolicy="Never", initContainers=[first]))
    status = (await host.until("initbad", lambda s: s["phase"] == "Failed"))["status"]
    assert ended(status, "i")["exitCode"] == 4
    assert waiting(status) == "PodInitializing"
    await host.delete("initbad")


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [
        ("nowhere.invalid/x:1", "IfNotPresent", "ErrImagePull"),
        ("busybox:absent", "Never", "ErrImageNeverPull"),
        ("Bad/Name", "IfNotPresent", "InvalidImageName"),
    ],
)
async def test_image_errors_have_their_reason(host: PodHost, image: str, policy: str, reason: str) -> None:
    await host.create(pod("img", container={"image": image, "imagePullPolicy": policy}))
    status = (await host.until("img", lambda s: waiting(s) == reason))["status"]
    assert status["phase"] == "Pending"
    if reason == "ErrImagePull":
        await host.until("img", lambda s: waiting(s) == "ImagePullBackOff" and "BackOff" in host.told.reasons())
    await host.delete("img")


async def test_what_cannot_be_run_says_so(host: PodHost) -> None:
    await host.create(pod("norun", container={"command": ["/no/such/program"]}))
    status = (await host.until("norun", lambda s: waiting(s) == "RunContainerError"))["status"]
    assert "no such file or directory" in container(status)["state"]["waiting"]["message"]
    await host.create(pod("noenv", container={"envFrom": [{"configMapRef": {"name": "absent"}}]}))
    status = (await host.until("noenv", lambda s: waiting(s) == "CreateContainerConfigError"))["status"]
    assert container(status)["state"]["waiting"]["message"] == 'configmap "absent" not found'
    await host.client.create(CONFIGMAPS, {"metadata": {"name": "absent", "namespace": "default"}, "data": {}})
    await host.running("noenv")
    await host.create(pod("novol", volumes=[{"name": "v", "cephfs": {}}]))
    await host.until("novol", lambda s: waiting(s) == "ContainerCreating" and "FailedMount" in host.told.reasons())
    await host.create(pod("nousers", hostUsers=False))
    await host.until(
        "nousers", lambda s: waiting(s) == "ContainerCreating" and "FailedCreatePodSandBox" in host.told.reasons()
    )
    for name in ("norun", "noenv", "novol", "nousers"):
        await host.delete(name)


async def test_memory_limit_kills_with_its_reason(host: PodHost) -> None:
    await host.create(
        pod(
            "oom",
            container=shell("tail /dev/zero", resources={"limits": {"memory": "16Mi"}}),
            restartPolicy="Never",
        )
    )
    status = (await host.until("oom", lambda s: s["phase"] == "Failed"))["status"]
    assert (ended(status)["reason"], ended(status)["exitCode"]) == ("OOMKilled", 137)
    await host.delete("oom")


async def test_liveness_restarts_and_readiness_gates(host: PodHost) -> None:
    await host.create(
        pod(
            "probed",
            container=shell(
                "touch /tmp/live; sleep 3600",
                startupProbe={
                    "exec": {"command": ["test", "-e", "/tmp/live"]},
                    "periodSeconds": 1,
                    "timeoutSeconds": 60,
                    "failureThreshold": 600,
                },
                livenessProbe={
                    "exec": {"command": ["test", "-e", "/tmp/live"]},
                    "periodSeconds": 1,
                    "timeoutSeconds": 60,
                    "failureThreshold": 1,
                },
                readinessProbe={"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
            ),
        )
    )
    await host.until("probed", lambda s: s["phase"] == "Running")
    assert not ready((await host.get("probed") or {})["status"], "Ready")
    await host.output("probed", "touch", "/tmp/ready")
    await host.running("probed")
    await host.output("probed", "rm", "/tmp/live")
    status = (await host.until("probed", lambda s: container(s)["restartCount"] == 1))["status"]
    assert container(status)["lastState"]["terminated"]["exitCode"] == 137
    assert any("failed liveness probe, will be restarted" in message for _, _, message, _ in host.told.events)
    assert any(message.startswith("Liveness probe failed") for _, _, message, _ in host.told.events)
    await host.delete("probed")


async def test_a_probe_that_times_out_leaves_no_process_behind(host: PodHost) -> None:
    """Not even a zombie, where the first process of the container reaps nobody; what cannot be run restarts nothing."""
    probe = {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1000}
    hangs = {"exec": {"command": ["sh", "-c", "sleep 500; echo late"]}, **probe}
    absent = {"exec": {"command": ["/no/such/program"]}, "periodSeconds": 1, "failureThreshold": 1}
    await host.create(pod("hangs", container={"readinessProbe": hangs, "livenessProbe": absent}))
    await host.until("hangs", lambda s: "running" in container(s)["state"])

    def told(text: str) -> int:
        return sum(text in message for _, reason, message, _ in host.told.events if reason == "Unhealthy")

    timeout = 'Readiness probe failed: command timed out: "sh -c sleep 500; echo late" timed out after 1s'
    errored = "Liveness probe errored and resulted in unknown state: "
    status = (await host.until("hangs", lambda _: told(timeout) >= 3 and told(errored) >= 3))["status"]
    assert not ready(status, "Ready")
    assert container(status)["restartCount"] == 0
    deadline = time.monotonic() + PATIENCE
    while True:
        processes = (await host.output("hangs", "ps", "-o", "stat,args")).splitlines()
        dead = [line for line in processes if line.startswith("Z")]
        # Only the try that is under way; what is being ended may be seen for a moment, what is left stays.
        if not dead and len([line for line in processes if "sleep 500" in line]) <= 2:
            break
        assert time.monotonic() < deadline, processes
        await asyncio.sleep(0.1)
    await host.delete("hangs")


async def test_readiness_is_asked_until_the_end(host: PodHost) -> None:
    going = "rm /tmp/ready; until [ -e /tmp/end ]; do sleep 0.1; done; exit 0"
    script = f"touch /tmp/ready; trap '{going}' TERM; while :; do sleep 0.1; done"
    probe = {
        "exec": {"command": ["test", "-e", "/tmp/ready"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "timeoutSeconds": 60,
    }
    await host.create(pod("going", container=shell(script, readinessProbe=probe), terminationGracePeriodSeconds=600))
    made = await host.running("going")
    await host.client.delete(PODS, "going", "default")
    status = (await host.until("going", lambda s: not ready(s, "Ready")))["status"]
    assert "running" in container(status)["state"], "it says so while it still runs"
    await host.output("going", "touch", "/tmp/end")
    await host.gone(made)


async def test_hooks_run_and_grace_is_kept(host: PodHost) -> None:
    script = "trap 'echo term >> /data/log; exit 0' TERM; while :; do sleep 0.1; done"
    await host.create(
        pod(
            "hooked",
            container=shell(
                script,
                volumeMounts=[{"name": "data", "mountPath": "/data"}],
                lifecycle={
                    "postStart": {"exec": {"command": ["sh", "-c", "echo start >> /data/log"]}},
                    "preStop": {"exec": {"command": ["sh", "-c", "echo stop >> /data/log"]}},
                },
            ),
            volumes=[{"name": "data", "emptyDir": {}}],
            terminationGracePeriodSeconds=600,
            restartPolicy="Never",
        )
    )
    made = await host.running("hooked")
    log = host.root / "volumes" / made["metadata"]["uid"] / "data" / "log"
    assert log.read_text() == "start\n"
    kept = host.root / "kept"
    kept.hardlink_to(log)  # it is to be read when the volume is gone
    await host.delete("hooked")
    assert kept.read_text() == "start\nstop\nterm\n"


async def test_a_container_that_ignores_term_is_killed_after_its_grace(host: PodHost) -> None:
    await host.create(
        pod("deaf", container=shell("trap '' TERM; while :; do sleep 1; done"), terminationGracePeriodSeconds=2)
    )
    await host.running("deaf")
    began = time.monotonic()
    await host.delete("deaf")
    assert time.monotonic() - began > 1.9


async def test_a_shorter_grace_takes_over(host: PodHost) -> None:
    await host.create(
        pod("slow", container=shell("trap '' TERM; while :; do sleep 1; done"), terminationGracePeriodSeconds=600)
    )
    made = await host.running("slow")
    await host.client.delete(PODS, "slow", "default")
    await asyncio.sleep(0.5)
    await host.client.delete(PODS, "slow", "default", grace_seconds=1)
    await host.gone(made)


async def test_force_deletion_ends_the_containers_too(host: PodHost) -> None:
    await host.create(pod("forced"))
    made = await host.running("forced")
    await host.client.delete(PODS, "forced", "default", grace_seconds=0)
    assert await host.get("forced") is None
    await host.gone(made)


async def test_deadline_fails_the_pod(host: PodHost) -> None:
    await host.create(pod("late", activeDeadlineSeconds=3))
    status = (await host.until("late", lambda s: s["phase"] == "Failed"))["status"]
    assert status["reason"] == "DeadlineExceeded"
    # A slow machine may not have come to start it.
    assert "running" not in container(status)["state"]
    await host.delete("late")


async def test_an_agent_restart_restarts_nothing(host: PodHost) -> None:
    await host.create(pod("kept", container={"readinessProbe": {"exec": {"command": ["true"]}, "timeoutSeconds": 60}}))
    before = container((await host.running("kept"))["status"])
    await host.create(pod("lost"))
    lost = await host.running("lost")
    await host.stop_agent()
    writes = len(host.client.calls)
    await host.client.delete(PODS, "lost", "default", grace_seconds=0)
    await host.start_agent()
    await host.gone(lost)
    after = container((await host.running("kept"))["status"])
    assert after == before
    assert not [call for call in host.client.calls[writes:] if call[2] == "default/kept"], (
        "nothing changed, nothing written"
    )
    await host.delete("kept")


async def test_a_sandbox_that_dies_is_made_anew(host: PodHost) -> None:
    await host.create(pod("anew"))
    made = await host.running("anew")
    assert host.manager is not None
    sandbox = next(info for info in await host.runtime.inspect_all() if info.is_sandbox)
    await host.runtime.remove(sandbox.id)
    status = (await host.until("anew", lambda s: container(s)["restartCount"] == 1 and ready(s, "Ready")))["status"]
    assert status["podIP"] == made["status"]["podIP"]
    text = "Pod sandbox changed, it will be killed and re-created."
    assert ("Normal", "SandboxChanged", text, "") in host.told.events
    await host.delete("anew")


async def test_a_changed_image_restarts_the_container(host: PodHost) -> None:
    host.engine.docker("tag", "busybox:latest", "busybox:two")
    await host.create(pod("newer"))
    await host.running("newer")
    await host.client.patch(
        PODS,
        "newer",
        [{"op": "replace", "path": "/spec/containers/0/image", "value": "busybox:two"}],
        "default",
        kind="json",
    )
    status = (await host.until("newer", lambda s: container(s)["image"] == "busybox:two" and ready(s, "Ready")))[
        "status"
    ]
    assert container(status)["restartCount"] == 1
    await host.delete("newer")


async def test_an_api_that_is_away_loses_no_status(host: PodHost) -> None:
    from orca.api import errors

    def away(verb: str, resource: object, name: str, subresource: str) -> None:
        raise errors.service_unavailable("gone fishing")

    await host.create(pod("told", container=shell("sleep 0.5; exit 0"), restartPolicy="Never"))
    host.client.intercepts.append(away)
    await asyncio.sleep(2)
    host.client.intercepts.clear()
    await host.until("told", lambda s: s["phase"] == "Succeeded")
    await host.delete("told")


async def test_privileged_gets_what_the_host_has(host: PodHost) -> None:
    await host.create(pod("root", container={"securityContext": {"privileged": True}}))
    await host.running("root")
    assert "Seccomp:\t0" in await host.output("root", "cat", "/proc/self/status")
    assert (await host.output("root", "sh", "-c", "mount -t tmpfs none /tmp && echo yes")).strip() == "yes"
    await host.delete("root")


async def test_what_the_configuration_allows_and_demands(host: PodHost) -> None:
    allowed = {"sysctls": [{"name": "kernel.msgmax", "value": "12345"}]}
    await host.create(pod("tuned", securityContext=allowed))
    await host.create(pod("untuned", securityContext={"sysctls": [{"name": "kernel.shmmax", "value": "1"}]}))
    await host.running("tuned")
    assert (await host.output("tuned", "cat", "/proc/sys/kernel/msgmax")).strip() == "12345"
    assert "Seccomp:\t2" in await host.output("tuned", "cat", "/proc/self/status")
    refused = (await host.until("untuned", lambda s: s["phase"] == "Failed"))["status"]
    assert refused["reason"] == "SysctlForbidden"
    await host.delete("tuned")
    await host.delete("untuned")
