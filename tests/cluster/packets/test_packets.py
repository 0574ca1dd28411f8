"""The packet table for each way of writing services, and what IPVS does over time. See the package.

IPVS and SCTP are not in every kernel: they are tried in a guest with Debian's, which runs beside the other tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.packets.ipvs_life import CHECKS
from tests.guest import Guest, GuestError, unavailable
from tests.support.background import Background

REPOSITORY = Path(__file__).resolve().parents[3]
MOST_LOST = 0.05
"""Of all connections: those that were answered only when tried again, by themselves or by us."""
GUEST_SECONDS = 1500
"""Some 120 on two idle cores; emulation has to share them with what else is going on."""
_IN_GUEST = (
    "{python} -m tests.cluster.packets ipvs --patience 2 --repeats 1;",
    "{python} -m tests.cluster.packets.ipvs_life",
)


def _run_guest() -> list[str]:
    """All that the guest's programs print, and what became of them."""
    said: list[str] = []
    if not unavailable():
        command = " ".join(_IN_GUEST).format(python=sys.executable)
        try:
            code = Guest().run(["sh", "-c", command], timeout=GUEST_SECONDS, line=said.append, directory=REPOSITORY)
            said.append(f"the guest ended with {code}")
        except GuestError as error:
            said.append(str(error))
    return said


GUEST = Background(_run_guest)


def told_by_guest(kind: str, name: str) -> dict[str, Any]:
    """The line of JSON in which ``kind`` is ``name``; skips the test where there can be no guest."""
    if why := unavailable():
        warnings.warn(f"IPVS IS NOT TESTED: {why}", stacklevel=1)
        pytest.skip(f"IPVS IS NOT TESTED: {why}")
    said = GUEST.result()
    for line in said:
        if line.startswith("{") and (found := json.loads(line)).get(kind) == name:
            return dict(found)
    raise AssertionError("\n".join([f"no result of {name}", *said[-30:]]))


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_every_row_here(mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.packets", mode],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _judge(json.loads(done.stdout))


@pytest.mark.begins(GUEST)
@pytest.mark.timeout(GUEST_SECONDS + 600)
def test_every_row_with_ipvs_in_a_guest() -> None:
    result = told_by_guest("mode", "ipvs")
    assert "SCTP" in result["protocols"]
    _judge(result)


@pytest.mark.begins(GUEST)
@pytest.mark.timeout(GUEST_SECONDS + 600)
@pytest.mark.parametrize("check", CHECKS)
def test_ipvs(check: str) -> None:
    result = told_by_guest("check", check)
    assert not result["problem"], result["problem"]


def _judge(result: dict[str, Any]) -> None:
    resent = f"{result['resent']} with a second datagram, {result['again']} tried again"
    connections = f"{result['connections']} connections in {result['seconds']} s ({resent})"
    print(f"{result['mode']}: {result['rows']} rows, {connections}")
    assert result["rows"] > 4000
    failures = result["failures"]
    assert not failures, "\n".join([f"{len(failures)} of {result['rows']} rows:", *failures[:50]])
    # What a busy machine loses may be sent again, but rules that lose many first packets are none that pass.
    assert result["resent"] + result["again"] <= MOST_LOST * result["connections"], connections
