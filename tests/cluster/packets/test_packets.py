"""The packet table for each way of writing services, and what IPVS does over time. See the package.

IPVS and SCTP are not in every kernel: they are tried in a guest with Debian's, which boots while the others run here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.packets.ipvs_life import CHECKS
from tests.guest import Guest, GuestError, unavailable

REPOSITORY = Path(__file__).resolve().parents[3]
GUEST_SECONDS = 560
"""Some 120 on two idle cores; emulation has to share them with what else is going on."""
pytestmark = pytest.mark.timeout(GUEST_SECONDS + 30)
_IN_GUEST = (
    "{python} -m tests.cluster.packets ipvs --patience 2 --repeats 1;",
    "{python} -m tests.cluster.packets.ipvs_life",
)


class GuestRun:
    """Runs in the background; `line` waits for a result."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._problem = ""
        self._changed = threading.Condition()
        self._done = False
        self.code: int | None = None
        """What the guest's command ended with."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        command = " ".join(_IN_GUEST).format(python=sys.executable)
        try:
            self.code = Guest().run(["sh", "-c", command], timeout=GUEST_SECONDS, line=self._add, directory=REPOSITORY)
            self._problem = f"the guest ended with {self.code}"
        except GuestError as error:
            self._problem = str(error)
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _add(self, line: str) -> None:
        with self._changed:
            self._said.append(line)
            self._changed.notify_all()

    def result(self, kind: str, name: str) -> dict[str, Any]:
        """The line of JSON in which ``kind`` is ``name``."""
        with self._changed:
            while True:
                for line in self._said:
                    if line.startswith("{") and (found := json.loads(line)).get(kind) == name:
                        return dict(found)
                assert not self._done, "\n".join([f"no result of {name}", *self._said[-30:], self._problem])
                self._changed.wait(GUEST_SECONDS)


@pytest.fixture(scope="module", autouse=True)
def guest() -> Iterator[GuestRun | None]:
    """None where there can be no guest."""
    if why := unavailable():
        warnings.warn(f"IPVS IS NOT TESTED: {why}", stacklevel=1)
        yield None
    else:
        yield GuestRun()


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


def test_every_row_with_ipvs_in_a_guest(guest: GuestRun | None) -> None:
    if guest is None:
        pytest.skip(f"IPVS IS NOT TESTED: {unavailable()}")
    result = guest.result("mode", "ipvs")
    assert "SCTP" in result["protocols"]
    _judge(result)


@pytest.mark.parametrize("check", CHECKS)
def test_ipvs(guest: GuestRun | None, check: str) -> None:
    if guest is None:
        pytest.skip(f"IPVS IS NOT TESTED: {unavailable()}")
    result = guest.result("check", check)
    assert not result["problem"], result["problem"]


def _judge(result: dict[str, Any]) -> None:
    print(f"{result['mode']}: {result['rows']} rows, {result['connections']} connections in {result['seconds']} s")
    assert result["rows"] > 4000
    failures = result["failures"]
    assert not failures, "\n".join([f"{len(failures)} of {result['rows']} rows:", *failures[:50]])
