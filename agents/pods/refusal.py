"""Pods that this host may never run: they fail at once, as the kubelet's admission handlers make them. Pure.

What could work one day, or elsewhere, is not here: such a pod waits with an event (`compose.refuse_unsupported`).
"""

from __future__ import annotations

from collections.abc import Iterable

from agents.pods.containers import init_containers, is_sidecar, main_containers, spec_of
from agents.pods.memory import Doom
from orca.api.objects import Obj

SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
"""What upstream's kubelet lets pods set without ``--allowed-unsafe-sysctls``."""


def refusal(pod: Obj) -> Doom | None:
    """Why the pod is not to be started here at all; None when nothing speaks against it."""
    if (spec_of(pod).get("os") or {}).get("name", "linux") != "linux":
        return refused("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    for item in (spec_of(pod).get("securityContext") or {}).get("sysctls") or ():
        # Upstream takes slashes for dots.
        problem = _sysctl_problem(item["name"].replace("/", "."), spec_of(pod))
        if problem:
            return refused("SysctlForbidden", f'forbidden sysctl: "{item["name"]}" {problem}')
    return None


def port_conflict(pod: Obj, others: Iterable[Obj]) -> Doom | None:
    """Refused when one of the ``others``, who are here already, has a host port of the pod's. The scheduler sees to
    that for the pods it places; this is for those that name their node themselves."""
    wanted = _host_ports(pod)
    taken = [port for other in others for port in _host_ports(other)] if wanted else []
    for address, *port in wanted:
        for other_address, *other_port in taken:
            if port == other_port and (address == other_address or "" in (address, other_address)):
                text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
                return refused("NodePorts", text)
    return None


def _host_ports(pod: Obj) -> list[tuple[str, str, int]]:
    """(address or "" for any, protocol, port)"""
    containers = [*(one for one in init_containers(pod) if is_sidecar(one)), *main_containers(pod)]
    return [
        ((port.get("hostIP") or "").replace("0.0.0.0", ""), port.get("protocol") or "TCP", int(port["hostPort"]))
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _sysctl_problem(name: str, spec: Obj) -> str:
    if name not in SAFE_SYSCTLS:
        return "not allowlisted"
    if spec.get("hostNetwork") and name.startswith("net."):
        return "not allowed with host net enabled"
    if spec.get("hostIPC") and name.startswith("kernel."):
        return "not allowed with host ipc enabled"
    return ""


def refused(reason: str, message: str) -> Doom:
    """A pod that is never started here, and the texts of its status and its event."""
    return Doom(reason, f"Pod was rejected: {message}", event=message)
