"""The standard language evaluated here and by Google's cel-cpp: same values, errors on the same expressions."""

from __future__ import annotations

from math import isnan
from typing import Any

from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api.cel import CelCompileError, CelError, Environment, compile
from orca.api.cel.libraries.conversions import show_double

_OTHER = cel.NewEnv()
_OURS = Environment({})
_FAILED = object()

_NUMBERS = st.sampled_from(["0", "1", "2", "-3", "7", "9223372036854775807", "-9223372036854775808"])
_DOUBLES = st.sampled_from(["0.0", "1.5", "-2.25", "1e10"])
_STRINGS = st.sampled_from(["''", "'a'", "'ab'", "'é'", '"\\n"', "'b'"])


def _binary(operators: list[str], operand: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(operand, st.sampled_from(operators), operand).map(lambda one: f"({one[0]} {one[1]} {one[2]})")


_INTS = st.recursive(_NUMBERS, lambda inner: _binary(["+", "-", "*", "/", "%"], inner), max_leaves=4)
_LISTS = st.lists(_NUMBERS, max_size=4).map(lambda one: f"[{', '.join(one)}]")
_ORDER = ["<", "<=", "==", "!=", ">", ">="]
_BOOLS = st.recursive(
    _binary(_ORDER, _INTS)
    | _binary(_ORDER, _DOUBLES)
    | _binary(_ORDER, _STRINGS)
    | _binary(["==", "!="], _LISTS)
    | st.tuples(_INTS, _LISTS).map(lambda one: f"({one[0]} in {one[1]})")
    | st.tuples(_LISTS, st.sampled_from(["all", "exists", "exists_one"])).map(
        lambda one: f"{one[0]}.{one[1]}(x, 6 / x > 1)"
    )
    | st.tuples(_STRINGS, st.sampled_from(["startsWith", "endsWith", "contains", "matches"]), _STRINGS).map(
        lambda one: f"{one[0]}.{one[1]}({one[2]})"
    ),
    lambda inner: _binary(["&&", "||"], inner) | inner.map(lambda one: f"!{one}"),
    max_leaves=5,
)
_ANY = (
    _BOOLS
    | _INTS
    | _binary(["+", "-", "*", "/"], _DOUBLES)
    | _binary(["+"], _STRINGS)
    | _binary(["+"], _LISTS)
    | st.tuples(_BOOLS, _INTS, _INTS).map(lambda one: f"({one[0]} ? {one[1]} : {one[2]})")
    | st.tuples(_LISTS, _INTS).map(lambda one: f"{one[0]}[{one[1]}]")
    | _LISTS.map(lambda one: f"{one}.map(x, x + 1).filter(x, x > 0)")
    | _STRINGS.map(lambda one: f"size({one})")
    | st.tuples(st.sampled_from(["int", "double", "string", "uint"]), _INTS | _DOUBLES).map(
        lambda one: f"{one[0]}({one[1]})"
    )
)


def _theirs(expression: str) -> Any:
    try:
        program = _OTHER.compile(expression)
    except RuntimeError:
        return None
    found = program.eval(data={})
    try:
        value = found.plain_value()
    except RuntimeError:
        return _FAILED
    return _FAILED if found.type() == cel.Type.ERROR else value


def _ours(expression: str) -> Any:
    try:
        return compile(expression, _OURS).evaluate({})
    except CelCompileError:
        return None
    except CelError:
        return _FAILED


@settings(max_examples=500, deadline=None)
@given(_ANY)
def test_same_values(expression: str) -> None:
    theirs, ours = _theirs(expression), _ours(expression)
    if isinstance(theirs, str) and expression.startswith("string("):
        # cel-cpp and cel-go write doubles differently (1e+10); upstream is cel-go.
        assert float(ours) == float(theirs)
        return
    assert type(ours) is type(theirs) or isinstance(ours, int), (expression, ours, theirs)
    both_nan = isinstance(ours, float) and isinstance(theirs, float) and isnan(ours) and isnan(theirs)
    assert both_nan or ours == theirs, expression


def test_doubles_are_written_as_go_writes_them() -> None:
    shown = {
        value: show_double(value) for value in (1.0, 0.1, -2.5, 1e21, 1e-7, 123456789.0, 100000.0, 0.00012, 1234.5)
    }
    assert shown == {
        1.0: "1",
        0.1: "0.1",
        -2.5: "-2.5",
        1e21: "1e+21",
        1e-7: "1e-07",
        123456789.0: "1.23456789e+08",
        100000.0: "100000",
        0.00012: "0.00012",
        1234.5: "1234.5",
    }
