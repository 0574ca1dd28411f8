"""How long tests wait for what has to come: far longer than it ever takes, as waiting costs nothing once it is there.

A test that names another limit says something with it: what it waits for must come before something else would.
"""

from __future__ import annotations

PATIENCE = 120.0
"""Seconds for one thing to come on a machine that is slow and does other things, too."""
