"""Pods that this host may never run: they fail at once, as the kubelet's admission handlers make them. Pure.

What could work one day, or elsewhere, is not here: such a pod waits with an event (`compose.refuse_unsupported`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agents import sysctls
from agents.pods.containers import every_container, init_containers, is_sidecar, main_containers, spec_of
from agents.pods.memory import Doom
from orca.api.objects import Obj

APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


@dataclass(frozen=True, slots=True)
class HostRules:
    """What this host lets pods do. ``unsafe_sysctls``: names and ``prefix*`` patterns besides the safe ones."""

    unsafe_sysctls: tuple[str, ...] = ()
    apparmor: bool = False


def has_apparmor(told: Path = APPARMOR) -> bool:
    """Whether the kernel runs with AppArmor."""
    try:
        return told.read_text().startswith("Y")
    except OSError:
        return False


def refusal(pod: Obj) -> Doom | None:
    """Why the pod is not to be started on any host of this kind; None when nothing speaks against it."""
    if (spec_of(pod).get("os") or {}).get("name", "linux") != "linux":
        return refused("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    return None


def host_refusal(pod: Obj, rules: HostRules) -> Doom | None:
    """Why the pod is not to be started on this host; None when nothing speaks against it."""
    spec = spec_of(pod)
    shared = spec.get("securityContext") or {}
    for item in shared.get("sysctls") or ():
        problem = sysctls.problem_with(
            item["name"],
            rules.unsafe_sysctls,
            host_network=bool(spec.get("hostNetwork")),
            host_ipc=bool(spec.get("hostIPC")),
        )
        if problem:
            return refused("SysctlForbidden", f"forbidden sysctl: {problem}")
    contexts = [shared, *((container.get("securityContext") or {}) for container in every_container(pod))]
    profiles = [context.get("appArmorProfile") or {} for context in contexts]
    if not rules.apparmor and any(profile.get("type") in ("RuntimeDefault", "Localhost") for profile in profiles):
        return refused("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
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
        (
            "" if (port.get("hostIP") or "") in ("", "0.0.0.0", "::") else port["hostIP"],
            port.get("protocol") or "TCP",
            int(port["hostPort"]),
        )
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def refused(reason: str, message: str) -> Doom:
    """A pod that is never started here, and the texts of its status and its event."""
    return Doom(reason, f"Pod was rejected: {message}", event=message)
