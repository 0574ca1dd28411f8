"""Programs of Debian's that are wanted in a guest only: unpacked into the cache, never installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.guest.kernel import CACHE, KernelError, run_tool


def unpacked(packages: Sequence[str]) -> Path:
    """The root of a tree with the packages' files and no others; their dependencies are asked for by name. Raises
    ``KernelError`` where they cannot be had."""
    place = CACHE.parent / f"packages-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
    if place.is_dir():
        return place
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    # Beside its final place, so that what is seen there is always whole.
    work = Path(tempfile.mkdtemp(dir=CACHE.parent, prefix=".packages-"))
    try:
        run_tool("apt-get", "-q", "download", *packages, cwd=work)
        for archive in sorted(work.glob("*.deb")):
            run_tool("dpkg", "-x", str(archive), str(work / "root"))
        if not (work / "root").is_dir():
            raise KernelError(f"apt-get brought none of {', '.join(packages)}")
        if not place.exists():
            os.rename(work / "root", place)
        return place
    finally:
        shutil.rmtree(work, ignore_errors=True)


def lay_over(tree: Path, root: Path = Path("/")) -> None:
    """Copy a tree's files to where they would be installed, but for those that are there: for a guest, whose root is
    its own."""
    for directory, _, names in os.walk(tree):
        # Directories of one may be links of the other, as /sbin is.
        target = root / Path(directory).relative_to(tree)
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not os.path.lexists(target / name):
                shutil.copy2(Path(directory) / name, target / name, follow_symlinks=False)
