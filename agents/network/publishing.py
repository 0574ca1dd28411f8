"""Tells other hosts how to reach the pods here: annotations of this host's Node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog

from orca.api.builtin import NODES
from orca.api.errors import ApiError
from orca.client.base import Client

Publish = Callable[[Mapping[str, str]], Awaitable[None]]
"""Writes annotations of this host's Node; a failure is told, never raised: the next look at the Node tries again."""

log = structlog.get_logger()


def node_annotations(client: Client, node_name: str) -> Publish:
    """A `Publish` that patches the Node."""

    async def publish(annotations: Mapping[str, str]) -> None:
        try:
            await client.patch(NODES, node_name, {"metadata": {"annotations": dict(annotations)}}, kind="merge")
        except ApiError as error:
            log.warning("other hosts are not told how to reach pods here", node=node_name, error=error.message)

    return publish
