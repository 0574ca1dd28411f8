"""Manifests are judged in a process of its own that ends when it has answered: the API's schema would cost an agent
that needs it twice a year a quarter of its memory for ever.

    python -m agents.static.judging  < [{"text": …, "kind": …, "origin": …, "node_name": …}, …]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agents.aside import AsideError, answer, ask
from orca.api.objects import Obj


@dataclass(frozen=True, slots=True)
class Manifest:
    """A file's or a URL's text; ``kind`` is ``file`` or ``http``."""

    text: str
    kind: str
    origin: str
    node_name: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The pods of a manifest, or why it has none."""

    pods: tuple[Obj, ...] = ()
    problem: str = ""


async def judge(manifests: Sequence[Manifest]) -> list[Judgement]:
    """A judgement each, in order. When the judge itself fails or hangs, every manifest is refused."""
    if not manifests:
        return []
    try:
        found = await ask("agents.static.judging", [asdict(manifest) for manifest in manifests])
    except AsideError as error:
        return [Judgement(problem=f"cannot be judged: {error}")] * len(manifests)
    return [Judgement(tuple(one["pods"]), one["problem"]) for one in found]


def _judge(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from agents.static.manifests import ManifestError, pods_of

    def one(manifest: dict[str, Any]) -> dict[str, Any]:
        text = manifest.pop("text")
        try:
            return {"pods": pods_of(text, **manifest), "problem": ""}
        except ManifestError as error:
            return {"pods": [], "problem": str(error)}

    return [one(manifest) for manifest in manifests]


if __name__ == "__main__":
    answer(_judge)
