"""What evaluations cost. Figures from k8s.io/apiextensions-apiserver ``schema/cel/celcoststability_test.go``: a change
of them would change which rules of other people's definitions pass."""

from __future__ import annotations

from typing import Any

import pytest

from orca.api.cel import Budget, Environment, compile
from orca.api.cel.schemas import declare_schema

_STRING, _INTEGER, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
_TEXT = "Rook takes 👑"
_LIST_MAP = [{"k": "a1", "v": "b1"}, {"k": "a2", "v": "b2"}, {"k": "a3", "v": "b3", "v2": "z"}]


def objects(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


def listed(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


_KEYED = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
_ENTRY = objects(k=_STRING, v=_STRING, v2=_STRING)
_SCHEMA = objects(
    i=_INTEGER,
    f=_NUMBER,
    s=_STRING,
    s2=_STRING,
    b={"type": "string", "format": "byte"},
    d={"type": "string", "format": "duration"},
    t={"type": "string", "format": "date-time"},
    time=_STRING,
    l=listed(_INTEGER),
    l2=listed(_INTEGER),
    set=listed(_STRING, **{"x-kubernetes-list-type": "set"}),
    m={"type": "object", "additionalProperties": _STRING},
    m2={"type": "object", "additionalProperties": _STRING},
    n={"type": "object", "additionalProperties": _INTEGER},
    objs=listed(listed(_ENTRY, **_KEYED)),
    lm=listed(_ENTRY, **_KEYED),
    a=objects(b=_INTEGER, c=_INTEGER, e=objects(f=_INTEGER)),
)
_VALUE = {
    "i": 5,
    "f": 10.0,
    "s": _TEXT,
    "s2": _TEXT,
    "b": "QUI=",
    "d": "1h2m3s4ms",
    "t": "2011-08-18T19:03:37.01+01:00",
    "time": "2011-08-18T19:03:37.01+01:00",
    "l": [1, 2, 3],
    "l2": [1, 2, 3],
    "set": ["a", "b", "c"],
    "m": {"k1": "a", "k2": "b"},
    "m2": {"k2": "b", "k1": "a"},
    "n": {"b": 1, "d": 2},
    "objs": [
        [{"k": "a", "v": "1"}, {"k": "b", "v": "2"}],
        [{"k": "b", "v": "2"}, {"k": "a", "v": "1"}],
        [{"k": "b", "v": "3"}, {"k": "a", "v": "1"}],
        [{"k": "c", "v": "4"}],
    ],
    "lm": _LIST_MAP,
    "a": {"b": 1},
}


@pytest.mark.parametrize(
    ("expression", "cost"),
    [
        ("type(self.i) == int", 4),
        ("self.i + 1 == 5 + 1", 5),
        ("double(self.i) < self.f", 6),
        ("double(5) < 10.0", 1),
        ("double(self.i) < 10.0", 4),
        ("self.s.startsWith('Rook')", 4),
        ("!self.s.startsWith('knight')", 5),
        ("self.s.matches('^[^0-9]*$')", 8),
        ("!self.s.matches('^[0-9]*$')", 7),
        ("size(self.s) == 12", 4),
        ("self.s.charAt(3) == 'k'", 4),
        ("self.s.indexOf('o') == 1", 4),
        ("self.s.indexOf('o', 2) == 2", 4),
        ("self.s.replace(' ', 'x') == 'Rookxtakesx👑'", 7),
        ("self.s.split(' ') == ['Rook', 'takes', '👑']", 6),
        ("self.s.substring(5) == 'takes 👑'", 5),
        ("self.s.substring(4, 10).trim() == 'takes'", 6),
        ("self.s.upperAscii() == 'ROOK TAKES 👑'", 6),
        ("self.b == b'AB'", 3),
        ("size(self.b) == 2", 4),
        ("self.d == duration('1h2m') + duration('3s4ms')", 4),
        ("self.d.getHours() == 1", 4),
        ("timestamp(self.time) == self.t", 6),
        ("1 in self.l", 5),
        ("self.l2[0] in self.l", 8),
        ("!(0 in self.l)", 6),
        ("self.l + self.l2 == [1, 2, 3, 1, 2, 3]", 6),
        ("self.l + [4, 5] == [1, 2, 3, 4, 5]", 4),
        ("self.set == ['c', 'b', 'a']", 3),
        ("self.set + ['c', 'd'] == ['a', 'b', 'c', 'd']", 4),
        ("self.objs[0] == self.objs[1]", 7),
        ("self.objs[0] + self.objs[2] == self.objs[2]", 11),
        ("self.objs[0] == [self.objs[0][0], self.objs[0][1]]", 22),
        ("self.objs[2] + [self.objs[0][0], self.objs[0][1]] == self.objs[0]", 26),
        ("size(self.objs[0] + [self.objs[3][0]]) == 3", 20),
        ("self.m == self.m2", 5),
        ("'k1' in self.m", 3),
        ("self.m == {'k1': 'a', 'k2': 'b'}", 3),
        ("has(self.a.b)", 2),
        ("!(has(self.a.e) && has(self.a.e.f))", 3),
        ("!has(self.n.a)", 3),
        ("self.n.all(k, self.n[k] > 0)", 17),
        ("self.n.exists_one(k, self.n[k] == 2)", 14),
        ("size(self.n) == 2", 4),
        ("size(self.n.filter(k, self.n[k] > 1)) == 1", 26),
        ("has(self.lm[0].v)", 3),
        ("self.lm.all(m, m.k.startsWith('a'))", 21),
        ("self.lm.all(m, !has(m.v2) || m.v2 == 'z')", 21),
        ("self.lm.exists(m, m.k.endsWith('1'))", 13),
        ("self.lm.exists_one(m, m.k == 'a3')", 15),
        ("!self.lm.all(m, m.k.endsWith('1'))", 18),
        ("!self.lm.exists(m, m.v == 'x')", 25),
        ("!self.lm.exists_one(m, m.k.startsWith('a'))", 20),
        ("size(self.lm.filter(m, m.k == 'a1')) == 1", 27),
        ("self.lm.exists(m, m.k == 'a1' && m.v == 'b1')", 16),
        ("self.lm.map(m, m.v).exists(v, v == 'b1')", 55),
        ("self.lm.exists(m, has(m.v2) && m.v2 == 'z')", 21),
        ("!self.lm.all(m, has(m.v2) && m.v2 != 'z')", 10),
    ],
)
def test_runtime_cost(expression: str, cost: int) -> None:
    declared = declare_schema(_SCHEMA)
    assert declared is not None
    assert declared.convert is not None
    program = compile(expression, Environment({"self": declared.type}))
    budget = Budget(1_000_000)
    assert program.evaluate({"self": declared.convert(_VALUE)}, budget=budget) is True
    assert 1_000_000 - budget.remaining == cost
