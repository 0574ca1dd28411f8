"""Answers as bytes: objects, lists, Status, in the form that was negotiated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import yaml
from aiohttp import web
from multidict import CIMultiDict

from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.server.fairness.turns import Lane
from orca.server.negotiation import YAML, Form
from orca.server.packing import packed
from orca.server.whole import WholeResponse

GZIP_FROM = 128 * 1024  # bytes; smaller answers cost more to pack than to send
PIECES_FROM = 1024 * 1024  # bytes; longer lists are packed a batch at a time
ANSWERING = web.RequestKey("orca.answering", bool)
"""Set on a request whose answer is on its way: no other can be given any more."""
_JSON_HEADERS = {"Content-Type": "application/json"}

_WARNINGS_MOST = 4096
_WARNING_HEADERS = 64  # Python's own client refuses answers with more than 100 headers
_WARNING_CUT = 256


class _Dumper(yaml.CSafeDumper):
    """Objects share equal parts in memory; what is said of one object never refers to another part."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def encode(value: Any, form: Form, *, pretty: bool = False) -> bytes:
    """``value`` as JSON or YAML."""
    if form.media == YAML:
        return yaml.dump(value, Dumper=_Dumper, default_flow_style=False, sort_keys=False).encode()
    if pretty:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def json_response(body: bytes, status: int = 200) -> web.Response:
    """The hot path: bytes that are JSON already."""
    return WholeResponse(body=body, status=status, headers=_JSON_HEADERS)


def value_response(value: Any, form: Form, *, status: int = 200, pretty: bool = False) -> web.Response:
    """Any JSON value in a negotiated form."""
    return encoded_response(encode(value, form, pretty=pretty), form, status)


def encoded_response(body: bytes, form: Form, status: int = 200) -> web.Response:
    """What is encoded in a negotiated form already."""
    return WholeResponse(body=body, status=status, headers={"Content-Type": form.media})


async def pack(response: web.Response, accept_encoding: str, lane: Lane) -> web.Response:
    """Compress a big answer when the client offers gzip: by a thread, so that others are served meanwhile."""
    body = response.body
    if isinstance(body, bytes) and len(body) >= GZIP_FROM and "gzip" in accept_encoding:
        response.body = await packed(body, lane)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    return response


def error_response(error: ApiError, form: Form) -> web.Response:
    """A Status with its HTTP code; Retry-After where the error asks for patience."""
    headers: CIMultiDict[str] = CIMultiDict({"Content-Type": form.media})
    retry = (error.details or {}).get("retryAfterSeconds")
    if retry:
        headers["Retry-After"] = str(retry)
    return web.Response(body=encode(error.status(), form), status=error.code, headers=headers)


def success_status(details: Obj) -> Obj:
    """What a completed deletion answers."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def warning_header(text: str) -> str:
    """One Warning header (RFC 7234, code 299) as the Kubernetes clients parse it."""
    shown = "".join(one if one.isprintable() else " " for one in text)
    safe = shown.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{safe}"'


def warning_headers(texts: Iterable[str]) -> list[str]:
    """Warning headers, each text once; when they are long together each is cut, as clients limit what they read."""
    unique = [text for text in dict.fromkeys(texts) if text][:_WARNING_HEADERS]
    if sum(map(len, unique)) > _WARNINGS_MOST:
        kept, room = [], _WARNINGS_MOST
        for text in unique:
            if room <= 0:
                break
            kept.append(text[:_WARNING_CUT])
            room -= len(kept[-1])
        unique = kept
    return [warning_header(text) for text in unique]
