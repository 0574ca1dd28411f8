"""Patches: JSON patch, merge patch, strategic merge patch.

Each takes a frozen object and gives a new one that shares nothing with it; nothing here knows about storage or
validation. What is refused raises ApiError 400 (malformed) or 422 (does not apply).
"""

from orca.api.patching.json_patch import json_patch
from orca.api.patching.merge import merge_patch
from orca.api.patching.strategic import strategic_merge

__all__ = ["json_patch", "merge_patch", "strategic_merge"]
