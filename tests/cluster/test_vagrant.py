"""The Vagrantfile is one that Vagrant accepts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.skipif(not shutil.which("vagrant"), reason="this system has no package of vagrant")
def test_vagrant_validates_the_file(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "vagrant" / "Vagrantfile", tmp_path)
    # No provider is needed to check the file itself.
    done = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout


def test_every_host_is_installed_with_the_installation_scripts() -> None:
    text = (PROJECT / "vagrant" / "Vagrantfile").read_text()
    for script in ("install-server", "install-agent"):
        assert f"/orca/scripts/{script}" in text
        assert (PROJECT / "scripts" / script).stat().st_mode & 0o111
