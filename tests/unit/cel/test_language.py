"""The language: operators, macros, types, errors. Facts from cel-spec and cel-go's conformance tables."""

from __future__ import annotations

from typing import Any

import pytest

from orca.api.cel import BOOL, DYN, INT, CelCompileError, CelError, Environment, compile, list_of
from orca.api.cel.admission import NAMESPACE, REQUEST

_ENVIRONMENT = Environment({"self": DYN, "l": list_of(INT), "request": REQUEST, "namespaceObject": NAMESPACE})
_VALUES = {"self": {"a": 1, "b": {"c": "x"}, "l": [1, 2, 3], "none": None}, "l": [1, 2, 3], "request": {}}


def evaluate(expression: str) -> Any:
    return compile(expression, _ENVIRONMENT).evaluate(_VALUES)


@pytest.mark.parametrize(
    "expression",
    [
        "1 + 2 * 3 == 7",
        "-7 / 2 == -3 && -7 % 2 == -1",
        "7u / 2u == 3u",
        "1 < 1.5 && 2u > 1 && 1.0 <= 1",
        "self.a == 1.0",
        "'a' + 'b' == 'ab' && b'a' + b'b' == b'ab'",
        "[1] + [2] == [1, 2]",
        "'b' > 'a' && b'b' > b'a' && true > false",
        "self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(x, x == 3)",
        "self.l.map(x, x * 2) == [2, 4, 6]",
        "self.l.map(x, x > 1, x * 2) == [4, 6]",
        "self.l.filter(x, x != 2) == [1, 3]",
        "{'a': 1, 'b': 2}.all(k, k in ['a', 'b'])",
        "has(self.b.c) && !has(self.b.d) && !has(self.x)",
        "1 in [1, 2] && 'a' in {'a': 1} && !(4 in self.l)",
        "size('häuser') == 6 && 'ab'.size() == 2 && size(b'ab') == 2 && size({1: 2}) == 1",
        "self.b['c'] == 'x' && self['a'] == 1 && l[1] == 2",
        "type(1) == int && type('') == string && type(1.0) == double && type([]) == list && type(1) != uint",
        "true ? self.a == 1 : self.missing == 1",
        "dyn(1) == 1",
        # two variables
        "self.l.all(i, v, v == i + 1)",
        "self.l.exists(i, v, i == 1 && v == 2)",
        "self.l.existsOne(i, v, v == 2)",
        "{'a': 1}.all(k, v, k == 'a' && v == 1)",
        "self.l.transformList(i, v, i * v) == [0, 2, 6]",
        "self.l.transformList(i, v, i > 0, v) == [2, 3]",
        "self.l.transformMap(i, v, v * 10) == {0: 10, 1: 20, 2: 30}",
        "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v) == {'b': 2}",
        "{'a': 'x'}.transformMapEntry(k, v, {v: k}) == {'x': 'a'}",
        # optional values
        "self.?b.?c.orValue('') == 'x' && self.?x.?y.orValue(7) == 7",
        "self.?x == optional.none() && self.?a == optional.of(1)",
        "self.l[?1].value() == 2 && !self.l[?9].hasValue()",
        "[?self.?a, ?self.?x] == [1] && {?'a': self.?x} == {}",
        "self.?a.optMap(v, v + 1).value() == 2 && self.?a.optFlatMap(v, optional.of(v)).hasValue()",
        "optional.ofNonZeroValue('') == optional.none() && self.?x.or(self.?a).value() == 1",
        # an error on one side does not matter when the other decides
        "1 / 0 == 1 || true",
        "!(1 / 0 == 1 && false)",
        "[0, 1].exists(x, 1 / x == 1)",
        "![0, 1].all(x, 1 / x == 2)",
        # time
        "duration('90m') == duration('1h30m') && duration('-1.5s').getMilliseconds() == -1500",
        "timestamp('2024-02-29T23:59:59.5Z').getDate() == 29",
        "timestamp('2024-02-29T23:30:00Z').getHours('+02:00') == 1",
        "timestamp('2024-01-01T00:00:00Z').getDayOfWeek() == 1 && timestamp(0).getFullYear() == 1970",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "string(timestamp('2024-01-01T01:00:00+01:00')) == '2024-01-01T00:00:00Z' && string(duration('1h')) == '3600s'",
        # conversions
        "int('12') == 12 && int(2.9) == 2 && int(-2.9) == -2 && uint(3) == 3u && double('1e3') == 1000.0",
        "string(1.5) == '1.5' && string(true) == 'true' && string(b'a') == 'a' && bytes('a') == b'a' && bool('true')",
        "'%d %s'.format([1, 2]) == '1 2'",
    ],
)
def test_holds(expression: str) -> None:
    assert evaluate(expression) is True


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("self.x", "no such key: x"),
        ("self.b['d']", "no such key: d"),
        ("l[3]", "index out of bounds: 3"),
        ("l[-1]", "index out of bounds: -1"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("-(-9223372036854775807 - 1)", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("self.a + 'x'", "no such overload"),
        ("self.a && true", "no such overload"),
        ("!self.a", "no such overload"),
        ("self.a.b", "no such overload"),
        ("self.a.startsWith('x')", "no such overload"),
        ("true && self.x == 1", "no such key: x"),
        ("[0].all(x, 1 / x == 1)", "division by zero"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("int('x')", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("{'a': 1, 'a': 2}", "Failed with repeated key: a"),
    ],
)
def test_has_no_result(expression: str, text: str) -> None:
    with pytest.raises(CelError) as caught:
        evaluate(expression)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^"),
        ("1 +", "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting"),
        ("1 + 'a'", "found no matching overload for '_+_' applied to '(int, string)'"),
        ("1 == 1.0", "found no matching overload for '_==_' applied to '(int, double)'"),
        ("'a'.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("l.all(x, x)", "found no matching overload for '_&&_' applied to '(bool, int)'"),
        ("l.foo()", "undeclared reference to 'foo' (in container '')"),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("request.nam", "ERROR: <input>:1:8: undefined field 'nam'\n | request.nam\n | .......^"),
        ("has(request.nam)", "undefined field 'nam'"),
        ("request.userInfo.groups == 'x'", "found no matching overload for '_==_' applied to '(list(string), string)'"),
        ("namespaceObject.metadata.labels.x + 1", "applied to '(string, int)'"),
        ("'a'.b", "type 'string' does not support field selection"),
        ("1.all(x, true)", "cannot be range of a comprehension"),
        ("Object{}", "undeclared reference to 'Object' (in container '')"),
        ("duration('1x') == duration('1s')", "invalid duration argument"),
        ("timestamp('now') == timestamp(0)", "invalid timestamp argument"),
        ("'a'.matches('(')", "invalid matches argument"),
        ("l.all(x, x, true)", "duplicate variable name: x"),
        ("self.l.exists(a.b, true)", "must be a simple identifier"),
        ("namespace == 1", "reserved identifier: namespace"),
    ],
)
def test_does_not_compile(expression: str, text: str) -> None:
    with pytest.raises(CelCompileError) as caught:
        compile(expression, _ENVIRONMENT)
    assert text in str(caught.value)


def test_all_mistakes_are_told() -> None:
    with pytest.raises(CelCompileError) as caught:
        compile("foo == bar", _ENVIRONMENT)
    assert str(caught.value).count("ERROR:") == 2


def test_result_type() -> None:
    with pytest.raises(CelCompileError, match="must evaluate to bool"):
        compile("1", _ENVIRONMENT, expects=BOOL)
    with pytest.raises(CelCompileError, match="must evaluate to bool"):
        compile("self.a", _ENVIRONMENT, expects=BOOL)  # may turn out to be one, but nothing says so
    compile("self.a == 1", _ENVIRONMENT, expects=BOOL)


def test_values_go_in_as_they_are_and_stay_so() -> None:
    values = {"self": {"l": [1, 2]}, "l": [3]}
    assert compile("self.l.map(x, x + 1) + l", _ENVIRONMENT).evaluate(values) == [2, 3, 3]
    assert values == {"self": {"l": [1, 2]}, "l": [3]}


def test_nested_macros_have_their_own_scope() -> None:
    assert evaluate("[1, 2].map(x, [10, 20].map(y, x + y)) == [[11, 21], [12, 22]]") is True
    assert evaluate("[1, 2].all(x, [3].all(x, x == 3) && x < 3)") is True
