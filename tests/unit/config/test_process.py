"""What a configuration asks of its host and of the agent's process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.config import Configuration, ConfigurationError, override
from agents.process import KERNEL_FLAGS, AnotherAgent, become, check_host, take_alone


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    for flag, value in KERNEL_FLAGS.items():
        (tmp_path / "sys" / flag).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / flag).write_text(f"{value}\n")
    (tmp_path / "self").mkdir()
    return tmp_path


STRICT: dict[str, Any] = {"fail_swap_on": True, "fail_cgroup_v1": True, "protect_kernel_defaults": True}


def test_a_host_as_it_should_be_is_taken(proc: Path) -> None:
    (proc / "cgroup.controllers").touch()
    check_host(override(Configuration(), **STRICT), proc, proc)


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("swaps", "Filename\n/dev/sda2 partition 1 0 -2\n", r"failSwapOn: .*\(/dev/sda2\)"),
        ("sys/kernel/panic", "0", "kernel/panic, expected value: 10, actual value: 0"),
        ("sys/vm/overcommit_memory", "2", "vm/overcommit_memory, expected value: 1, actual value: 2"),
    ],
)
def test_another_one_is_refused_only_when_asked_for(proc: Path, file: str, text: str, problem: str) -> None:
    (proc / "cgroup.controllers").touch()
    (proc / file).write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        check_host(override(Configuration(), **STRICT), proc, proc)
    check_host(Configuration(), proc, proc)


def test_cgroup_v1_is_refused_only_when_asked_for(proc: Path) -> None:
    with pytest.raises(ConfigurationError, match="failCgroupV1"):
        check_host(override(Configuration(), **STRICT), proc, proc)
    check_host(Configuration(), proc, proc)


def test_the_agent_is_the_last_that_the_kernel_kills(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr("resource.setrlimit", lambda which, limit: limits.append(limit))
    become(Configuration(), proc)
    assert (proc / "self" / "oom_score_adj").read_text() == "-999"
    assert limits == [(1000000, 1000000)]


def test_one_agent_a_host(tmp_path: Path) -> None:
    """The one that holds it may be gone in any way: the kernel lets go of it."""
    root = tmp_path / "agent"
    script = "import sys, time, pathlib; from agents.process import take_alone; take_alone(pathlib.Path(sys.argv[1]))"
    argv = [sys.executable, "-c", f"{script}; print('held', flush=True); time.sleep(60)", str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AnotherAgent, match="another orca-agent runs on this host"):
            take_alone(root)
        holder.kill()
    take_alone(root)
    take_alone(tmp_path / "agent" / "lock" / "no-directory")  # what cannot be kept is done without
