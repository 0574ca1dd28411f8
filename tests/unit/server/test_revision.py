"""The commit a server says it is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

from orca.server.revision import revision


def git(where: Path, *words: str) -> str:
    said = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
        cwd=where,
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip()


def test_of_a_checkout_in_all_its_shapes(tmp_path: Path) -> None:
    root = tmp_path / "one"
    root.mkdir()
    git(root, "init", "-q")
    assert revision("no-such-package", root) == ("", "archive")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    commit = git(root, "rev-parse", "HEAD")
    assert revision("no-such-package", root) == (commit, "archive")
    git(root, "pack-refs", "--all")
    assert revision("no-such-package", root) == (commit, "archive")
    git(root, "worktree", "add", "-q", "-b", "other", str(tmp_path / "two"))
    assert revision("no-such-package", tmp_path / "two") == (commit, "archive")
    git(root, "checkout", "-q", "--detach")
    assert revision("no-such-package", root) == (commit, "archive")


def test_without_a_checkout(tmp_path: Path) -> None:
    assert revision("no-such-package", tmp_path) == ("", "archive")
