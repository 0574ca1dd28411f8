"""What the configuration asks of the host and of the agent's own process, seen to before anything else starts."""

from __future__ import annotations

import fcntl
import os
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


class AnotherAgent(Exception):
    """The state of this host is in the hands of an agent that runs."""


def take_alone(root: Path) -> None:
    """Keep every other agent off the state in ``root`` as long as this process lives, however it ends: two would take
    each other's containers, addresses and rules for leftovers. Raises AnotherAgent."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        held = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        # A full disk is no reason to leave the host alone.
        log.warning("cannot keep other agents off", error=str(error))
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise AnotherAgent(f"another orca-agent runs on this host, with its state in {root}") from None


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
