"""Bytes that many objects have in common, kept once.

What managers own (``fieldsV1``) is close to half of an object's encoding, and the same for all that one manager makes.
Of the rest, pods of one template have their specs in common, but for the node and the random name of the volume with
their token. An encoding is cut there and the parts are joined when it is asked for. Where it is cut decides only how
much is shared: joined, the parts are always the same bytes.
"""

from __future__ import annotations

_FIELDS = b'"fieldsV1":{'
_SPEC = b',"spec":{'
_STATUS = b',"status":{'
_NODE = b',"nodeName":"'
_TOKEN_VOLUME = b"kube-api-access-"
_RANDOM = 5
"""Bytes of that volume's name which are random."""
_SHARED_FROM = 256
"""Bytes; a shorter part is not worth an object of its own."""
_PARTS = 512
"""Parts remembered in each of two generations; there are about as many as managers times kinds."""
_SPECS = 256
"""The same of specs, which are remembered apart: those that are like no other would push the parts of managers out."""
_LONGEST = 16 * 1024
"""Bytes of a part. Longer ones are few, and would be kept here after their objects are gone."""


class _Seen:
    """Parts seen lately, in two generations: the older one goes when the younger is full."""

    __slots__ = ("_limit", "_old", "_young")

    def __init__(self, limit: int) -> None:
        self._limit = limit
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


class Shelf:
    """Divides encodings, and remembers the parts that others may have, too."""

    def __init__(self, parts: int = _PARTS, specs: int = _SPECS) -> None:
        self._owned = _Seen(parts)
        self._specs = _Seen(specs)
        self._last = _SPEC
        """How the last spec began: the next is often of the same template, which a look tells."""

    def divide(self, raw: bytes) -> tuple[bytes, ...]:
        """The parts of an encoding, at least one."""
        parts: list[bytes] = []
        done = 0
        at, last = raw.find(_FIELDS), -1
        while at >= 0:
            # The end of the list of managers, or of this one's entry in it. Thousands of entries may stand in one list.
            if last < at:
                last = raw.find(b"}]", at)
            if last < 0:
                break
            near = min(last, at + _LONGEST)
            following = raw.find(b"},{", at, near)
            end = (following if following >= 0 else near) + 1
            if _SHARED_FROM <= end - at <= _LONGEST:
                parts += (raw[done:at], self._owned.share(raw[at:end]))
                done = end
            at = raw.find(_FIELDS, end)
        at = raw.find(_SPEC, done)
        if at >= 0:
            done = self._divide_spec(raw, at, done, parts)
        return (*parts, raw[done:]) if parts else (raw,)

    def _divide_spec(self, raw: bytes, at: int, done: int, parts: list[bytes]) -> int:
        """Adds the parts up to where a spec differs for good, of the spec that begins at ``at``; ``done`` bytes are in
        ``parts`` already. How many are then."""
        last = self._last
        if len(last) > len(_SPEC) and raw.startswith(last, at):
            parts += (raw[done:at], last)
            done = at + len(last)
            if not last.endswith(_TOKEN_VOLUME):
                return done
            at = done + _RANDOM
        end = raw.find(_STATUS, at)
        if end < 0:
            end = len(raw) - 1
        node = raw.find(_NODE, at, end)
        if node >= 0:
            end = node
        while at < end:
            volume = raw.find(_TOKEN_VOLUME, at, end)
            stop = end if volume < 0 else volume + len(_TOKEN_VOLUME)
            if _SHARED_FROM <= stop - at <= _LONGEST:
                shared = self._specs.share(raw[at:stop])
                if shared.startswith(_SPEC):
                    self._last = shared
                parts += (raw[done:at], shared)
                done = stop
            at = stop + _RANDOM
        return done


SHELF = Shelf()
"""The process's one: caches of several stores share, too."""
