"""Answers for addresses on an interface until it is ended: `agents.balancer.segment` alone, as a program of its own.

python -m tests.cluster.announcing_host INTERFACE ADDRESS...
"""

from __future__ import annotations

import asyncio
import sys
import time

from agents.balancer import frames
from agents.balancer.model import TOLD_AT
from agents.balancer.segment import Segment


async def run(interface: str, addresses: list[str]) -> None:
    """Announces, and then answers questions."""

    def heard(_: str, said: frames.Question | frames.Claim) -> None:
        if isinstance(said, frames.Question) and said.address in addresses:
            segment.send(frames.answer(said, segment.mac))

    segment = Segment(interface, heard)
    for address in addresses:
        segment.listen_for(address)
    # As the announcer does: kernels let no new claim change what they have learnt a moment ago.
    began = time.monotonic()
    for at in TOLD_AT:
        await asyncio.sleep(max(began + at - time.monotonic(), 0))
        for address in addresses:
            for frame in frames.announcement(address, segment.mac):
                segment.send(frame)
        if at == TOLD_AT[0]:
            print("announced", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2:]))
