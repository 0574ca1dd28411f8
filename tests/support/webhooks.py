"""Admission webhooks run by a test: what they were asked, and what they answer."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Decide = Callable[[dict[str, Any]], dict[str, Any]]
"""(AdmissionRequest) -> fields of the response, ``allowed`` true unless said otherwise."""


@dataclass
class Webhooks:
    """A handler with one webhook a path; ``asked`` keeps every AdmissionReview by path."""

    decide: dict[str, Decide] = field(default_factory=dict)
    asked: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    raw: dict[str, Callable[[], web.Response]] = field(default_factory=dict)
    hang: set[str] = field(default_factory=set)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        review = orjson.loads(await request.read())
        self.asked.setdefault(path, []).append(review)
        if path in self.hang:
            await asyncio.sleep(60)
        if path in self.raw:
            return self.raw[path]()
        decided = self.decide[path](review["request"]) if path in self.decide else {}
        response = {"uid": review["request"]["uid"], "allowed": True, **decided}
        answer = {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}
        return web.json_response(answer)

    def requests(self, path: str) -> list[dict[str, Any]]:
        """What a path was asked."""
        return [review["request"] for review in self.asked.get(path, [])]


def patched(*operations: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A response with a JSON patch."""
    return {"patch": b64encode(orjson.dumps(operations)).decode(), "patchType": "JSONPatch", **more}


def denied(message: str, **status: Any) -> dict[str, Any]:
    """A response that refuses."""
    return {"allowed": False, "status": {"message": message, **status}}
