"""Which commit this program is of: as the installer noted it, or as the checkout it runs from says."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


_ROOT = Path(__file__).resolve().parents[2]


def revision(package: str = "orca", root: Path = _ROOT) -> tuple[str, str]:
    """(commit or "", state of the tree): "clean" as installed from a commit. Else nobody knows what was changed:
    "archive", as upstream calls what was not built from a repository."""
    commit = _installed(package)
    return (commit, "clean") if commit else (_checked_out(root / ".git"), "archive")


def _installed(package: str) -> str:
    """The commit by PEP 610."""
    try:
        noted = distribution(package).read_text("direct_url.json")
    except PackageNotFoundError:
        return ""
    return _valid(str((json.loads(noted).get("vcs_info") or {}).get("commit_id", ""))) if noted else ""


def _checked_out(git: Path) -> str:
    try:
        if git.is_file():  # a worktree's
            git = (git.parent / git.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return _valid(head)
        name = head.removeprefix("ref: ")
        common = git / "commondir"
        shared = (git / common.read_text().strip()).resolve() if common.is_file() else git
        if (shared / name).is_file():
            return _valid((shared / name).read_text().strip())
        packed = (shared / "packed-refs").read_text().splitlines()
        return next((_valid(line.split(" ")[0]) for line in packed if line.endswith(f" {name}")), "")
    except (OSError, UnicodeDecodeError):
        return ""


def _valid(text: str) -> str:
    return text if _COMMIT.fullmatch(text) else ""
