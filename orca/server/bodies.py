"""Request bodies: read within limits, decoded from JSON or YAML, duplicate fields found.

Duplicates matter to ``fieldValidation``; finding them must not cost the common case a second parse, see
``duplicate_fields``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import isfinite, isnan
from operator import itemgetter
from typing import Any, TypeVar

import orjson
import yaml
from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from orca.api import repeated
from orca.api.errors import ApiError, bad_request, too_large, unsupported_media_type
from orca.api.objects import Obj
from orca.server import protobuf
from orca.server.fairness.turns import Lane

LIMIT = 3 * 1024 * 1024  # bytes, as kube-apiserver
READ_SECONDS = 30.0  # a client that stops sending half-way loses its connection
DEPTH = 200  # levels of a body; encoder and interpreter have limits not far above
YAML_NODE_LIMIT = 1_000_000  # after aliases are expanded
YAML_MERGE_LIMIT = 100_000  # keys taken over by ``<<``
JSON_MEDIA = "application/json"
YAML_MEDIA = ("application/yaml", "application/x-yaml", "text/yaml")
OBJECT_MEDIA = (JSON_MEDIA, "application/yaml", protobuf.MEDIA)
APART_FROM = 32 * 1024  # bytes of YAML; several milliseconds to parse
_PARSER = ThreadPoolExecutor(1, "yaml")  # one: more would only take the interpreter from the loop more often
_SPACED_COLON = re.compile(rb'"\s+:')


T = TypeVar("T")


async def apart(raw: bytes, media: str, parse: Callable[[], T]) -> T:
    """What ``parse`` makes of a body: of long YAML in a thread, which takes seconds for a megabyte."""
    if media == JSON_MEDIA or len(raw) <= APART_FROM or (media not in YAML_MEDIA and _is_json(raw)):
        return parse()
    return await asyncio.get_running_loop().run_in_executor(_PARSER, parse)


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


async def read_body(request: web.BaseRequest, lane: Lane | None = None) -> bytes:
    """The whole body; of those that many send at once, parts are taken in turn. Raises ApiError 413 above ``LIMIT``
    bytes, 408 when it does not arrive in time, 400 when what arrives is no HTTP."""
    content = request.content
    if content.is_eof():  # small bodies come with their head: no timer needed
        whole = content.read_nowait() if request.can_read_body else b""
        if len(whole) > LIMIT:
            raise too_large(LIMIT)
        return whole
    length = request.content_length
    if length is not None and length > LIMIT:
        raise too_large(LIMIT)
    go_on(request)
    chunks: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(READ_SECONDS) as limit:
            while True:
                if lane is not None and chunks and not lane.has_room():
                    loop = asyncio.get_running_loop()
                    began, until = loop.time(), limit.when()
                    limit.reschedule(None)  # the client is not slow meanwhile
                    await lane.wait()
                    limit.reschedule((until or began) + loop.time() - began)
                chunk = await content.readany()
                if not chunk:
                    break
                total += len(chunk)
                if total > LIMIT:
                    raise too_large(LIMIT)
                chunks.append(chunk)
    except TimeoutError:
        raise ApiError(408, "Timeout", "the request body did not arrive in time") from None
    except PayloadEncodingError as error:
        raise bad_request(f"the request body is malformed: {str(error.message).splitlines()[0]}") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def go_on(request: web.BaseRequest) -> None:
    """Tell a client that asks before it sends its body (``Expect: 100-continue``) to do so."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def media_of(request: web.BaseRequest) -> str:
    """The body's media type without parameters; JSON when the client does not say."""
    header = request.headers.get("Content-Type", "")
    if header == JSON_MEDIA:
        return header
    return header.partition(";")[0].strip().lower() or JSON_MEDIA


def decode_object(raw: bytes, media: str, expected: str = "") -> Obj:
    """The JSON object in ``raw``. ``expected`` is the kind named in errors. Raises ApiError 400 or 415."""
    value = decode(raw, media, expected)
    if not isinstance(value, dict):
        raise bad_request(
            f"{_unrecognized(expected)}: couldn't get version/kind; json parse error: json: cannot unmarshal "
            f"{_go_type(value)} into Go value of type struct"
        )
    return value


def decode(raw: bytes, media: str, expected: str = "") -> Any:
    """The JSON value in ``raw``, which is JSON or YAML by ``media``."""
    if media == JSON_MEDIA:
        try:
            return shallow(orjson.loads(raw), raw)
        except orjson.JSONDecodeError as problem:
            why = "unexpected end of JSON input" if not raw.strip() else str(problem)
            raise bad_request(
                f"{_unrecognized(expected)}: couldn't get version/kind; json parse error: {why}"
            ) from None
    if media in YAML_MEDIA:
        return shallow(_decode_yaml(raw))
    raise unsupported_media_type(OBJECT_MEDIA)


def decode_configuration(raw: bytes) -> tuple[Any, str]:
    """An applied configuration and the media type it was read as: JSON if it is, which is faster, else YAML.

    Raises ApiError 400.
    """
    if raw.lstrip()[:1] == b"{":
        try:
            return shallow(orjson.loads(raw), raw), JSON_MEDIA
        except orjson.JSONDecodeError:
            pass  # YAML's flow style looks alike
    return _decode_yaml(raw), YAML_MEDIA[0]


def shallow(value: Any, raw: bytes | None = None) -> Any:
    """``value``, unless it is nested deeper than ``DEPTH``: ApiError 400. ``raw``, its JSON, mostly tells sooner."""
    if raw is not None and raw.count(b"{") + raw.count(b"[") <= DEPTH:
        return value
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if outer.__class__ is dict else outer)
            if inner.__class__ is dict or inner.__class__ is list
        ]
        if not level:
            return value
    raise bad_request(f"the body is nested too deep: more than {DEPTH} levels")


def _unrecognized(expected: str) -> str:
    return f"the object provided is unrecognized (must be of type {expected})" if expected else "the body is malformed"


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", int: "number", float: "number", list: "array"}.get(type(value), "null")


class _YamlLoader(yaml.CSafeLoader):
    """Safe YAML as the Kubernetes tools read it: timestamps stay strings, keys are strings, duplicates are noted."""

    duplicates: list[str]
    merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Merges of merges grow as aliases do, before there is a value that could be counted.
        for key, value in list(node.value):
            if key.tag != "tag:yaml.org,2002:merge":
                continue
            for part in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                if isinstance(part, yaml.MappingNode):
                    self.flatten_mapping(part)
                    self.merged += len(part.value)
                    if self.merged > YAML_MERGE_LIMIT:
                        raise yaml.YAMLError("document contains excessive aliasing")
        super().flatten_mapping(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            if key in seen:
                self.duplicates.append(f'line {key_node.start_mark.line + 1}: key "{key}" already set in map')
            seen.add(key)
        return super().construct_mapping(node, deep)


_YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _decode_yaml(raw: bytes, duplicates: list[str] | None = None) -> Any:
    try:
        _refuse_deep_yaml(raw)
        loader = _YamlLoader(raw)
        loader.duplicates = [] if duplicates is None else duplicates
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
        return _json_value(value, [YAML_NODE_LIMIT])
    except yaml.YAMLError as problem:
        raise bad_request(f"error converting YAML to JSON: yaml: {_yaml_problem(problem)}") from None
    except (RecursionError, UnicodeDecodeError, ValueError):
        raise bad_request("error converting YAML to JSON: yaml: document is malformed or nested too deep") from None


_INDENTED = re.compile(rb"^[ \t?:-]{%d}" % DEPTH, re.MULTILINE)


def _refuse_deep_yaml(raw: bytes) -> None:
    """The C parser composes nodes recursively, and would take the process along with its stack. Raises ApiError 400."""
    if raw.count(b"[") + raw.count(b"{") <= DEPTH and _INDENTED.search(raw) is None:
        return
    depth = 0
    for event in yaml.parse(raw, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH:
                raise bad_request(f"the body is nested too deep: more than {DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _yaml_problem(problem: yaml.YAMLError) -> str:
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        return f"line {problem.problem_mark.line + 1}: {problem.problem or problem.context}"
    return str(problem).partition("\n")[0]


def _json_value(value: Any, budget: list[int]) -> Any:
    """A copy with string keys and without shared parts; ``budget`` bounds what aliases may expand to."""
    budget[0] -= 1
    if budget[0] < 0:
        raise bad_request("error converting YAML to JSON: yaml: document contains excessive aliasing")
    if isinstance(value, dict):
        # Sorted as upstream's way to JSON leaves them, so that they are spoken of in the same order.
        items = sorted(((_json_key(key), item) for key, item in value.items()), key=itemgetter(0))
        return {key: _json_value(item, budget) for key, item in items}
    if isinstance(value, list | tuple):
        return [_json_value(item, budget) for item in value]
    if isinstance(value, float) and not isfinite(value):
        shown = "NaN" if isnan(value) else "+Inf" if value > 0 else "-Inf"
        raise bad_request(f"error converting YAML to JSON: json: unsupported value: {shown}")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def _json_key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, float) and not isfinite(key):
        return ".nan" if isnan(key) else ".inf" if key > 0 else "-.inf"
    return key if isinstance(key, str) else str(key)


def duplicate_fields(raw: bytes, media: str, decoded: Any) -> list[str]:
    """Texts about members that occur twice in one mapping of ``raw``: ``duplicate field "spec"`` each, of YAML one text
    with the lines of all.

    A JSON document without duplicates has as many ``":`` as its re-encoding (inside strings both have the same),
    provided no blank stands before a colon; only when the counts differ is the document parsed again in Python.
    """
    if media == JSON_MEDIA:
        if raw.count(b'":') == orjson.dumps(decoded).count(b'":') and not _spaced_colon(raw):
            return []
        try:
            return repeated.duplicate_fields(raw)
        except (RecursionError, ValueError):
            return []
    found: list[str] = []
    _decode_yaml(raw, found)
    return ["\n  ".join(("yaml: unmarshal errors:", *found))] if found else []


_OPERATION = frozenset({"op", "path", "from", "value"})


def patch_problems(raw: bytes, decoded: Any) -> list[str]:
    """Texts about members that occur twice in a patch; of operations (a JSON patch) also about those they have not."""
    twice = duplicate_fields(raw, JSON_MEDIA, decoded)
    if not isinstance(decoded, list):
        return list(twice)
    unknown = [
        f'unknown field "[{index}].{name}"'
        for index, operation in enumerate(decoded)
        if isinstance(operation, dict) and not operation.keys() <= _OPERATION
        for name in operation
        if name not in _OPERATION
    ]
    found = twice.among(unknown) if isinstance(twice, repeated.Repeated) else unknown[: repeated.MAX_STRICT_ERRORS]
    return [f"json patch {text}" for text in found]


def _spaced_colon(raw: bytes) -> bool:
    """Whether a blank stands between a name and its colon. Few documents have one before any colon."""
    before = b" :" in raw or b"\n:" in raw or b"\t:" in raw or b"\r:" in raw
    return before and _SPACED_COLON.search(raw) is not None


def repeated_keys(raw: bytes, media: str, decoded: Any) -> list[str]:
    """The same of an applied configuration, of which JSON too is told as the YAML it is."""
    found = duplicate_fields(raw, media, decoded)
    return duplicate_fields(raw, YAML_MEDIA[0], decoded) if found and media == JSON_MEDIA else found
