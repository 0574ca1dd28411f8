"""From what the person who runs this host configured to what this room works with. Pure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.config import Configuration, ConfigurationError
from agents.resources.amounts import HUGE_PAGES, Amounts
from agents.resources.cgroups import Settings
from agents.resources.cpus import Topology, parse_cpus
from agents.resources.handout import FILE, OPTIONS, CpuHandout, CpuStateError, Policy, other_policy, reserved_cpus
from agents.resources.limits import Limits, Rules
from agents.resources.reservations import PROCESSES, ReservationError, Reservations, limits_for
from orca.api.quantity import parse_int

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_COMPRESSIBLE = "-compressible"


def reservations(configuration: Configuration) -> Reservations:
    """What is kept from pods."""
    return Reservations(
        configuration.system_reserved,
        configuration.kube_reserved,
        configuration.eviction_hard,
        cpus=len(parse_cpus(configuration.reserved_system_cpus)),
    )


def cgroup_settings(configuration: Configuration, *, root: str, capacity: Amounts, version: int) -> Settings:
    """``root`` is the flag's and comes before the file's; ``capacity`` is the host's, with its process ids (``pid``);
    ``version`` that of the cgroup tree. Raises ConfigurationError."""
    if configuration.single_process_oom_kill is False and version == 1:
        raise ConfigurationError("singleProcessOOMKill: must not be explicitly set to false when using cgroup v1")
    kept = reservations(configuration)
    try:
        kept.check(capacity)
    except ReservationError as error:
        raise ConfigurationError(str(error)) from error
    sizes = tuple(parse_int(name.removeprefix(HUGE_PAGES)) for name in capacity if name.startswith(HUGE_PAGES))
    enforced = configuration.enforce_node_allocatable
    whole = kept.enforceable(capacity) if "pods" in enforced else capacity
    reserved = []
    for part, path in (("system", configuration.system_reserved_cgroup), ("kube", configuration.kube_reserved_cgroup)):
        amounts = kept.of(part)
        if f"{part}-reserved" in enforced:
            reserved.append((path, limits_for(amounts)))
        elif f"{part}-reserved{_COMPRESSIBLE}" in enforced:
            reserved.append((path, Limits(cpu_shares=limits_for(amounts).cpu_shares)))
    return Settings(
        root=root or configuration.cgroup_root.rstrip("/"),
        by_quality=configuration.cgroups_per_qos,
        rules=Rules(
            quota=configuration.cpu_cfs_quota,
            period=round(configuration.cpu_cfs_quota_period * 1_000_000),
            pids=max(configuration.pod_pids_limit, 0),
            page_sizes=sizes,
        ),
        whole=limits_for({name: whole[name] for name in whole if name in ("cpu", "memory", PROCESSES)}),
        reserved=tuple(reserved),
        kill_together=not configuration.single_process_oom_kill,
    )


def cpu_handout(configuration: Configuration, directory: Path, topology: Callable[[], Topology]) -> CpuHandout | None:
    """Who hands out cpus, with its state in ``directory``; None where the policy is to let all share all. Raises
    ConfigurationError."""
    options = {name: _option(name, value) for name, value in configuration.cpu_manager_policy_options.items()}
    if configuration.cpu_manager_policy != "static":
        if options:
            raise ConfigurationError(f"cpuManagerPolicyOptions: the none policy takes no options: {sorted(options)}")
        if other_policy(directory) == "static":
            raise ConfigurationError(
                'cpuManagerPolicy: configured policy "none" differs from state checkpoint policy "static": please '
                f"drain this node and delete the CPU manager checkpoint file {str(directory / FILE)!r} before "
                "restarting"
            )
        return None
    kept = reservations(configuration)
    found = topology()
    try:
        reserved = reserved_cpus(
            found,
            parse_cpus(configuration.reserved_system_cpus),
            kept.of("system").get("cpu", 0) + kept.of("kube").get("cpu", 0),
        )
        policy = Policy(
            found,
            reserved,
            whole_cores=options.get("full-pcpus-only", False),
            strict=options.get("strict-cpu-reservation", False),
        )
        if policy.strict and policy.reserved == found.all:
            raise CpuStateError("strict-cpu-reservation: no cpu is left for pods")
        return CpuHandout(policy, directory)
    except CpuStateError as error:
        raise ConfigurationError(f"cpuManagerPolicy: {error}") from error


def _option(name: str, value: str) -> bool:
    if name not in OPTIONS:
        raise ConfigurationError(f"cpuManagerPolicyOptions: orca-agent does not support {name!r} (but {OPTIONS})")
    if value not in (*_TRUE, *_FALSE):
        raise ConfigurationError(f"cpuManagerPolicyOptions[{name}]: invalid boolean {value!r}")
    return value in _TRUE
