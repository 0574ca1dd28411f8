"""The agent's own files, when they hold anything but what it wrote: it starts without what they told, and says so."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agents.images.access import Verification
from agents.images.collector import _load as load_ages
from agents.images.records import PullRecords
from agents.network.addresses import LeaseFile
from agents.node.keyring import CLIENT, Keyring
from agents.node.memory import NodeMemory
from agents.node.shutdown import _read_times
from agents.pods import checkpoint, verdict
from agents.resources.handout import other_policy
from agents.static.feed import _load as load_static
from orca.client.clock import VirtualClock

CONTENTS: dict[str, bytes | None] = {
    "empty": b"",
    "cut": b'{"pods": {"u": {"ip": "10.2',
    "binary": bytes(range(256)),
    "zeros": b"\0" * 4096,
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "nested deeply": b'{"pods":' + b"[" * 100_000,
    "other types": b'{"pods": [], "image": [], "allotted": [], "requested": 1, "restarting": 2, "reason": {},'
    b' "startTime": [], "a": 1, "grace": "x", "kind": 4}',
    "no addresses": b'{"pods": {"u": {"ip": "here", "name": 1, "host_ports": []}}, "last": "nowhere"}',
    "no ports": b'{"pods": {"u": {"ip": "10.2.3.4", "name": "", "host_ports": [{"host_port": "x"}]}}}',
    "a directory": None,
}


async def _node(root: Path) -> object:
    return await NodeMemory(root).read() or None


def _plain(read: Callable[[Path], object]) -> Callable[[Path], Awaitable[object]]:
    async def reading(root: Path) -> object:
        return read(root)

    return reading


def _pulled(root: Path) -> object:
    """An image whose record is lost stays closed to those without credentials; that one is known is not an answer."""
    PullRecords(root, Verification(), VirtualClock())
    return None


READERS: dict[str, tuple[str, Callable[[Path], Awaitable[object]], object]] = {
    "addresses": ("a.json", _plain(lambda root: LeaseFile(root / "a.json").read()), ({}, ())),
    "node": ("node.json", _node, None),
    "verdict": ("verdict.json", _plain(verdict.load_verdict), None),
    "allotment": ("resources.json", _plain(checkpoint.load), None),
    "shutdown": ("graceful_node_shutdown_state", _plain(_read_times), (0.0, 0.0)),
    "static pods": ("static-pods.json", _plain(load_static), {}),
    "policy": ("cpu_manager_state", _plain(other_policy), ""),
    "ages": ("usage.json", _plain(lambda root: load_ages(root / "usage.json")), {}),
    "pulled": ("pulled/sha256-abc", _plain(_pulled), None),
    "pulling": ("pulling/sha256-abc", _plain(_pulled), None),
    "certificate": ("client.pem", _plain(lambda root: Keyring(root).certificate(CLIENT)), None),
}
SILENT = {"shutdown", "policy"}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("reader", READERS)
async def test_foreign_content_is_told_and_left_out(tmp_path: Path, reader: str, content: str) -> None:
    file, read, nothing = READERS[reader]
    path, raw = tmp_path / file, CONTENTS[content]
    path.parent.mkdir(exist_ok=True)
    if raw is None:
        path.mkdir()
    else:
        path.write_bytes(raw)
    with capture_logs() as said:
        found = await read(tmp_path)
    if reader == "node" and content in ("other types", "no addresses", "no ports"):
        return  # an object, of which only parts that it has are taken
    assert found == nothing
    assert said or reader in SILENT or content in ("other types", "no addresses", "no ports")
