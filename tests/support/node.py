"""The Node.js client library from its registry, at the versions its lock file names, kept for the next run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "api" / "clients" / "node"
CACHE = Path("/var/cache/orca")


def project() -> Path:
    """A folder with the packages installed and our scripts beside them; fails where there is no Node.js."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.fail("node and npm are not installed; scripts/prepare dev installs them")
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = CACHE / f"node-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, folder)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"npm ci: {done.stdout}{done.stderr}"
        (folder / "ready").touch()
    for script in SOURCE.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


def run(script: str, *argv: str, timeout: float = 240) -> str:
    """What a script prints; fails the test when it fails."""
    done = subprocess.run(
        ["node", script, *argv],
        cwd=project(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "NODE_OPTIONS": "--unhandled-rejections=strict"},
    )
    assert done.returncode == 0, f"node {script} → {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout
