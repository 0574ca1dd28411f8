"""An audit policy that has every level, and what a server has logged by it."""

from __future__ import annotations

import json
from typing import Any

from tests.api.server.process import ServerProcess

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
  - level: None
    users: [quiet, noisy]
  - level: None
    nonResourceURLs: ["/readyz*", "/livez*", "/api*", "/openapi*", "/version"]
  - level: Metadata
    resources: [{group: "", resources: [secrets]}]
    omitStages: [RequestReceived]
  - level: RequestResponse
    resources: [{group: "", resources: [configmaps]}]
  - level: Request
    resources: [{group: "", resources: [serviceaccounts, pods/exec]}]
    omitStages: [RequestReceived]
  - level: None
"""


def logged(server: ServerProcess, **wanted: Any) -> list[dict[str, Any]]:
    """Audit events whose fields are as wanted; ``ref`` is compared with what it names of the objectRef."""
    found = []
    for line in (server.directory / "audit.log").read_text().splitlines():
        event = json.loads(line)
        reference = event.get("objectRef") or {}
        if all(
            reference.items() >= value.items() if key == "ref" else event.get(key) == value
            for key, value in wanted.items()
        ):
            found.append(event)
    return found
