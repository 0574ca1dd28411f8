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


@dataclass
class AccessReviewer:
    """A handler that answers SubjectAccessReviews; ``asked`` keeps their specs, ``shown`` who asked for the last one.

    ``decide`` gives the answer's status from a spec, no opinion unless said otherwise. ``raw`` is given instead of an
    answer, ``hang`` takes longer than anybody waits.
    """

    decide: Callable[[dict[str, Any]], dict[str, Any]] = lambda _spec: {"allowed": False}
    asked: list[dict[str, Any]] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    shown: dict[str, str] = field(default_factory=dict)
    raw: Callable[[], web.Response] | None = None
    hang: bool = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        review = orjson.loads(await request.read())
        self.asked.append(review["spec"])
        self.versions.add(review["apiVersion"])
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        subject = {key: value for part in (certificate or {}).get("subject", ()) for key, value in part}
        self.shown = {
            "certificate": subject.get("commonName", ""),
            "token": request.headers.get("Authorization", ""),
            "path": request.path_qs,
        }
        if self.hang:
            await asyncio.sleep(60)
        if self.raw is not None:
            return self.raw()
        status = self.decide(review["spec"])
        return web.json_response({"apiVersion": review["apiVersion"], "kind": "SubjectAccessReview", "status": status})

    def resources(self, **wanted: str) -> list[dict[str, Any]]:
        """Attributes of the resources asked about, those with these values."""
        found = [spec["resourceAttributes"] for spec in self.asked if "resourceAttributes" in spec]
        return [one for one in found if wanted.items() <= one.items()]
