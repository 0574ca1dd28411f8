"""Documents of the three metrics APIs by their paths, for the autoscaler: ours, or those of servers that aggregate."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import orjson

from orca.api.builtin import PODMETRICS
from orca.api.errors import ApiError, service_unavailable
from orca.api.objects import Obj
from orca.server.aggregation.aggregator import Aggregator
from orca.server.aggregation.backend import Unreachable
from orca.server.options import ListOptions
from orca.server.verbs import Verbs

SECONDS = 10.0


class Pages:
    """As ``orca.controllers.config.Pages`` says."""

    def __init__(self, verbs: Verbs, aggregator: Aggregator) -> None:
        self._verbs = verbs
        self._aggregator = aggregator

    async def get(self, path: str, query: Mapping[str, str]) -> Obj:
        """``path`` begins with ``/apis/<group>/<version>/``. Raises ApiError."""
        _, _, group, version, *rest = path.split("/")
        service = self._aggregator.remote(group, version)
        if service is None:
            if (group, version) == (PODMETRICS.group, PODMETRICS.version) and len(rest) == 3:
                page = await self._verbs.list(PODMETRICS, rest[1], ListOptions(labels=query.get("labelSelector", "")))
                return {"items": [entry.obj for entry in page.entries]}
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        where = f"{path}?{urlencode(query)}" if query else path
        try:
            reply = await self._aggregator.ask(service, where, SECONDS)
            found = orjson.loads(reply.body)
        except (Unreachable, ValueError) as error:
            raise service_unavailable(str(error)) from error
        if reply.status >= 300 or not isinstance(found, dict):
            text = found.get("message") if isinstance(found, dict) else None
            reason = "NotFound" if reply.status == 404 else "InternalError"
            raise ApiError(reply.status, reason, text or "the server could not find the requested resource")
        return found
