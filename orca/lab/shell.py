"""Running programs of the machine (ip, nft, nsenter …) with errors that say what failed and why."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from orca.lab.layout import LabError


def run(*argv: str, text: str | None = None, check: bool = True, timeout: float = 60.0) -> str:
    """Run a program and return its standard output; raises ``LabError`` with its last lines when it fails."""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed; scripts/up installs what the lab needs") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)}: no answer within {timeout:.0f} s") from None
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise LabError(f"{' '.join(argv)} failed ({done.returncode}): {' / '.join(said) or 'no message'}")
    return done.stdout


def ip_batch(commands: Sequence[str], *, netns: str = "") -> None:
    """Run several ``ip`` commands in one process, stopping at the first that fails."""
    if commands:
        where = ["-n", netns] if netns else []
        run("ip", *where, "-batch", "-", text="\n".join(commands) + "\n")


def succeeds(*argv: str) -> bool:
    """True when the program ends with 0; what it prints is dropped."""
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
