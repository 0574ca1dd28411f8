"""The server's flags about the parts of the pod range that nodes get, and which of them exclude each other."""

from __future__ import annotations

import click
import pytest

from orca.cli.server import _mask_sizes

BOTH = "10.244.0.0/16,fd00:10:244::/56"


@pytest.mark.parametrize(
    ("cluster", "flags", "sizes"),
    [
        ("10.244.0.0/16", (None, None, None), (24, 64)),
        ("10.244.0.0/16", (26, None, None), (26, 26)),
        ("fd00::/56", (60, None, None), (60, 60)),
        (BOTH, (None, None, None), (24, 64)),
        (BOTH, (None, 25, 62), (25, 62)),
    ],
)
def test_sizes(cluster: str, flags: tuple[int | None, int | None, int | None], sizes: tuple[int, int]) -> None:
    assert _mask_sizes(cluster, *flags) == sizes


@pytest.mark.parametrize(
    ("cluster", "flags", "why"),
    [
        (BOTH, (24, None, None), "not for dual-stack clusters"),
        ("10.244.0.0/16", (24, 24, None), "exclude each other"),
        ("10.244.0.0/16", (12, None, None), "cannot have a /12"),
        ("10.244.0.0/16", (31, None, None), "cannot have a /31"),
        ("fd00::/40", (None, None, 64), "/40 to /56 fit"),
    ],
)
def test_sizes_that_cannot_be(cluster: str, flags: tuple[int | None, int | None, int | None], why: str) -> None:
    with pytest.raises(click.UsageError, match=why):
        _mask_sizes(cluster, *flags)
