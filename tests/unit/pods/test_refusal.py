"""Pods that a host may never run fail at once instead of waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.pods.lifecycle import Life
from agents.pods.memory import Memory
from agents.pods.plan import plan
from agents.pods.refusal import HostRules, has_apparmor, host_refusal, port_conflict, refusal
from agents.pods.status import build_status
from agents.sysctls import dotted, problem_with_patterns
from orca.api.objects import Obj
from tests.unit.pods.build import T0, info, pod, up


def with_sysctl(name: str, **more: Any) -> Obj:
    return pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **more)


@pytest.mark.parametrize(
    ("obj", "reason", "message"),
    [
        (with_sysctl("kernel.msgmax"), "SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        (
            with_sysctl("net.ipv4.tcp_syncookies", hostNetwork=True),
            "SysctlForbidden",
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled',
        ),
        (
            pod(securityContext={"appArmorProfile": {"type": "RuntimeDefault"}}),
            "AppArmor",
            "Cannot enforce AppArmor: AppArmor is not enabled on the host",
        ),
        (
            pod(os={"name": "windows"}),
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ),
    ],
)
def test_refused_pods_fail_without_containers(obj: Obj, reason: str, message: str) -> None:
    memory = Memory(first_seen=T0, refused=host_refusal(obj, HostRules()))
    decided = plan(obj, memory, T0)
    assert decided.doom is not None
    assert (decided.doom.reason, decided.doom.event) == (reason, message)
    assert decided.life is Life.FINISHED
    status = build_status(obj, memory, decided, T0, ["172.30.0.11"])
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", reason, f"Pod was rejected: {message}")
    assert "containerStatuses" not in status


def test_safe_ones_and_pods_that_run_are_left_alone() -> None:
    assert host_refusal(with_sysctl("net/ipv4/tcp_syncookies"), HostRules()) is None
    forbidden = with_sysctl("kernel.msgmax")
    memory = up(info("c"))
    memory.refused = host_refusal(forbidden, HostRules())
    assert plan(forbidden, memory, T0).doom is None
    assert refusal(forbidden) is None


@pytest.mark.parametrize(
    ("name", "spec", "problem"),
    [
        ("kernel.msgmax", {}, ""),
        ("kernel.shmmax", {}, '"kernel.shmmax" not allowlisted'),
        ("net.core.somaxconn", {}, ""),
        ("net/core/somaxconn", {}, ""),
        ("net.core.somaxconn", {"hostNetwork": True}, '"net.core.somaxconn" not allowed with host net enabled'),
        ("kernel.msgmax", {"hostIPC": True}, '"kernel.msgmax" not allowed with host ipc enabled'),
        ("kernel.msgmax", {"hostNetwork": True}, ""),
    ],
)
def test_unsafe_sysctls_can_be_allowed(name: str, spec: dict[str, Any], problem: str) -> None:
    found = host_refusal(with_sysctl(name, **spec), HostRules(unsafe_sysctls=("kernel.msg*", "net/core/somaxconn")))
    assert (found.event if found else "") == (f"forbidden sysctl: {problem}" if problem else "")


def test_patterns_must_name_what_pods_have_of_their_own() -> None:
    assert problem_with_patterns(("kernel.msg*", "net.*", "fs.mqueue.msg_max", "kernel.sem", "net/ipv4/*")) == ""
    assert "kernel.*" in problem_with_patterns(("net.core.somaxconn", "kernel.*"))
    assert "vm.swappiness" in problem_with_patterns(("vm.swappiness",))
    assert "must have at most 253 characters" in problem_with_patterns(("net.*.x",))
    assert dotted("net/ipv4/conf/eth0.1/forwarding") == "net.ipv4.conf.eth0/1.forwarding"


def test_apparmor_profiles_are_taken_where_the_kernel_has_it(tmp_path: Path) -> None:
    obj = pod(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}})
    assert host_refusal(obj, HostRules(apparmor=True)) is None
    assert host_refusal(pod(securityContext={"appArmorProfile": {"type": "Unconfined"}}), HostRules()) is None
    told = tmp_path / "enabled"
    assert not has_apparmor(told)
    told.write_text("Y\n")
    assert has_apparmor(told)


def with_port(address: str = "", protocol: str = "TCP") -> Obj:
    port = {"containerPort": 80, "hostPort": 8080, "hostIP": address, "protocol": protocol}
    return pod(containers=[{"name": "c", "image": "i", "ports": [port]}])


@pytest.mark.parametrize(
    ("mine", "other", "conflict"),
    [
        (with_port(), with_port(), True),
        (with_port("10.0.0.1"), with_port("0.0.0.0"), True),
        (with_port("10.0.0.1"), with_port("10.0.0.2"), False),
        (with_port(), with_port(protocol="UDP"), False),
        (with_port(), pod(), False),
        (pod(), with_port(), False),
    ],
)
def test_a_host_port_is_given_once(mine: Obj, other: Obj, conflict: bool) -> None:
    found = port_conflict(mine, [other])
    assert (found is not None) is conflict
    if found is not None:
        assert found.reason == "NodePorts"
        decided = plan(mine, Memory(first_seen=T0, refused=found), T0)
        assert decided.doom is found
        # Adopted after a restart of the agent: what already runs is not taken down.
        running = up(info("c"))
        running.refused = found
        assert plan(mine, running, T0).doom is None
