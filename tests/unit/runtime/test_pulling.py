"""How far a pull is, by what the engine tells."""

from __future__ import annotations

from typing import Any

from agents.runtime.errors import RegistryUnavailable
from agents.runtime.images import _failure
from agents.runtime.pulling import LayerProgress


def feed(progress: LayerProgress, *messages: tuple[str, str, int, int]) -> list[bool]:
    return [progress.take(told(*message)) for message in messages]


def told(layer: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    return {"id": layer, "status": status, "progressDetail": {"current": current, "total": total} if total else {}}


def test_percent_counts_bytes_and_unknown_layers_as_the_average() -> None:
    progress = LayerProgress()
    assert progress.take({"status": "Pulling from library/app", "id": "latest"}) is False
    feed(progress, ("a", "Pulling fs layer", 0, 0), ("b", "Pulling fs layer", 0, 0))
    assert progress.now().text() == ""
    assert progress.now().queued
    feed(progress, ("a", "Downloading", 5_000_000, 10_000_000))
    assert (progress.now().percent, progress.now().text()) == (25, "25% (5.0 MB)")
    feed(progress, ("b", "Downloading", 10_000_000, 30_000_000))
    assert progress.now().text() == "37% (15.0/40.0 MB)"
    feed(progress, ("a", "Download complete", 0, 0), ("b", "Verifying Checksum", 0, 0))
    assert progress.now().text() == "100% (40.0/40.0 MB, unpacking)"
    feed(progress, ("a", "Extracting", 100, 10_000_000), ("a", "Pull complete", 0, 0), ("b", "Pull complete", 0, 0))
    assert progress.now().text() == "100% (40.0/40.0 MB)"


def test_only_what_moves_is_progress() -> None:
    progress = LayerProgress()
    assert feed(
        progress,
        ("a", "Pulling fs layer", 0, 0),
        ("a", "Waiting", 0, 0),
        ("a", "Downloading", 1, 9),
        ("a", "Downloading", 1, 9),
        ("a", "Retrying in 3 seconds", 0, 0),
        ("b", "Already exists", 0, 0),
        ("a", "Downloading", 2, 9),
        ("a", "Extracting", 2, 9),
        ("a", "Extracting", 3, 9),
    ) == [True, False, True, False, False, False, True, True, True]


def test_a_registry_that_is_down_is_told_from_one_that_says_no() -> None:
    for text in ("received unexpected HTTP status: 503 Service Unavailable", "error parsing: <h1>502 Bad Gateway</h1>"):
        assert isinstance(_failure(text), RegistryUnavailable), text
    for text in ("manifest unknown", "received unexpected HTTP status: 500 Internal Server Error", "port 5030"):
        assert not isinstance(_failure(text), RegistryUnavailable), text
