"""Certificate requests are made in a process of its own that ends when it has answered: the library that can is a tenth
of the agent's memory, and needed when a host joins and some times a year.

    python -m agents.node.requesting  < {"key": PEM or "", "node_name": …, "names": […]}
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agents.aside import answer, ask


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request (PEM), the private key (PEM) it is for, and that key's SubjectPublicKeyInfo (DER)."""

    key: bytes
    request: bytes
    public_key: bytes


async def prepare(key: bytes, node_name: str, names: Sequence[str]) -> Prepared:
    """A request for ``key``, or for a new one when it is empty or of no use. Raises AsideError.

    Keys pass through pipes only, and nothing is kept: who wants the answer to survive writes it down."""
    question = {"key": key.decode("latin-1"), "node_name": node_name, "names": list(names)}
    found = await ask("agents.node.requesting", question)
    return Prepared(found["key"].encode("latin-1"), found["request"].encode(), base64.b64decode(found["public_key"]))


def _prepare(question: dict[str, Any]) -> dict[str, str]:
    from agents.node import keys

    key = question["key"].encode("latin-1")
    if not keys.usable(key):
        key = keys.new_key()
    return {
        "key": key.decode("latin-1"),
        "request": keys.new_request(key, question["node_name"], question["names"]).decode(),
        "public_key": base64.b64encode(keys.public_key(key)).decode(),
    }


if __name__ == "__main__":
    answer(_prepare)
