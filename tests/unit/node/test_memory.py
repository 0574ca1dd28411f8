"""The Node as it was last, for a start without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agents.node.memory import NodeMemory

NODE = {
    "metadata": {"name": "n", "uid": "u", "labels": {"a": "b"}},
    "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"], "taints": []},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}], "images": []},
}


async def test_what_the_network_starts_with_is_kept(tmp_path: Path) -> None:
    assert await NodeMemory(tmp_path).read() is None
    memory = NodeMemory(tmp_path)
    memory.keep({"metadata": {"name": "n"}, "spec": {}})
    memory.keep(NODE)
    await asyncio.gather(*memory._writes)
    found = await NodeMemory(tmp_path).read()
    assert found is not None
    assert found["spec"] == {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}
    assert found["status"] == {"addresses": NODE["status"]["addresses"]}  # type: ignore[index]
    (tmp_path / "node.json").write_text("{")
    assert await NodeMemory(tmp_path).read() is None
