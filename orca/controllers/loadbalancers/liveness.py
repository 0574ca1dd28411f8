"""Whether a host is there although its agent is silent: then its kernel still serves, and moving would break more."""

from __future__ import annotations

import asyncio

from orca.api.objects import Obj

AGENT_PORT = 10250
ANSWER_SECONDS = 1.0


async def answers(node: Obj) -> bool:
    """A connection to the agent's port that is taken, or refused, comes from a kernel that runs."""
    status = node.get("status") or {}
    addresses = [one["address"] for one in status.get("addresses") or () if one.get("type") == "InternalIP"]
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or AGENT_PORT
    if not addresses:
        return False
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(addresses[0], port)
    except ConnectionRefusedError:
        return True
    except OSError:  # among them TimeoutError
        return False
    writer.close()
    return True
