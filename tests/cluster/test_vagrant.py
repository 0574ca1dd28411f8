"""The Vagrantfile is one that Vagrant accepts."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.background import Background

PROJECT = Path(__file__).parents[2]


def _validate() -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="orca-vagrant-") as directory:
        shutil.copy(PROJECT / "vagrant" / "Vagrantfile", directory)
        # No provider is needed to check the file itself, and nobody to ask for a newer Vagrant.
        return subprocess.run(
            ["vagrant", "validate", "--ignore-provider"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "VAGRANT_CHECKPOINT_DISABLE": "1"},
        )


VALIDATED = Background(_validate)


@pytest.mark.skipif(not shutil.which("vagrant"), reason="this system has no package of vagrant")
@pytest.mark.begins(VALIDATED)
def test_vagrant_validates_the_file() -> None:
    done = VALIDATED.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout


def test_every_host_is_installed_with_the_installation_scripts() -> None:
    text = (PROJECT / "vagrant" / "Vagrantfile").read_text()
    for script in ("install-server", "install-agent"):
        assert f"/orca/scripts/{script}" in text
        assert (PROJECT / "scripts" / script).stat().st_mode & 0o111
