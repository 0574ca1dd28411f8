"""Pods that a host may never run fail at once instead of waiting."""

from __future__ import annotations

import pytest

from agents.pods.lifecycle import Life
from agents.pods.memory import Memory
from agents.pods.plan import plan
from agents.pods.refusal import refusal
from agents.pods.status import build_status
from orca.api.objects import Obj
from tests.unit.pods.build import T0, info, pod, up


def with_sysctl(name: str, **more: object) -> Obj:
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
