"""Bytes that many objects have in common, kept once.

What managers own (``fieldsV1``) is close to half of an object's encoding, and the same for all that one manager makes.
An encoding is cut there and the parts are joined when it is asked for. Where it is cut decides only how much is shared:
joined, the parts are always the same bytes.
"""

from __future__ import annotations

_FIELDS = b'"fieldsV1":{'
_SHARED_FROM = 256
"""Bytes; a shorter part is not worth an object of its own."""
_PARTS = 512
"""Parts remembered in each of two generations; there are about as many as managers times kinds."""
_LONGEST = 16 * 1024
"""Bytes of a part. Longer ones are few, and would be kept here after their objects are gone."""


class Shelf:
    """Parts seen lately."""

    def __init__(self, parts: int = _PARTS) -> None:
        self._limit = parts
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def share(self, part: bytes) -> bytes:
        """An equal part that exists already, or this one."""
        found = self._young.get(part)
        if found is None:
            found = self._old.get(part, part)
            if len(self._young) >= self._limit:
                self._old, self._young = self._young, {}
            self._young[found] = found
        return found

    def divide(self, raw: bytes) -> tuple[bytes, ...]:
        """The parts of an encoding, at least one."""
        at = raw.find(_FIELDS)
        if at < 0:
            return (raw,)
        parts: list[bytes] = []
        done = 0
        while at >= 0:
            # The end of the list of managers, or of this one's entry in it.
            last = raw.find(b"}]", at)
            if last < 0:
                break
            following = raw.find(b"},{", at, last)
            end = (following if following >= 0 else last) + 1
            if _SHARED_FROM <= end - at <= _LONGEST:
                parts += (raw[done:at], self.share(raw[at:end]))
                done = end
            at = raw.find(_FIELDS, end)
        return (*parts, raw[done:]) if parts else (raw,)


SHELF = Shelf()
"""The process's one: caches of several stores share, too."""
