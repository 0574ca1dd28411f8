"""A stranger's first minutes: a fresh clone, ``scripts/up``, ``scripts/down``, and nothing is left behind."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orca.lab.layout import STATE_ROOT, load
from tests.cluster.conftest import IMAGES
from tests.support.background import Background
from tests.support.kubectl import eventually

PROJECT = Path(__file__).parents[2]
LAB = "updown"


def _clone() -> Path:
    """A fresh clone, prepared as ``scripts/up`` begins with it: that takes the longest of all."""
    directory = Path(tempfile.mkdtemp(prefix="orca-clone-", dir="/var/tmp"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    target = directory / "orca"
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(target)], check=True)
    made = subprocess.run(
        ["scripts/prepare", "lab"], cwd=target, env=_environment(), capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return target


CLONE = Background(_clone)


@pytest.fixture
def clone() -> Iterator[Path]:
    IMAGES.result()
    target = CLONE.result()
    yield target
    subprocess.run(["scripts/down"], cwd=target, env=_environment(), check=False, capture_output=True)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"} | {"ORCA_LAB": LAB}


def _traces() -> dict[str, set[str]]:
    """Everything that a lab could leave behind, by kind."""

    def lines(*argv: str) -> set[str]:
        return set(subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines())

    processes = {
        f"{pid.name} {mentioned}"
        for pid in Path("/proc").iterdir()
        if pid.name.isdigit() and (mentioned := _mentions_lab(pid))
    }
    return {
        "namespaces": lines("ip", "netns"),
        "links": {re.sub(r"^\d+: ", "", line) for line in lines("ip", "-o", "link")},
        "nft": lines("nft", "list", "tables"),
        "iptables": lines("iptables-save"),
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob(f"*/orca-{LAB}*")}
        | {str(path) for path in Path("/sys/fs/cgroup").glob(f"orca-{LAB}*")},
        "state": {str(path) for path in Path("/var/lib").glob(f"orca-lab-{LAB}*")},
        "logs": {str(path) for path in Path("/var/log/pods").glob("*")},
        "processes": processes,
    }


def _mentions_lab(pid: Path) -> str:
    """What a process of it was started with, else "". A zombie is no process any more: it only waits for this machine's
    init."""
    try:
        if (pid / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return ""
        command = (pid / "cmdline").read_bytes().decode(errors="replace")
        return (command or "?") if f"orca-{LAB}" in (pid / "cgroup").read_text() or f"orca-lab-{LAB}" in command else ""
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _settled(traces: dict[str, set[str]]) -> dict[str, set[str]]:
    """Rule counters and packet counts change by themselves, and other labs and engines come and go beside this one; the
    rules are what counts, and what is nobody else's."""
    strip = re.compile(r"\[\d+:\d+\]|^#.*")
    rules = {strip.sub("", line) for line in traces["iptables"]} - {""}
    others = re.compile("|".join([r"\borca-t-", r"\bont\d+-\d", *_names_of_other_labs()]))
    return {
        kind: {line for line in lines if LAB in line or not others.search(line)}
        for kind, lines in {**traces, "iptables": rules}.items()
    }


def _names_of_other_labs() -> Iterator[str]:
    """Patterns for what belongs to them."""
    for record in STATE_ROOT.glob("orca-lab*/lab.json"):
        lab = load(json.loads(record.read_text())["name"])
        if lab.name != LAB:
            yield from (rf"\b{lab.bridge}\b", rf"\b{lab.table}\b", rf"\bol{lab.number}h\d")


@pytest.mark.begins(CLONE)
@pytest.mark.timeout(1800)
def test_up_shows_the_page_from_every_host_and_down_leaves_nothing(clone: Path) -> None:
    before = _settled(_traces())
    up = subprocess.run(["scripts/up"], cwd=clone, env=_environment(), capture_output=True, text=True, check=False)
    print(up.stdout)
    assert up.returncode == 0, up.stdout + up.stderr
    pages = re.findall(r"curl http://(\S+):30080 +→ +(.*)", up.stdout)
    assert len(pages) == 3, up.stdout
    assert {title for _, title in pages} == {"Welcome to nginx!"}
    assert "export KUBECONFIG=" in up.stdout

    again = subprocess.run(["scripts/up"], cwd=clone, env=_environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "unchanged" in again.stdout

    down = subprocess.run(["scripts/down"], cwd=clone, env=_environment(), capture_output=True, text=True, check=False)
    assert down.returncode == 0, down.stdout + down.stderr

    def nothing_is_left() -> bool:
        """Looked at again, for a moment only: another lab may have gone between two looks, and is not told from this
        one then."""
        after = _settled(_traces())
        assert {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind]} == {}
        return True

    eventually(nothing_is_left, seconds=5, what="nothing is left behind")
