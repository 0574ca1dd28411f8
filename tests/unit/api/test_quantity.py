"""Quantities: exact, canonical, rounded up."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.quantity import Quantity, canonical, parse_cpu_milli, parse_int


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0", "0"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1.5", "1500m"),
        ("1024", "1024"),
        ("1Gi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1024Ki", "1Mi"),
        ("0.5Gi", "512Mi"),
        ("100000k", "100M"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("-5", "-5"),
        ("+3", "3"),
        (".5", "500m"),
        ("1.", "1"),
        (2, "2"),
    ],
)
def test_canonical_forms(text, written):
    assert canonical(text) == written


@pytest.mark.parametrize("text", ["", "a", "1z", "1 Gi", "Gi", "1.2.3", "--1", "1mm", "1e", "1\n", "0x1"])
def test_refused(text):
    with pytest.raises(ValueError, match="quantities must match"):
        Quantity.parse(text)


@pytest.mark.parametrize(("text", "milli"), [("1", 1000), ("100m", 100), ("1u", 1), ("2.0005", 2001)])
def test_cores(text, milli):
    assert parse_cpu_milli(text) == milli


@pytest.mark.parametrize(("text", "number"), [("1Ki", 1024), ("1k", 1000), ("1500m", 2), ("0.1Gi", 107374183)])
def test_bytes(text, number):
    assert parse_int(text) == number


def test_arithmetic_keeps_the_form():
    assert str(Quantity.parse("1Gi") + Quantity.parse("512Mi")) == "1536Mi"
    assert str(Quantity.parse("1") - Quantity.parse("250m")) == "750m"
    assert Quantity.parse("1Gi") > Quantity.parse("1G")


@given(st.integers(-(10**15), 10**15), st.sampled_from(["", "n", "u", "m", "k", "M", "Ki", "Mi", "Gi"]))
def test_what_is_written_means_the_same(number, suffix):
    quantity = Quantity.parse(f"{number}{suffix}")
    assert Quantity.parse(str(quantity)).value == quantity.value
    assert canonical(str(quantity)) == str(quantity)


@given(st.decimals(Decimal("-1e9"), Decimal("1e9"), places=9))
def test_nanos_are_exact(value):
    assert Quantity.parse(str(Quantity(value))).value == value
