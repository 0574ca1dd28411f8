"""Random objects of any kind, right in type and wild in content, drawn from the schema."""

from __future__ import annotations

import base64
import random
from typing import Any

from orca.api.resources import Resource
from orca.api.schema import SCHEMA

WORDS = (
    "", "a", "web", "Web_1", "nginx:latest", "10.0.0.1", "fe80::1", "10.0.0.0/8", "x/y", "x/y/z",
    "kubernetes.io/a", "Always", "Never", "ClusterIP", "None", "TCP", "In", "Exists", "NoExecute", "50%",
    "150%", "-", "/", "../x", "*", "*.example.com", "é", "cpu", "memory", "example.com/gpu",
    "2026-01-02T03:04:05Z",
    "a" * 300,
)  # fmt: skip
NUMBERS = (0, 1, -1, 3, 80, 600, 65536, 2**31 - 1)
AMOUNTS = ("1", "500m", "-1", "1Gi", "0", 2, "1500n")


def _kind(schema: dict[str, Any]) -> str | None:
    kinds = schema.get("type")
    return next((one for one in kinds if one != "null"), None) if isinstance(kinds, list) else kinds


class Arbitrary:
    """One source of objects; equal seeds give equal objects."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def obj(self, resource: Resource) -> dict[str, Any]:
        """An object of *resource* with sound metadata basics."""
        made = self._struct(SCHEMA.definition(resource.definition), 0)
        made.update(apiVersion=resource.api_version, kind=resource.kind)
        meta = made.get("metadata")
        if not isinstance(meta, dict):
            meta = made["metadata"] = {}
        meta["name"] = "x"
        return made

    def value(self, schema: dict[str, Any], depth: int) -> Any:
        """A value that *schema* allows."""
        ref = schema.get("$ref")
        if ref:
            name = ref.rpartition("/")[2]
            if name.endswith("Quantity"):
                return self.random.choice(AMOUNTS)
            if name.endswith("IntOrString"):
                return self.random.choice((*NUMBERS, *WORDS))
            if name.endswith(("Time", "MicroTime")):
                return "2026-01-02T03:04:05Z"
            return self._struct(SCHEMA.definition(name), depth)
        kind = _kind(schema)
        if kind == "string":
            text = self.random.choice(WORDS)
            return base64.b64encode(text.encode()).decode() if schema.get("format") == "byte" else text
        if kind == "integer":
            return self.random.choice(NUMBERS)
        if kind == "number":
            return self.random.choice((0.5, 1))
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "array":
            count = 0 if depth > 9 else self.random.choice((0, 1, 1, 2))
            return [self.value(schema.get("items") or {}, depth + 1) for _ in range(count)]
        if kind == "object":
            return self._struct(schema, depth)
        return self.random.choice(("x", 1, {}))

    def _struct(self, schema: dict[str, Any], depth: int) -> Any:
        if "properties" not in schema:
            extra = schema.get("additionalProperties")
            if isinstance(extra, dict):
                count = 0 if depth > 9 else self.random.choice((0, 1, 2))
                return {self.random.choice(WORDS): self.value(extra, depth + 1) for _ in range(count)}
            if _kind(schema) in ("object", None):
                return {}
            return self.value(schema, depth)
        likely = 0.75 if depth < 3 else 0.5 if depth < 6 else 0.2
        needed = set(schema.get("required") or ())
        return {
            key: self.value(one, depth + 1)
            for key, one in schema["properties"].items()
            if key in needed or (depth < 11 and self.random.random() < likely)
        }
