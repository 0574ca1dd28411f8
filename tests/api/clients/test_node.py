"""The official Node.js client: informer, patches, watch, objects of any kind."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support import node


def test_the_nodejs_client(kubeconfig: Path, space: str) -> None:
    found = json.loads(node.run("client.mjs", str(kubeconfig), space))
    assert found["informer"][:1] == ["add before"]
    assert set(found["informer"]) == {"add before", "add after", "update after", "delete before"}
    assert found["cached"] == [["after", {"a": "2"}]]
    assert found["created"] is True
    replicas, merged, containers = found["patched"]
    assert (replicas, merged) == (3, "yes")
    assert sorted(containers) == ["c", "d"]
    assert ["ADDED", "Pod"] in found["watched"]
    assert found["lease"] == "node"
    assert found["error"] == [404, "NotFound"]
    assert found["allowed"] is True
    assert found["version"] == "36"
