"""Pods that a host may never run fail at once instead of waiting."""

from __future__ import annotations

from typing import Any

import pytest

from agents.pods.lifecycle import Life
from agents.pods.memory import Memory
from agents.pods.plan import plan
from agents.pods.refusal import port_conflict, refusal
from agents.pods.status import build_status
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
            pod(os={"name": "windows"}),
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ),
    ],
)
def test_refused_pods_fail_without_containers(obj: Obj, reason: str, message: str) -> None:
    memory = Memory(first_seen=T0)
    decided = plan(obj, memory, T0)
    assert decided.doom is not None
    assert (decided.doom.reason, decided.doom.event) == (reason, message)
    assert decided.life is Life.FINISHED
    status = build_status(obj, memory, decided, T0, ["172.30.0.11"])
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", reason, f"Pod was rejected: {message}")
    assert "containerStatuses" not in status


def test_safe_ones_and_pods_that_run_are_left_alone() -> None:
    assert refusal(with_sysctl("net/ipv4/tcp_syncookies")) is None
    assert plan(with_sysctl("kernel.msgmax"), up(info("c")), T0).doom is None


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
