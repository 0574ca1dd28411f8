"""Counting what became of images."""

from __future__ import annotations

import pytest

from agents.runtime.image_tally import ImageTally, size_class


@pytest.mark.parametrize(
    ("size", "label"),
    [
        (0, "N/A"),
        (1, "0-10MB"),
        (10 << 20, "0-10MB"),
        ((10 << 20) + 1, "10MB-100MB"),
        (2 << 30, "1GB-5GB"),
        ((100 << 30) + 1, "GT100GB"),
    ],
)
def test_sizes_have_upstreams_names(size: int, label: str) -> None:
    assert size_class(size) == label


def test_pulls_and_requests_are_counted() -> None:
    tally = ImageTally()
    tally.pulled(0.5, 1)
    tally.pulled(7, 1)
    tally.asked("IfNotPresent", True, False)
    tally.asked("Never", False, None)
    assert tally.pulls["0-10MB"].seconds == 7.5
    assert tally.pulls["0-10MB"].buckets[:3] == [1, 0, 1]
    assert dict(tally.ensured) == {("ifnotpresent", "true", "false"): 1, ("never", "false", "unknown"): 1}
