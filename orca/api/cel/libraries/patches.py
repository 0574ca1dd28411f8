"""``jsonpatch.escapeKey``. Reference: k8s.io/apiserver ``pkg/cel/library/jsonpatch.go``."""

from __future__ import annotations

from orca.api.cel.functions import declare, traverse

declare(
    "jsonpatch.escapeKey",
    "(string) -> string",
    lambda key: key.replace("~", "~0").replace("/", "~1"),
    traverse(),
)
