"""Definitions of custom kinds that tests make on a shared server, and take away again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.api.server.api import Api
from tests.support.patience import PATIENCE

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def crontab(group: str) -> dict[str, Any]:
    """The CronTab of Kubernetes' documentation, with everything a version can say."""
    spec = {
        "type": "object",
        "description": "What to run.",
        "required": ["cronSpec"],
        "properties": {
            "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
            "image": {"type": "string"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
        },
        "x-kubernetes-validations": [{"rule": "!has(self.image) || self.image != 'none'", "message": "needs an image"}],
    }
    status = {
        "type": "object",
        "properties": {"replicas": {"type": "integer"}, "labelSelector": {"type": "string"}},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": "A CronTab runs things.",
                "properties": {"spec": spec, "status": status},
            }
        },
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.labelSelector",
            },
        },
        "additionalPrinterColumns": [
            {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Image", "type": "string", "jsonPath": ".spec.image", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "selectableFields": [{"jsonPath": ".spec.image"}],
    }
    # Short names and the words of one group do not disturb another's.
    names = {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"crontabs.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


async def establish(api: Api, definition: dict[str, Any]) -> None:
    """Create a definition and wait until it is established, as clients do."""
    name = definition["metadata"]["name"]
    made = await api.post(CRDS, definition)
    assert made.status == 201, made.raw
    async with asyncio.timeout(PATIENCE):
        while not is_established((await api.get(f"{CRDS}/{name}")).json):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


def is_established(definition: dict[str, Any]) -> bool:
    conditions = definition["status"].get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


async def remove(api: Api, name: str) -> None:
    """Delete a definition and wait until it is gone with its objects, so that no other test meets its kind."""
    assert (await api.delete(f"{CRDS}/{name}")).status in (200, 404)
    async with asyncio.timeout(PATIENCE):
        while (await api.get(f"{CRDS}/{name}")).status != 404:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


@asynccontextmanager
async def defined(api: Api, definition: dict[str, Any]) -> AsyncIterator[None]:
    """A definition that is established while the block runs."""
    try:
        await establish(api, definition)
        yield
    finally:
        await remove(api, definition["metadata"]["name"])
