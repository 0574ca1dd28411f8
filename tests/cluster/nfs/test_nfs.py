"""Claims and pods on an NFS server: in a guest whose kernel can mount it, see the package."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pytest

from tests.cluster.nfs.__main__ import CHECKS
from tests.cluster.nfs.server import PACKAGES
from tests.guest import Guest, GuestError, unavailable
from tests.guest.kernel import KernelError
from tests.guest.packages import unpacked
from tests.support.background import Background

REPOSITORY = Path(__file__).resolve().parents[3]
GUEST_SECONDS = 1500
"""Some 80 on an idle core; emulation has to share them with what else is going on."""


def _run_guest() -> list[str]:
    """All that the guest's program prints, and what became of it."""
    said: list[str] = []
    try:
        # Here, for the guest has no network.
        unpacked(PACKAGES)
    except KernelError as error:
        return [f"NFS IS NOT TESTED: {error}"]
    try:
        argv = [sys.executable, "-m", "tests.cluster.nfs"]
        code = Guest().run(argv, timeout=GUEST_SECONDS, line=said.append, directory=REPOSITORY)
        said.append(f"the guest ended with {code}")
    except GuestError as error:
        said.append(str(error))
    return said


GUEST = Background(_run_guest)


@pytest.mark.begins(GUEST)
@pytest.mark.timeout(GUEST_SECONDS + 600)
@pytest.mark.skipif(bool(unavailable()), reason=f"NFS IS NOT TESTED: {unavailable()}")
@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_volumes_of_an_nfs_server(check: str) -> None:
    said = GUEST.result()
    for line in said:
        if line.startswith("NFS IS NOT TESTED"):
            warnings.warn(line, stacklevel=1)
            pytest.skip(line)
        if line.startswith("{") and (found := json.loads(line))["check"] == check:
            assert not found["problem"], found["problem"]
            return
    raise AssertionError("\n".join([f"no result of {check}", *said[-30:]]))
