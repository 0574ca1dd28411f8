"""``x-kubernetes-validations``: rules of a structural schema, compiled once, evaluated on objects.

    rules = compile_rules(schema)           # openAPIV3Schema of one version, found structural
    rules.errors(path)                      # what a CustomResourceDefinition with these rules is refused for
    rules.validate(new, old)                # what an object is refused for; cheap when ``rules`` is falsy

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/cel`` and ``pkg/apis/apiextensions/validation``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orca.api.allowance import TooLong, is_brief
from orca.api.cel import paths
from orca.api.cel.budget import RUNTIME_COST_BUDGET, Budget
from orca.api.cel.environment import Environment
from orca.api.cel.errors import NO_SUCH_OVERLOAD, CelCompileError, CelCostError, CelError
from orca.api.cel.estimate import most
from orca.api.cel.program import Program, compile
from orca.api.cel.schemas import MAX_REQUEST, Declared, declare_schema, with_root_fields
from orca.api.cel.types import BOOL, STRING, optional_of
from orca.api.cel.values import Optional, freeze
from orca.api.customresources import values
from orca.api.errors import FieldError
from orca.api.objects import Obj

RULES = "x-kubernetes-validations"
MESSAGE_MAX = 5 * 1024
BRIEF = 20_000
"""Cost units that are spent at once within ``allowance.briefly()``."""
EXPRESSION_LIMIT, SCHEMA_LIMIT = 10_000_000, 100_000_000
"""What the estimated cost of one rule, and of all rules of a schema, may be."""

_SHRINK = "adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_NO_FURTHER = "no further validation rules will be run"
_OUT_OF_BUDGET = f"validation failed due to running out of cost budget, {_NO_FURTHER}"
_NOT_SUPPORTED = "call arguments did not match a supported operator, function or macro signature for rule"


class _Stopped(Exception):
    """The budget is used up; what was found stays."""


@dataclass(slots=True, eq=False)
class _Rule:
    """One rule. ``wrong`` says why it does not compile."""

    told: Obj
    place: str  # below the node, from fieldPath
    program: Program | None = None
    message: Program | None = None
    wrong: str = ""
    wrong_message: str = ""
    uses_old: bool = False
    optional_old: bool = False

    @property
    def text(self) -> str:
        return (self.told.get("message") or self.told.get("rule") or "").strip()


@dataclass(slots=True, eq=False)
class _Node:
    """A schema with rules on it or below."""

    schema: Obj
    declared: Declared | None
    rules: list[_Rule] = field(default_factory=list)
    properties: dict[str, _Node] = field(default_factory=dict)
    additional: _Node | None = None
    items: _Node | None = None

    @property
    def idle(self) -> bool:
        return not (self.rules or self.properties or self.additional or self.items)


class Rules:
    """All rules of one schema. Falsy when there are none."""

    def __init__(self, root: _Node) -> None:
        self._root = root

    def __bool__(self) -> bool:
        return not self._root.idle

    def errors(self, path: str) -> list[FieldError]:
        """Why a definition with this schema at ``path`` is refused: rules that do not compile, or may cost too much."""
        return _Judge().errors(self._root, path)

    def validate(
        self, new: Obj, old: Obj | None = None, *, warnings: list[str] | None = None, budget: int = RUNTIME_COST_BUDGET
    ) -> list[FieldError]:
        """What is wrong with ``new``, which the schema has been found to allow; ``old`` is what it replaces.

        What was wrong in a part that did not change is no error but is added to ``warnings``.

        Raises TooLong within ``allowance.briefly()`` for what costs more than a few milliseconds.
        """
        if not self:
            return []
        brief = is_brief() and budget > BRIEF
        told: list[str] = []
        run = _Evaluation(told, Budget(BRIEF if brief else budget))
        try:
            run.visit(self._root, "", new, old, lambda: old is not None and new == old)
        except _Stopped:
            if brief:
                raise TooLong from None
        if warnings is not None:
            warnings += told
        return run.found


def compile_rules(schema: Obj) -> Rules:
    """Rules of an ``openAPIV3Schema``. Never raises: what is wrong is told by ``errors``, and by ``validate``."""
    if not _has_rules(schema):
        return Rules(_Node(schema, None))
    return Rules(_node(schema, declare_schema(schema, root=True), root=True))


def _has_rules(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    if schema.get(RULES):
        return True
    below = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(_has_rules(one) for one in below)


def _node(schema: Obj, declared: Declared | None, *, root: bool = False) -> _Node:
    node = _Node(schema, declared)
    whole = with_root_fields(schema) if root or schema.get("x-kubernetes-embedded-resource") else schema
    node.rules = [_rule(told, whole, declared) for told in schema.get(RULES) or ()]
    for name, inner in (schema.get("properties") or {}).items():
        if _has_rules(inner):
            node.properties[name] = _node(inner, declare_schema(inner, f"selfType.{name}"))
    for key in ("items", "additionalProperties"):
        inner = schema.get(key)
        if _has_rules(inner):
            assert isinstance(inner, dict)
            below = _node(inner, declare_schema(inner))
            if key == "items":
                node.items = below
            else:
                node.additional = below
    return node


def _rule(told: Obj, schema: Obj, declared: Declared | None) -> _Rule:
    rule = _Rule(told, "")
    source = told.get("rule") or ""
    if declared is None:
        preserve = "true" if schema.get("x-kubernetes-preserve-unknown-fields") else "false"
        rule.wrong = (
            "rule declared on schema that does not support validation rules type: "
            f"'{schema.get('type') or ''}' x-kubernetes-preserve-unknown-fields: '{preserve}'"
        )
        return rule
    if told.get("fieldPath"):
        try:
            rule.place = paths.resolve(told["fieldPath"].strip(), schema)
        except ValueError:
            rule.place = ""  # told by `errors`; nothing is stored with such a path
    rule.optional_old = bool(told.get("optionalOldSelf"))
    old = optional_of(declared.type) if rule.optional_old else declared.type
    environment = Environment({"self": declared.type, "oldSelf": old})
    if not source.strip():
        return rule
    try:
        rule.program = compile(source, environment)
        if rule.program.result != BOOL:
            rule.program, rule.wrong = None, "cel expression must evaluate to a bool"
        else:
            rule.uses_old = rule.program.uses("oldSelf")
    except CelCompileError as error:
        rule.wrong = f"compilation failed: {error}"
    if (told.get("messageExpression") or "").strip():
        try:
            rule.message = compile(told["messageExpression"], environment)
            if rule.message.result != STRING:
                rule.message, rule.wrong_message = None, "messageExpression must evaluate to a string"
        except CelCompileError as error:
            rule.wrong_message = f"messageExpression compilation failed: {error}"
    return rule


def _uncorrelatable(schema: Obj) -> bool:
    """Whether what a list or map holds cannot be found again in its old value."""
    if schema.get("type") == "array":
        return schema.get("x-kubernetes-list-type") != "map"
    return schema.get("x-kubernetes-map-type") == "atomic"


class _Judge:
    """Errors of a definition."""

    def __init__(self) -> None:
        self._costs: list[tuple[int, str]] = []

    def errors(self, root: _Node, path: str) -> list[FieldError]:
        found = list(self._node(root, path, 1, ""))
        total = sum(cost for cost, _ in self._costs)
        if total > SCHEMA_LIMIT:
            # Upstream names those that cost most, at most five.
            for cost, at in sorted(self._costs, reverse=True)[:5]:
                if cost > SCHEMA_LIMIT // 100:
                    text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
                    found.append(FieldError.forbidden(at, text))
            name = f"{RULES} estimated rule cost total for entire OpenAPIv3 schema"
            found.append(FieldError.forbidden(path, _too_dear(name, total, SCHEMA_LIMIT, "rule(s)")))
        return found

    def _node(self, node: _Node, path: str, cardinality: int | None, lost: str) -> Iterator[FieldError]:
        for index, rule in enumerate(node.rules):
            at = f"{path}.{RULES}[{index}]"
            yield from _form(rule, node.schema, at)
            yield from self._cost(node, rule, at, cardinality)
            if rule.uses_old and lost:
                text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
                yield FieldError.invalid(f"{at}.rule", rule.told.get("rule"), text)
            if not rule.uses_old and not rule.wrong and "optionalOldSelf" in rule.told:
                text = "may not be set if oldSelf is not used in rule"
                yield FieldError.invalid(f"{at}.optionalOldSelf", rule.told["optionalOldSelf"], text)
        if _uncorrelatable(node.schema) and not lost:
            below = path
        else:
            below = lost
        for name, inner in node.properties.items():
            yield from self._node(inner, f"{path}.properties[{name}]", cardinality, below)
        if node.items is not None:
            yield from self._node(node.items, f"{path}.items", _many(cardinality, node.schema.get("maxItems")), below)
        if node.additional is not None:
            many = _many(cardinality, node.schema.get("maxProperties"))
            yield from self._node(node.additional, f"{path}.additionalProperties", many, below)

    def _cost(self, node: _Node, rule: _Rule, at: str, cardinality: int | None) -> Iterator[FieldError]:
        if node.declared is None:
            return
        times = MAX_REQUEST // (node.declared.min_size + 1) if cardinality is None else cardinality
        known = {"self": node.declared, "oldSelf": node.declared}
        for program, key, name in (
            (rule.program, "rule", "estimated rule cost"),
            (rule.message, "messageExpression", "estimated messageExpression cost"),
        ):
            if program is None:
                continue
            cost = min(most(program.checked, known) * max(times, 1), (1 << 64) - 1)
            if cost > EXPRESSION_LIMIT:
                yield FieldError.forbidden(f"{at}.{key}", _too_dear(name, cost, EXPRESSION_LIMIT, "rule"))
            self._costs.append((cost, f"{at}.{key}"))


def _many(cardinality: int | None, limit: Any) -> int | None:
    return cardinality * limit if cardinality is not None and isinstance(limit, int) else None


def _too_dear(name: str, cost: int, limit: int, what: str) -> str:
    factor = cost / limit
    if factor > 100:
        shown = "more than 100x"
    elif factor < 1.5:
        shown = f"{factor:f}x"
    else:
        shown = f"{factor:.1f}x"
    return f"{name} exceeds budget by factor of {shown} (try simplifying the {what}, or {_SHRINK}"


def _form(rule: _Rule, schema: Obj, at: str) -> Iterator[FieldError]:
    """Everything but costs and correlation."""
    told = rule.told
    source, message = (told.get("rule") or "").strip(), told.get("message") or ""
    if not source:
        yield FieldError.required(f"{at}.rule", "rule is not specified")
    elif message and not message.strip():
        yield FieldError.invalid(f"{at}.message", message, "message must be non-empty if specified")
    elif "\n" in message.strip():
        yield FieldError.invalid(f"{at}.message", message, "message must not contain line breaks")
    elif "\n" in source and not message.strip():
        yield FieldError.required(f"{at}.message", "message must be specified if rule contains line breaks")
    expression = told.get("messageExpression") or ""
    if expression and not expression.strip():
        yield FieldError.required(f"{at}.messageExpression", "messageExpression must be non-empty if specified")
    reason = told.get("reason")
    if reason is not None and reason not in _REASONS:
        yield FieldError.not_supported(f"{at}.reason", reason, _REASONS)
    place = told.get("fieldPath") or ""
    if place:
        if not place.strip():
            yield FieldError.invalid(f"{at}.fieldPath", place, "fieldPath must be non-empty if specified")
        elif "\n" in place:
            yield FieldError.invalid(f"{at}.fieldPath", place, "fieldPath must not contain line breaks")
        else:
            try:
                paths.resolve(place.strip(), schema)
            except ValueError as error:
                text = f"fieldPath must be a valid path: {error}"
                yield FieldError.invalid(f"{at}.fieldPath", place, text)
    if rule.wrong:
        yield FieldError.invalid(f"{at}.rule", told, rule.wrong)
    if rule.wrong_message:
        yield FieldError.invalid(f"{at}.messageExpression", told, rule.wrong_message)


class _Evaluation:
    """One object."""

    def __init__(self, warnings: list[str], budget: Budget) -> None:
        self.found: list[FieldError] = []
        self._warnings = warnings
        self._budget = budget

    def visit(self, node: _Node, path: str, new: Any, old: Any, unchanged: Callable[[], bool]) -> None:
        """``unchanged`` tells whether this part is as it was; asked only when a rule fails."""
        if new is None:
            return
        if node.rules:
            self._rules(node, path, new, old, unchanged)
        if isinstance(new, list) and node.items is not None:
            self._items(node, node.items, path, new, old, unchanged)
        elif isinstance(new, dict):
            correlated = not _uncorrelatable(node.schema)
            before = old if correlated and isinstance(old, dict) else {}
            if node.additional is not None:
                for key, value in new.items():
                    was = before.get(key)
                    self.visit(
                        node.additional, f"{path}[{key}]", value, was, _same(node.additional, value, was, unchanged)
                    )
            for key, inner in node.properties.items():
                if key in new:
                    value, was = new[key], before.get(key)
                    self.visit(inner, f"{path}.{key}" if path else key, value, was, _same(inner, value, was, unchanged))

    def _items(
        self, node: _Node, inner: _Node, path: str, new: list[Any], old: Any, unchanged: Callable[[], bool]
    ) -> None:
        keys = node.schema.get("x-kubernetes-list-map-keys") or ()
        known: dict[Any, Any] = {}
        if keys and isinstance(old, list) and not _uncorrelatable(node.schema):
            known = {_identity(one, keys): one for one in old}
        for index, value in enumerate(new):
            was = known.get(_identity(value, keys)) if known else None
            self.visit(inner, f"{path}[{index}]", value, was, _same(inner, value, was, unchanged))

    def _rules(self, node: _Node, path: str, new: Any, old: Any, unchanged: Callable[[], bool]) -> None:
        declared = node.declared
        convert = declared.convert if declared is not None else None
        value = new if convert is None else convert(new)
        was = old if convert is None or old is None else convert(old)
        shown = node.schema.get("type") or ""
        at = path or "<nil>"
        for rule in node.rules:
            if rule.wrong:
                self._add(FieldError.invalid(at, shown, f"rule compile error: {rule.wrong}"))
                continue
            if rule.program is None or (rule.uses_old and old is None and not rule.optional_old):
                continue
            if self._budget.remaining <= 0:
                self._stop(FieldError.invalid(at, shown, _OUT_OF_BUDGET))
            variables = {"self": value}
            if rule.optional_old:
                variables["oldSelf"] = Optional.NONE if old is None else Optional(True, was)
            elif old is not None:
                variables["oldSelf"] = was
            if self._holds(rule, variables, at, shown):
                continue
            where = _joined(path, rule.place)
            detail = self._message(rule, variables, where, shown)
            error = _error(rule.told.get("reason"), where, shown, detail)
            if not rule.uses_old and unchanged():
                self._warnings.append(str(error))
            else:
                self._add(error)

    def _holds(self, rule: _Rule, variables: dict[str, Any], at: str, shown: str) -> bool:
        """False only for a rule that fails; one without a result adds its own error."""
        assert rule.program is not None
        try:
            return rule.program.evaluate(variables, budget=self._budget) is not False
        except CelCostError as error:
            if self._budget.remaining < 0:
                self._stop(FieldError.invalid(at, shown, _OUT_OF_BUDGET))
            why = f"{_NO_FURTHER} due to call cost exceeds limit for rule: {rule.text}"
            self._stop(FieldError.invalid(at, shown, f"'{error}': {why}"))
        except CelError as error:
            if str(error).startswith(NO_SUCH_OVERLOAD):
                self._add(FieldError.invalid(at, shown, f"'{error}': {_NOT_SUPPORTED}: {rule.text}"))
            else:
                self._add(FieldError.invalid(at, shown, f"{error} evaluating rule: {rule.text}"))
        return True

    def _message(self, rule: _Rule, variables: dict[str, Any], at: str, shown: str) -> str:
        if rule.message is not None:
            try:
                text = rule.message.evaluate(variables, budget=self._budget)
            except CelCostError:
                source = rule.told.get("messageExpression")
                why = f"messageExpression evaluation failed due to running out of cost budget, {_NO_FURTHER}"
                if self._budget.remaining >= 0:
                    why = f'{_NO_FURTHER} due to call cost exceeds limit for messageExpression: "{source}"'
                self._stop(FieldError.invalid(at, shown, why))
            except CelError:
                text = ""  # upstream logs it and takes the plain message
            text = text.strip() if isinstance(text, str) else ""
            if text and len(text.encode()) <= MESSAGE_MAX and "\n" not in text:
                return str(text)
        if rule.told.get("message"):
            return str(rule.told["message"]).strip()
        return f"failed rule: {rule.text}"

    def _add(self, error: FieldError) -> None:
        self.found.append(error)

    def _stop(self, error: FieldError) -> None:
        self.found.append(error)
        raise _Stopped


def _identity(element: Any, keys: Any) -> Any:
    return tuple(freeze(element.get(key)) for key in keys) if isinstance(element, dict) else ()


def _same(node: _Node, new: Any, old: Any, parent: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: (old is not None and values.unchanged(new, old, node.schema)) or parent()


def _joined(path: str, place: str) -> str:
    if not place:
        return path or "<nil>"
    return f"{path}{place}" if path else place.lstrip(".")


def _error(reason: Any, path: str, shown: str, detail: str) -> FieldError:
    if reason == "FieldValueForbidden":
        return FieldError.forbidden(path, detail)
    if reason == "FieldValueRequired":
        return FieldError.required(path, detail)
    if reason == "FieldValueDuplicate":
        return FieldError.duplicate(path, shown)
    return FieldError.invalid(path, shown, detail)
