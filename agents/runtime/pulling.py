"""How far a pull is, from what the engine tells of each layer: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MEGA = 1_000_000
_WAITING, _FETCHING, _FETCHED, _UNPACKING, _DONE = range(5)
_STAGES = {
    "Pulling fs layer": _WAITING,
    "Waiting": _WAITING,
    "Downloading": _FETCHING,
    "Verifying Checksum": _FETCHED,
    "Download complete": _FETCHED,
    "Extracting": _UNPACKING,
    "Pull complete": _DONE,
}
"""The engine's words. ``Already exists`` and ``Retrying in …`` are not progress: nothing is fetched."""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """Where a pull stands. ``fetched`` and ``total`` are bytes; ``total`` is what is known so far, the whole once
    ``exact``. ``queued``: every layer that is not there yet waits for a place among the engine's downloads."""

    fetched: int = 0
    total: int = 0
    exact: bool = False
    percent: int = 0
    unpacking: bool = False
    queued: bool = False

    def text(self) -> str:
        """``42% (12.3/29.0 MB)``; "" while nothing is known."""
        if not self.total:
            return ""
        size = f"{self.fetched / MEGA:.1f}/{self.total / MEGA:.1f} MB"
        if not self.exact:
            size = f"{self.fetched / MEGA:.1f} MB"
        return f"{self.percent}% ({size}{', unpacking' if self.unpacking else ''})"


@dataclass(slots=True)
class _Layer:
    stage: int = _WAITING
    current: int = 0
    total: int = 0


@dataclass(slots=True)
class LayerProgress:
    """Takes the engine's messages one by one."""

    _layers: dict[str, _Layer] = field(default_factory=dict)

    def take(self, message: Mapping[str, Any]) -> bool:
        """True when this message tells of progress (and not only of waiting or trying again)."""
        stage = _STAGES.get(str(message.get("status") or ""))
        identifier = message.get("id")
        if stage is None or not identifier:
            return False
        new = identifier not in self._layers
        layer = self._layers.setdefault(identifier, _Layer())
        detail = message.get("progressDetail") or {}
        before = (layer.stage, layer.current)
        layer.stage = stage
        if stage == _FETCHING:
            layer.current = max(int(detail.get("current") or 0), 0)
            layer.total = max(int(detail.get("total") or 0), layer.total, layer.current)
        elif stage == _UNPACKING:
            # Counts bytes of the same compressed layer again.
            layer.total = max(int(detail.get("total") or 0), layer.total)
            layer.current = int(detail.get("current") or 0)
        return new or before != (layer.stage, layer.current)

    def now(self) -> PullProgress:
        """As of the last message. A layer whose size is not known yet counts as much as the others do on average, so
        that the percentage does not fall when it becomes known."""
        layers = list(self._layers.values())
        known = [layer.total for layer in layers if layer.total]
        if not layers or not known:
            return PullProgress(queued=bool(layers) and all(layer.stage == _WAITING for layer in layers))
        average = sum(known) / len(known)
        share = sum((layer.total or average) * _fraction(layer) for layer in layers)
        weight = sum(layer.total or average for layer in layers)
        left = [layer for layer in layers if layer.stage != _DONE]
        return PullProgress(
            fetched=sum(round(layer.total * _fraction(layer)) for layer in layers),
            total=sum(known),
            exact=len(known) == len(layers),
            percent=int(100 * share / weight),
            unpacking=all(layer.stage >= _FETCHED for layer in layers) and bool(left),
            queued=bool(left) and all(layer.stage == _WAITING for layer in left),
        )


def _fraction(layer: _Layer) -> float:
    """The part of a layer that was fetched."""
    if layer.stage >= _FETCHED:
        return 1.0
    return min(layer.current / layer.total, 1.0) if layer.stage == _FETCHING and layer.total else 0.0
