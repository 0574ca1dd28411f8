"""An etcd of our own that does not live is started again, and told of in a line."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orca.cli.etcd import RESTART_SECONDS, STEADY_SECONDS, EtcdChild, EtcdEnded, pause_before
from tests.support.ports import free_port


def test_one_that_dies_again_and_again_is_started_less_and_less_often() -> None:
    first, most = RESTART_SECONDS
    pauses = list(itertools.accumulate(range(12), lambda last, _: pause_before(0.5, last), initial=0.0))[1:]
    assert pauses[:4] == [first, 2 * first, 4 * first, 8 * first]
    assert pauses[-1] == most
    assert pause_before(STEADY_SECONDS, most) == first


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for data; etcd is a program that has nothing but a complaint."""
    program = tmp_path / "bin" / "etcd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho the database is broken >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "data"


async def test_one_that_ends_at_once_is_told_of(broken: Path) -> None:
    with pytest.raises(EtcdEnded, match="ended with code 3") as raised:
        await EtcdChild(broken / "etcd").start()
    assert str(broken / "etcd") in str(raised.value)


def test_a_server_without_it_says_so_in_a_line(broken: Path) -> None:
    server = subprocess.run(
        [
            str(Path(sys.executable).parent / "orca"),
            "server",
            f"--data-dir={broken}",
            f"--kubeconfig={broken / 'kubeconfig'}",
            f"--secure-port={free_port()}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert server.returncode == 1
    assert server.stderr.splitlines()[0] == "the database is broken"
    assert server.stderr.splitlines()[-1].startswith("Error: etcd ended with code 3 while it started")
    assert "Traceback" not in server.stderr + server.stdout
