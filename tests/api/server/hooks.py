"""Webhooks that a test configures for its own namespace, and takes away again."""

from __future__ import annotations

import itertools
from typing import Any

from tests.api.server.api import Answer, Api
from tests.support.tls import Authority
from tests.support.webhooks import Webhooks

_numbers = itertools.count(1)
GROUP = "/apis/admissionregistration.k8s.io/v1"
RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


class World:
    """A running webhook server and the means to configure it for one namespace."""

    def __init__(self, api: Api, space: str, authority: Authority, hooks: Webhooks, port: int) -> None:
        self.api, self.space, self.authority, self.hooks, self.port = api, space, authority, hooks, port
        self._made: list[str] = []

    def hook(self, path: str, **fields: Any) -> dict[str, Any]:
        """One webhook, limited to this test's namespace."""
        made = {
            "name": f"{path.strip('/')}.hooks.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.authority.bundle},
            "rules": [RULE],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.space}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 30,  # a test that stands still for a while answers no hook
        }
        return made | fields

    async def configure(self, sort: str, *hooks: dict[str, Any]) -> str:
        """``sort`` is Mutating or Validating."""
        name = f"hooks-{next(_numbers)}"
        path = f"{GROUP}/{sort.lower()}webhookconfigurations"
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{sort}WebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": list(hooks),
        }
        made = await self.api.post(path, body)
        assert made.status == 201, made.raw
        assert "Warning" not in made.headers
        self._made.append(f"{path}/{name}")
        # As upstream, admission follows the configurations a moment behind; a read is never older than the write.
        assert (await self.api.get(f"{path}/{name}")).status == 200
        return name

    async def create(self, name: str = "", query: str = "", **fields: Any) -> Answer:
        """A ConfigMap."""
        metadata = {"name": name or f"c{next(_numbers)}"} | fields.pop("metadata", {})
        return await self.api.post(
            f"/api/v1/namespaces/{self.space}/configmaps{query}", {"metadata": metadata, "data": {"a": "1"}, **fields}
        )

    async def clear(self) -> None:
        while self._made:
            path = self._made.pop()
            await self.api.delete(path)
            await self.api.get(path)
