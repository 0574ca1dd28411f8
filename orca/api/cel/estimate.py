"""The most that an expression can cost, from its tree and the largest sizes its schema allows.

Reference: cel-go ``checker/cost.go``; k8s.io/apiserver ``pkg/cel/library/cost.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from orca.api.cel.checker import Checked
from orca.api.cel.schemas import Declared
from orca.api.cel.tree import Call, Comprehension, Const, Ident, ListLiteral, Node, Select, StructLiteral

UNKNOWN = (1 << 64) - 1
_LIST, _MAP, _STRUCT = 10, 30, 40
_TEXT, _REGEX = 0.1, 0.25
_SIZED = ("string", "bytes", "list", "map", "dyn")
_WALKS_TARGET = frozenset(("lowerAscii", "upperAscii", "substring", "trim", "charAt"))
_WALKS_LIST = frozenset(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"))
_PARSES = frozenset(["url", "isURL", "cidr", "isIP", "isCIDR", "ip", "quantity", "isQuantity", "semver", "isSemver"])
_COMPARES = frozenset(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"))


def most(checked: Checked, declared: dict[str, Declared]) -> int:
    """The worst cost; ``declared`` tells about variables. Never more than ``UNKNOWN``."""
    return _Estimator(checked, declared).cost(checked.tree.root)


def _times(one: int, factor: float) -> int:
    return UNKNOWN if one >= UNKNOWN else min(UNKNOWN, ceil(one * factor))


def _product(one: int, other: int) -> int:
    return min(UNKNOWN, one * other)


def _sum(*costs: int) -> int:
    return min(UNKNOWN, sum(costs))


class _Estimator:
    def __init__(self, checked: Checked, declared: dict[str, Declared]) -> None:
        self._checked = checked
        self._places: dict[str, Declared | None] = dict(declared)
        self._sizes: dict[int, int] = {}
        self._variable_sizes: dict[str, int] = {}

    def cost(self, node: Node) -> int:
        if isinstance(node, Const):
            return 0
        if isinstance(node, Ident):
            return 1
        if isinstance(node, Select):
            return 0 if node.id in self._checked.names else _sum(self.cost(node.operand), 0 if node.test else 1)
        if isinstance(node, ListLiteral):
            self._sizes[node.id] = len(node.elements)
            return _sum(_LIST, *(self.cost(element) for element in node.elements))
        if isinstance(node, StructLiteral):
            self._sizes[node.id] = len(node.entries)
            below = [self.cost(entry.key) for entry in node.entries if isinstance(entry.key, Node)]
            below += [self.cost(entry.value) for entry in node.entries]
            return _sum(_STRUCT if node.name else _MAP, *below)
        if isinstance(node, Comprehension):
            return self._comprehension(node)
        assert isinstance(node, Call)
        return self._call(node)

    def _comprehension(self, node: Comprehension) -> int:
        over = self.cost(node.range)
        initial = self.cost(node.initial)
        place = self._place(node.range)
        shadowed = {name: self._places.get(name) for name in (node.variable, node.variable2, node.accumulator)}
        known = dict(self._variable_sizes)
        is_list = self._checked.types[node.range.id].name == "list"
        element, key = (place.element, place.key) if place is not None else (None, None)
        if node.variable2:
            self._places[node.variable] = None if is_list else key
            self._places[node.variable2] = element
        else:
            self._places[node.variable] = element if is_list else key
        count = self.size(node.range)
        self._places[node.accumulator] = None
        self._variable_sizes[node.accumulator] = count
        condition, step = self.cost(node.condition), self.cost(node.step)
        result = self.cost(node.result)
        self._places.update(shadowed)
        self._variable_sizes = known
        self._sizes[node.id] = count
        return _sum(over, initial, result, _product(count, _sum(condition, step)))

    def _place(self, node: Node) -> Declared | None:
        """What the schema says about a node that is a part of a variable."""
        if isinstance(node, Ident):
            return self._places.get(node.name)
        if isinstance(node, Select) and not node.test:
            operand = self._place(node.operand)
            if operand is None:
                return None
            return operand.fields.get(node.field) or operand.element
        if isinstance(node, Call):
            if node.function in ("_[_]", "_[?_]"):
                operand = self._place(node.args[0])
                return None if operand is None else operand.element
            if node.function == "_?._":
                field = node.args[1]
                operand = self._place(node.args[0])
                if operand is None or not isinstance(field, Const):
                    return None
                return operand.fields.get(field.value) or operand.element
            if node.function in ("orValue", "value", "or") and node.target is not None:
                return self._place(node.target)
        # filter keeps elements as they are
        if isinstance(node, Comprehension) and isinstance(node.step, Call) and node.step.function == "_?_:_":
            return self._place(node.range)
        return None

    def size(self, node: Node) -> int:
        """The largest size of a node's value."""
        found = self._sizes.get(node.id)
        if found is not None:
            return found
        if isinstance(node, Const):
            return len(node.value) if isinstance(node.value, str | bytes) else 1
        if isinstance(node, Ident) and node.name in self._variable_sizes:
            return self._variable_sizes[node.name]
        place = self._place(node)
        if place is not None:
            return place.max_elements
        return UNKNOWN if self._checked.types[node.id].name in _SIZED else 1

    def _element_size(self, node: Node) -> int:
        place = self._place(node)
        if place is not None and place.element is not None:
            return place.element.max_elements
        type_ = self._checked.types[node.id]
        return UNKNOWN if not type_.params or type_.params[0].name in _SIZED else 1

    def _call(self, node: Call) -> int:
        name = node.function
        nodes = list(node.args)
        if node.target is not None:
            if node.id in self._checked.qualified:
                name = f"{_dotted(node.target)}.{name}"
            else:
                nodes.insert(0, node.target)
        costs = [self.cost(arg) for arg in nodes]
        if name == "_?_:_":
            self._sizes[node.id] = max(self.size(nodes[1]), self.size(nodes[2]))
            return _sum(costs[0], max(costs[1], costs[2]))
        if name in ("_&&_", "_||_"):
            return _sum(*costs)
        return _sum(*costs, self._of_call(node, name, nodes))

    def _of_call(self, node: Call, name: str, nodes: Sequence[Node]) -> int:
        types = [self._checked.types[arg.id].name for arg in nodes]
        sizes = [self.size(arg) for arg in nodes]
        if name in _COMPARES:
            if (types[0] in _SIZED and types[0] != "dyn") or (types[1] in _SIZED and types[1] != "dyn"):
                return max(1, _times(min(sizes), _TEXT))
            return 1
        if name == "_+_":
            self._sizes[node.id] = _sum(*sizes) if types[0] in _SIZED else 1
            return _times(_sum(*sizes), _TEXT) if types[0] in ("string", "bytes") else 1
        if name == "@in":
            return sizes[1] if types[1] == "list" else 1
        if name in ("startsWith", "endsWith"):
            return _times(sizes[1], _TEXT)
        if name == "contains":
            return _product(_times(sizes[0], _TEXT), _times(sizes[1], _TEXT))
        if name in ("matches", "find", "findAll"):
            self._sizes[node.id] = sizes[0]
            return _product(_times(_sum(sizes[0], 1), _TEXT), _times(sizes[1], _REGEX))
        return self._of_library(node, name, nodes, types, sizes)

    def _of_library(
        self, node: Call, name: str, nodes: Sequence[Node], types: Sequence[str], sizes: Sequence[int]
    ) -> int:
        if name == "check":
            return 350_000
        if name in _WALKS_LIST:
            if types[0] == "string":
                return _times(sizes[0], _TEXT)
            type_ = self._checked.types[nodes[0].id]
            text = bool(type_.params) and type_.params[0].name in ("string", "bytes")
            return _product(sizes[0], _sum(1, _times(self._element_size(nodes[0]), _TEXT) if text else 0))
        if name in _WALKS_TARGET:
            self._sizes[node.id] = sizes[0]
            return _times(sizes[0], _TEXT)
        if name == "replace":
            self._sizes[node.id] = _replaced(sizes)
            return _times(sizes[0], 2 * _TEXT)
        if name == "split":
            self._sizes[node.id] = sizes[0]
            return _times(sizes[0], 2 * _TEXT)
        if name == "join":
            separators = _product(sizes[0], sizes[1]) if len(sizes) > 1 else 0
            total = _sum(_product(sizes[0], self._element_size(nodes[0])), separators)
            self._sizes[node.id] = total
            return _times(total, _TEXT)
        if name in _PARSES and types and types[0] in ("string", "dyn"):
            return _times(sizes[0], _TEXT)
        if name == "ip.isCanonical":
            return _times(sizes[0], 2 * _TEXT)
        if name in ("containsIP", "containsCIDR"):
            extra = 3 if name == "containsCIDR" else 0
            return _sum(4, extra, _times(sizes[1], _TEXT) if types[1] == "string" else 0)
        if name == "validate":
            return _product(_times(_sum(sizes[1], 1), _TEXT), 15)
        if name.startswith("sets."):
            return _product(sizes[0], _product(sizes[1], 2 if name == "sets.equivalent" else 1))
        if name in ("sort", "distinct", "@sortByAssociatedKeys"):
            self._sizes[node.id] = sizes[0]
            return _sum(_LIST, _product(sizes[0], sizes[0]))
        if name in ("slice", "reverse", "flatten", "lists.range"):
            self._sizes[node.id] = sizes[0]
            return _sum(_LIST, sizes[0])
        if name in ("string", "bytes", "dyn", "value", "orValue", "or", "optional.of"):
            self._sizes[node.id] = max(sizes) if types and types[0] in (*_SIZED, "optional_type") else 64
            return _times(sizes[0], _TEXT) if types and types[0] in ("string", "bytes") else 1
        # Accessors, conversions of numbers, arithmetic: nominal.
        return 1


def _replaced(sizes: Sequence[int]) -> int:
    """The longest result of ``replace``: every character replaced, at worst."""
    text, old, new = sizes[:3]
    if old == 0:
        return _sum(text, _product(_sum(text, 1), new))
    if new <= old:
        return text
    return _product(-(-text // max(old, 1)), new) if text < UNKNOWN else UNKNOWN


def _dotted(node: Node) -> str:
    if isinstance(node, Select):
        return f"{_dotted(node.operand)}.{node.field}"
    return node.name if isinstance(node, Ident) else ""
