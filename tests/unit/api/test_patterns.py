"""Patterns mean what they mean in Go: some of what definitions in the wild use is read otherwise elsewhere."""

from __future__ import annotations

import pytest

from orca.api import patterns
from orca.api.customresources import gate, values


@pytest.mark.parametrize(
    ("pattern", "fits", "not_"),
    [
        (r"^[[:alpha:]_][[:alnum:]_]*$", "a1", "1a"),
        (r"^[\w-.]+$", "a-b.c", "a/b"),
        (r"^\Qa.b\E$", "a.b", "aab"),
        (r"^a{,3}$", "a{,3}", "aa"),
        (r"^{$", "{", "}"),
        (r"^\s$", " ", "\u00a0"),
        (r"^\d$", "3", "\u0663"),
        (r"^(?i)true$", "TRUE", "yes"),
        (r"^\p{Greek}+$", "\u03a9", "O"),
        (r"b", "abc", "xyz"),
        (r"^.$", "\u00e9", "\n"),
        (r"^a$", "a", "a\n"),
        (r"^(\d+h)?(\d+m)?$", "", "5"),
    ],
)
def test_patterns_match_as_in_go(pattern: str, fits: str, not_: str) -> None:
    assert patterns.matcher(pattern)(fits)
    assert not patterns.matcher(pattern)(not_)
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}}
    assert gate.values(schema).is_valid({"x": fits})
    assert not values.check({"x": fits}, schema)
    assert not gate.values(schema).is_valid({"x": not_})
    assert [str(error.detail) for error in values.check({"x": not_}, schema)] == [f"x in body should match '{pattern}'"]


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(", "missing closing ): `(`"),
        ("[a-z", "missing closing ]: `[a-z`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("*", "missing argument to repetition operator: `*`"),
        (r"^(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
    ],
)
def test_what_go_does_not_read_is_refused_in_its_words(pattern: str, told: str) -> None:
    with pytest.raises(patterns.BadPattern) as caught:
        patterns.matcher(pattern)
    assert str(caught.value) == f"error parsing regexp: {told}"


def test_a_stored_pattern_that_cannot_be_read_fits_nothing() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(?!a)"}}}
    assert gate.values(schema) is None
    (error,) = values.check({"x": "b"}, schema)
    assert "but pattern is invalid: error parsing regexp: " in str(error)
