"""etcd and the watch cache: the only room that talks to etcd.

Knows resources and bytes; never users, admission, HTTP or what a kind means.
"""

import os

# gRPC's event engine hands every message on from thread to thread before ours hears of it. Without it the thread that
# waits for completions reads the socket itself: a write to etcd takes a fifth less CPU. gRPC reads this when it is
# first imported, which only this package does.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")

from orca.store.cache import Predicate
from orca.store.entries import Change, Entry, Event, Page
from orca.store.fence import Fence, behind
from orca.store.store import Store
from orca.store.together import Also, Raced
from orca.store.watch import Watch

__all__ = ["Also", "Change", "Entry", "Event", "Fence", "Page", "Predicate", "Raced", "Store", "Watch", "behind"]
