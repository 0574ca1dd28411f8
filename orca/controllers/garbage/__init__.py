"""The garbage collector: what is owned goes when its owners go.

`graph` is the index of owners and dependents over every resource and the decisions made on it, `collector` feeds it
from the watches and acts. One index over metadata answers every question; nothing is scanned.
"""

from orca.controllers.garbage.collector import GarbageCollector

__all__ = ["GarbageCollector"]
