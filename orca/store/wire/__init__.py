"""gRPC over one plain HTTP/2 connection, in the event loop.

Why not gRPC's own channel: its asyncio API hands every message to a thread and back, which costs four times what all of
this does, and was a third of the processor time of a write. This is the client's half of RFC 9113, behind the interface
of ``grpc.aio.Channel``, so that generated stubs work on it. Headers are coded by the hpack library, without a dynamic
table: equal header blocks then mean equal headers, and are decoded once. Knows nothing of etcd.
"""

from orca.store.wire.channel import Channel
from orca.store.wire.errors import NEVER_SENT, Code, RpcError

__all__ = ["NEVER_SENT", "Channel", "Code", "RpcError"]
