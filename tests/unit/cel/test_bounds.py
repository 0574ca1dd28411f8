"""Nothing runs for long: costs stop loops, RE2 stops expressions that others hang on, nesting is bounded."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api.cel import (
    DYN,
    PER_CALL_LIMIT,
    Budget,
    CelCompileError,
    CelCostError,
    CelError,
    Environment,
    Program,
    compile,
)

_ENVIRONMENT = Environment({"l": DYN, "s": DYN})
_BIG = {"l": list(range(500)), "s": "a" * 5000}
_SECONDS = 60.0  # of CPU; what is measured takes a hundredth of it


@pytest.mark.parametrize(
    "expression",
    [
        "l.all(a, l.all(b, l.all(c, a + b + c >= 0)))",
        "l.map(a, l.map(b, l.map(c, [a, b, c]))).size() > 0",
        "l.all(a, s.matches('(a|aa)*(a|b)+$') && !s.contains('aaaaaaaaaaaaaaaaaab'))",
        "l.all(a, l.all(b, s.replace('a', 'bb').size() > 0))",
        "l.all(a, (l + l + l + l).all(b, a in l))",
        "l.transformMap(i, v, l.transformMap(j, w, l)).size() > 0",
        "l.all(a, l.all(b, l.map(c, s + s) != []))",
        "l.map(a, l).flatten().sort().size() > 0",
    ],
)
def test_dear_expressions_are_stopped(expression: str) -> None:
    started = time.process_time()
    budget = Budget(10 * PER_CALL_LIMIT)
    with pytest.raises(CelCostError, match="operation cancelled: actual cost limit exceeded"):
        compile(expression, _ENVIRONMENT).evaluate(_BIG, budget=budget)
    assert time.process_time() - started < _SECONDS
    assert budget.remaining < 9 * PER_CALL_LIMIT


@pytest.mark.parametrize(
    "expression",
    [
        "s.replace('a', s).size()",
        "s.replace('', s).size()",
        "l.map(a, s).join('').size()",
        "l.map(a, '').join(s).size()",
        "l.map(a, '%s').join('').format(l.map(a, s)).size()",
        "(l + l + l).distinct().size()",
        "sets.intersects(l + l + l, l.map(a, a + 1000))",
        "sets.contains(l.map(a, a + 1000), l + l + l)",
    ],
)
def test_nothing_huge_is_made_before_it_is_counted(expression: str) -> None:
    """A result may be the square of what is there, and so fill all memory before its cost is known."""
    values = {"l": list(range(1000)), "s": "a" * 100_000}
    program = compile(expression, _ENVIRONMENT)
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(CelCostError):
            program.evaluate(values)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < _SECONDS


def _outcome(program: Program, values: dict[str, object]) -> object:
    """The value, or the text of what went wrong; anything else than a CelError fails the test."""
    try:
        return program.evaluate(values)
    except CelError as error:
        return str(error)


def test_a_cost_error_is_not_absorbed() -> None:
    with pytest.raises(CelCostError):
        compile("l.all(a, true) || true", _ENVIRONMENT).evaluate(_BIG, limit=10)


def test_nothing_backtracks() -> None:
    started = time.process_time()
    text = "a" * 60 + "!"  # an age of the universe for who tries all ways
    assert compile("s.matches('^(a+)+$')", _ENVIRONMENT).evaluate({"s": text}) is False
    assert compile("s.find('^(a|aa)+$')", _ENVIRONMENT).evaluate({"s": text}) == ""
    assert time.process_time() - started < _SECONDS


def test_deep_nesting_is_refused() -> None:
    for expression in (
        "(" * 5000 + "1" + ")" * 5000,
        "!" * 4000 + "true",
        "[" * 900 + "]" * 900,
        " + ".join(["1"] * 9000),
    ):
        try:
            program = compile(expression, _ENVIRONMENT)
        except CelCompileError:
            continue
        assert _outcome(program, {}) in (True, 9000, "the expression or its data is nested too deeply")


def test_very_long_expressions_are_refused() -> None:
    with pytest.raises(CelCompileError):
        compile("'" + "a" * 200_000 + "'", _ENVIRONMENT)


_TEXT = st.text(alphabet="ls01 .,()[]{}'\"+-*/%<>=!&|?:in xtruefalsn\n\\é", max_size=40)


@settings(max_examples=400, deadline=None)
@given(_TEXT)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        program = compile(text, _ENVIRONMENT)
    except CelCompileError as error:
        refused = str(error)
    else:
        _outcome(program, {"l": [1, 2], "s": "x"})
        refused = "ERROR: "
    assert refused.startswith("ERROR: ")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
_ANYTHING = [
    "l + s", "l - s", "l * s", "l / s", "l % s", "l < s", "l == s", "l in s", "l[s]", "l.a", "has(l.a)", "-l", "!l",
    "l && s", "l ? s : s", "l.?a", "l[?s]", "size(l)", "l.contains(s)", "l.all(x, x == s)", "l.map(x, x + s)",
    "l.transformList(i, v, v)", "int(l)", "string(l)", "double(l)", "timestamp(l)", "duration(l)", "l.matches(s)",
    "l.split(s)", "l.join(s)", "l.sum()", "l.max()", "l.isSorted()", "l.sort()", "l.indexOf(s)", "l.substring(s)",
    "l.format(s)", "quantity(l)", "url(l)", "ip(l)", "cidr(l)", "semver(l)", "l.flatten()", "l.distinct()",
    "sets.contains(l, s)", "l.orValue(s)", "l.getFullYear()", "l.find(s)", "l.replace(s, s)", "type(l) == type(s)",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_VALUES, _VALUES)
def test_values_of_any_type_give_a_result_or_an_error(one: object, other: object) -> None:
    for expression in _ANYTHING:
        _outcome(compile(expression, _ENVIRONMENT), {"l": one, "s": other})
