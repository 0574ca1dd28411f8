"""Manifests are judged in a process of its own that ends when it has answered: the API's schema would cost an agent
that needs it twice a year a quarter of its memory for ever.

    python -m agents.static.judging  < [{"text": …, "kind": …, "origin": …, "node_name": …}, …]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orca.api.objects import Obj

SECONDS = 60.0


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
    # `-P`: nothing is imported from wherever the agent was started.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "agents.static.judging",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    asked = json.dumps([asdict(manifest) for manifest in manifests]).encode()
    try:
        async with asyncio.timeout(SECONDS):
            answer, errors = await process.communicate(asked)
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            return [Judgement(problem=f"not judged within {SECONDS:.0f} s")] * len(manifests)
        raise
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        return [Judgement(problem=f"cannot be judged: {lines[-1] if lines else process.returncode}")] * len(manifests)
    return [Judgement(tuple(one["pods"]), one["problem"]) for one in json.loads(answer)]


def _main() -> None:
    from agents.static.manifests import ManifestError, pods_of

    def one(manifest: dict[str, Any]) -> dict[str, Any]:
        text = manifest.pop("text")
        try:
            return {"pods": pods_of(text, **manifest), "problem": ""}
        except ManifestError as error:
            return {"pods": [], "problem": str(error)}

    print(json.dumps([one(manifest) for manifest in json.load(sys.stdin)]))


if __name__ == "__main__":
    _main()
