"""``fieldPath`` of a rule: where its error belongs.

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/cel`` (ValidFieldPath).
"""

from __future__ import annotations

import re
from typing import Any

_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\['(?P<key>(?:[^'\\]|\\.)*)'\]")
_UNESCAPE = re.compile(r"\\(.)")
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


def resolve(path: str, schema: dict[str, Any]) -> str:
    """``.a['b']`` as the path of an error below a field: ``.a.b``, or ``.a[b]`` in a map.

    Raises ValueError with what is wrong.
    """
    at, made = 0, ""
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise ValueError(f"expected [ or . but got: {path[at:]}")
        at = step.end()
        name = step["name"] if step["name"] is not None else _UNESCAPE.sub(_unescape, step["key"])
        if schema.get("properties"):
            inner = schema["properties"].get(name)
            made += f".{name}"
        else:
            inner = schema.get("additionalProperties")
            made += f"[{name}]"
        if not isinstance(inner, dict):
            raise ValueError("does not refer to a valid field")
        schema = inner
    return made


def _unescape(match: re.Match[str]) -> str:
    try:
        return _PLAIN[match[1]]
    except KeyError:
        raise ValueError(f"invalid string literal: invalid escape char {match.group()}") from None
