"""What the configuration asks of the host and of the agent's own process, seen to before anything else starts."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

import structlog

from agents.config import Configuration, ConfigurationError
from agents.resources.paths import MOUNT, cgroup_version

KERNEL_FLAGS: Mapping[str, int] = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What a kubelet wants of the kernel, where `protectKernelDefaults` has it look."""

log = structlog.get_logger()


def check_host(configuration: Configuration, proc: Path = Path("/proc"), cgroups: Path = MOUNT) -> None:
    """Raises ConfigurationError for a host that the configuration does not want."""
    if configuration.fail_swap_on and (swaps := _swaps(proc)):
        raise ConfigurationError(
            f"failSwapOn: running with swap on is not supported, please disable swap or set it to false ({swaps})"
        )
    if configuration.fail_cgroup_v1 and cgroup_version(cgroups) == 1:
        raise ConfigurationError("failCgroupV1: this host has cgroup v1")
    if configuration.protect_kernel_defaults:
        wrong = []
        for flag, wanted in KERNEL_FLAGS.items():
            try:
                have = int((proc / "sys" / flag).read_text().split()[0])
            except (OSError, ValueError, IndexError):
                continue  # a kernel that has no such flag
            if have != wanted:
                wrong.append(f"{flag}, expected value: {wanted}, actual value: {have}")
        if wrong:
            raise ConfigurationError(f"protectKernelDefaults: invalid kernel flag: {'; '.join(wrong)}")


def become(configuration: Configuration, proc: Path = Path("/proc")) -> None:
    """Take the limits on open files and the place in the kernel's order of victims that the configuration says.

    A host that does not allow it is one where the agent does without, with a warning.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = configuration.max_open_files
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (OSError, ValueError) as error:
        log.warning("cannot raise the limit on open files", wanted=wanted, have=soft, error=str(error))
    try:
        (proc / "self" / "oom_score_adj").write_text(str(configuration.oom_score_adj))
    except OSError as error:
        log.warning("cannot set oom_score_adj", wanted=configuration.oom_score_adj, error=str(error))


def _swaps(proc: Path) -> str:
    """Swap that is on, by name."""
    try:
        lines = (proc / "swaps").read_text().splitlines()[1:]
    except OSError:
        return ""
    return ", ".join(line.split()[0] for line in lines if line.strip())
