"""Pods of one template: what was found right in one spec is right in the next that is equal to it.

Controllers create the same spec over and over. Of its parts only the volume with the token of the pod's service account
has a name of its own in each, made of random characters; specs that differ in nothing else count as equal here, too.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

import orjson

from orca.api.objects import Obj

_SPECS = 128
_LONGEST = 8 * 1024
"""Bytes of an encoding that is remembered; longer specs are few."""
_TOKEN_VOLUME = re.compile(r"kube-api-access-[a-z0-9]{5}")
_ANY_NAME = b"\0"
"""Stands for the random name. No encoding holds this byte, so specs that become equal differ in that name alone."""


def encoding(spec: Obj) -> bytes | None:
    """What equal specs have in common; None for one that is too long, or cannot be encoded."""
    try:
        encoded = orjson.dumps(spec)
    except orjson.JSONEncodeError:
        return None
    if len(encoded) > _LONGEST:
        return None
    volumes = spec.get("volumes")
    if volumes:
        name = volumes[-1].get("name") or ""
        if _TOKEN_VOLUME.fullmatch(name):
            return encoded.replace(name.encode(), _ANY_NAME)
    return encoded


class Faultless:
    """Specs in which nothing was found lately. What is looked for must depend on the spec alone, and on what the
    caller puts into the key beside its ``encoding``."""

    def __init__(self, specs: int = _SPECS) -> None:
        self._limit = specs
        self._known: set[Hashable] = set()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._known

    def add(self, key: Hashable) -> None:
        """Remember one; now and then all others are forgotten."""
        if len(self._known) >= self._limit:
            self._known.clear()
        self._known.add(key)
