"""Durations in Go's form."""

from __future__ import annotations

import pytest

from orca.api.durations import format_duration, parse_duration, parse_nanoseconds


@pytest.mark.parametrize(
    ("text", "seconds", "canonical"),
    [
        ("0s", 0, "0s"),
        ("0", 0, "0s"),
        ("1h", 3600, "1h0m0s"),
        ("1.5h", 5400, "1h30m0s"),
        ("60s", 60, "1m0s"),
        ("1.5s", 1.5, "1.5s"),
        (".5s", 0.5, "500ms"),
        ("100ms", 0.1, "100ms"),
        ("2m3s", 123, "2m3s"),
        ("-5s", -5, "-5s"),
        ("+5s", 5, "5s"),
        ("10us", 0.00001, "10µs"),
        ("10\u00b5s", 0.00001, "10µs"),
        ("10\u03bcs", 0.00001, "10µs"),
        ("7ns", 7e-9, "7ns"),
    ],
)
def test_durations_are_read_and_printed_as_go_does(text: str, seconds: float, canonical: str) -> None:
    assert parse_duration(text) == seconds
    assert format_duration(seconds) == canonical


@pytest.mark.parametrize(
    "text", ["", "5", "10", "s", "-", ".s", "1m 2s", "1y", "--1s", "\u0661s", "2562048h", "9" * 400 + "h"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


def test_nanoseconds_are_exact() -> None:
    assert parse_nanoseconds("2562047h47m16.854775807s") == 2**63 - 1
    assert parse_nanoseconds("-1.9ns") == -1
