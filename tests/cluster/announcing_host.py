"""Answers for addresses on an interface until it is ended: `agents.balancer.segment` alone, as a program of its own.

python -m tests.cluster.announcing_host INTERFACE ADDRESS...
"""

from __future__ import annotations

import asyncio
import sys

from agents.balancer import frames
from agents.balancer.segment import Segment


async def run(interface: str, addresses: list[str]) -> None:
    """Announces, and then answers questions."""

    def heard(_: str, said: frames.Question | frames.Claim) -> None:
        if isinstance(said, frames.Question) and said.address in addresses:
            segment.send(frames.answer(said, segment.mac))

    segment = Segment(interface, heard)
    for address in addresses:
        segment.listen_for(address)
        for frame in frames.announcement(address, segment.mac):
            segment.send(frame)
    print("announced", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2:]))
