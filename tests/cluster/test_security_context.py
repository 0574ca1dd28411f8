"""What a security context makes of a container, on real hosts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orca.lab.layout import Lab
from tests.cluster.conftest import orca
from tests.cluster.podset import container, inside, pod, pods, told, waiting
from tests.support import images
from tests.support.kubectl import Kubectl, eventually

ACCOUNTS = "orca-test/accounts:1"
HOST = "host-1"
NO_DIRECTORIES = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
}


def secured(**context: Any) -> dict[str, Any]:
    return container(securityContext=context)


RUNNING = [
    pod(
        "merged",
        container(image=ACCOUNTS, securityContext={"runAsGroup": 5}),
        securityContext={"runAsUser": 1000, "supplementalGroups": [77], "fsGroup": 9},
    ),
    pod(
        "strict",
        container(image=ACCOUNTS),
        securityContext={"runAsUser": 1000, "supplementalGroups": [77], "supplementalGroupsPolicy": "Strict"},
    ),
    pod("named", container(image=ACCOUNTS)),
    pod(
        "bare",
        secured(
            capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            allowPrivilegeEscalation=False,
            readOnlyRootFilesystem=True,
            seccompProfile={"type": "RuntimeDefault"},
        ),
    ),
    pod(
        "profile",
        secured(seccompProfile={"type": "Localhost", "localhostProfile": "tests/no-directories.json"}),
        nodeName=HOST,
    ),
    pod(
        "tuned",
        securityContext={
            "sysctls": [
                {"name": "net/ipv4/ip_unprivileged_port_start", "value": "80"},
                {"name": "kernel.shm_rmid_forced", "value": "1"},
            ]
        },
    ),
    pod("host", hostNetwork=True, hostPID=True, hostIPC=True),
    pod("together", container(), container(name="other"), shareProcessNamespace=True),
]
REFUSED = [
    pod("root", securityContext={"runAsNonRoot": True}),
    pod("zero", secured(runAsUser=0), securityContext={"runAsNonRoot": True}),
    pod("name", container(image=ACCOUNTS), securityContext={"runAsNonRoot": True}),
    pod("no-profile", secured(seccompProfile={"type": "Localhost", "localhostProfile": "tests/none.json"})),
    pod("unsafe", securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
    pod("armor", secured(appArmorProfile={"type": "RuntimeDefault"})),
    pod("users", hostUsers=False),
]


@pytest.fixture(scope="module")
def made(admin: Kubectl, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """All pods of this module, those that run being ready."""
    archive = tmp_path_factory.mktemp("images") / "accounts.tar"
    files = {
        "bin/busybox": Path("/bin/busybox").read_bytes(),
        "etc/passwd": b"root:x:0:0::/:/bin/sh\napp:x:1000:50::/:/bin/sh\n",
        "etc/group": b"root:x:0:\nwheel:x:10:root,app\nvideo:x:44:app\nstaff:x:50:\n",
    }
    links = {f"bin/{applet}": "busybox" for applet in images.APPLETS.split()}
    archive.write_bytes(images.archive(ACCOUNTS, files, links=links, command=["sh"], user="app"))
    orca("lab", "load-image", "--name", lab.name, str(archive))
    root = "/var/lib/orca-agent/seccomp/tests"
    script = f"mkdir -p {root} && echo '{json.dumps(NO_DIRECTORIES)}' > {root}/no-directories.json"
    orca("lab", "exec", "--name", lab.name, HOST, "--", "sh", "-c", script)
    names = [one["metadata"]["name"] for one in RUNNING]
    with pods(admin, f"security-{os.getpid()}", [*RUNNING, *REFUSED], ready=names) as kubectl:
        yield kubectl


def groups(kubectl: Kubectl, name: str) -> tuple[str, str, set[str]]:
    uid, gid, *more = inside(kubectl, name, "id -u; id -g; id -G").split()
    return uid, gid, set(more)


def test_groups_of_the_image_are_added_or_kept_out_by_policy(made: Kubectl) -> None:
    assert groups(made, "merged") == ("1000", "5", {"5", "9", "10", "44", "77"})
    assert groups(made, "strict") == ("1000", "50", {"50", "77"})
    assert groups(made, "named") == ("1000", "50", {"50", "10", "44"})
    status = made.json("get", "pod", "strict")["status"]["containerStatuses"][0]
    assert status["user"]["linux"] == {"uid": 1000, "gid": 50, "supplementalGroups": [50, 77]}
    node = made.json("get", "node", HOST)["status"]
    assert node["features"] == {"supplementalGroupsPolicy": True}


def test_a_container_can_do_with_little(made: Kubectl) -> None:
    told_by_kernel = dict(
        line.split(":\t") for line in inside(made, "bare", "cat /proc/1/status").splitlines() if ":\t" in line
    )
    assert int(told_by_kernel["CapBnd"], 16) == 1 << 10
    assert (told_by_kernel["NoNewPrivs"], told_by_kernel["Seccomp"]) == ("1", "2")
    assert "Read-only" in made.try_("exec", "bare", "--", "touch", "/x").err
    assert inside(made, "tuned", "grep Seccomp: /proc/1/status").split() == ["Seccomp:", "0"]


def test_a_seccomp_profile_of_the_host(made: Kubectl) -> None:
    assert "Operation not permitted" in made.try_("exec", "profile", "--", "mkdir", "/x").err
    assert inside(made, "profile", "touch /y && echo made") == "made"


def test_safe_sysctls_are_set_and_others_refused(made: Kubectl) -> None:
    found = inside(made, "tuned", "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/shm_rmid_forced")
    assert found.split() == ["80", "1"]
    status = eventually(lambda: failed(made, "unsafe"), what="an unsafe one is refused")
    message = 'forbidden sysctl: "kernel.msgmax" not allowlisted'
    assert (status["reason"], status["message"]) == ("SysctlForbidden", f"Pod was rejected: {message}")
    told(made, "unsafe", "SysctlForbidden", message)


def test_apparmor_is_not_pretended(made: Kubectl) -> None:
    status = eventually(lambda: failed(made, "armor"), what="armor is refused")
    message = "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
    assert (status["reason"], status["message"]) == ("AppArmor", message)


def failed(kubectl: Kubectl, name: str) -> dict[str, Any] | None:
    status: dict[str, Any] = kubectl.json("get", "pod", name)["status"]
    return status if status.get("phase") == "Failed" else None


def test_who_must_not_be_root(made: Kubectl) -> None:
    for name, text in (
        ("root", "container has runAsNonRoot and image will run as root"),
        ("zero", "container's runAsUser breaks non-root policy"),
        (
            "name",
            "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
        ),
    ):
        uid = made.json("get", "pod", name)["metadata"]["uid"]
        where = f'(pod: "{name}_{made.namespace}({uid})", container: c)'
        assert waiting(made, name, "CreateContainerConfigError") == f"{text} {where}"
        told(made, name, "Failed", f"Error: {text}")


def test_what_the_host_does_not_have_is_said(made: Kubectl) -> None:
    message = waiting(made, "no-profile", "CreateContainerError")
    assert "cannot load seccomp profile" in message
    assert "no such file or directory" in message
    told(made, "users", "FailedCreatePodSandBox", "hostUsers: false is not supported")


def test_namespaces_of_the_host_and_of_the_pod(made: Kubectl, lab: Lab) -> None:
    host = made.json("get", "pod", "host")["spec"]["nodeName"]
    look = "for n in net pid ipc; do readlink /proc/self/ns/$n; done"
    own = orca("lab", "exec", "--name", lab.name, host, "--", "sh", "-c", look).split()
    assert inside(made, "host", look).split() == own
    assert set(inside(made, "together", look).split()).isdisjoint(own)
    processes = inside(made, "together", "ps -o args")
    assert " -P" in processes, "the pod's first process is the sandbox's"
    assert processes.count("sleep 0.2; done") >= 2
    assert " -P" not in inside(made, "tuned", "ps -o args")
