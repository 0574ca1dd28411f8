"""etcd and the watch cache: the only room that talks to etcd.

Knows resources and bytes; never users, admission, HTTP or what a kind means.
"""

from orca.store.cache import Predicate
from orca.store.entries import Change, Entry, Event, Page
from orca.store.store import Store
from orca.store.together import Also, Raced
from orca.store.watch import Watch

__all__ = ["Also", "Change", "Entry", "Event", "Page", "Predicate", "Raced", "Store", "Watch"]
