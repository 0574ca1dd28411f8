"""What an ``AuthenticationConfiguration`` may say, by field path, and its expressions compiled.

Reference: k8s.io/apiserver ``pkg/apis/apiserver/validation`` and ``pkg/authentication/cel``. The paths, the order and
the texts are upstream's.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orca.api.errors import FieldError
from orca.api.validation.common import domain_prefixed_path
from orca.auth.oidc.config import (
    AuthenticationConfiguration,
    ClaimRule,
    ExtraSource,
    Issuer,
    JwtAuthenticator,
    Source,
    UserRule,
)
from orca.client.hooks import client_tls

if TYPE_CHECKING:
    from orca.api.cel import Environment, Program
    from orca.api.cel.tree import Node

MOST_ISSUERS = 64
_BOTH = "claim and expression can't both be set"
_EMAIL_UNVERIFIED = (
    "claims.email_verified must be used in claimMappings.username.expression or "
    "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in "
    "claimMappings.username.expression"
)


@dataclass(slots=True)
class Expressions:
    """The compiled expressions of one authenticator; rules with the messages of their failures."""

    username: Program | None = None
    groups: Program | None = None
    uid: Program | None = None
    extra: list[tuple[str, Program]] = field(default_factory=list)
    claim_rules: list[tuple[Program, str]] = field(default_factory=list)
    user_rules: list[tuple[Program, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.username, self.groups, self.uid, self.extra, self.claim_rules, self.user_rules))


@dataclass(slots=True)
class Checked:
    """``expressions`` has one entry for each ``jwt``; good for use only without ``problems``."""

    expressions: list[Expressions]
    problems: list[FieldError]


def check(config: AuthenticationConfiguration, disallowed: Collection[str] = ()) -> Checked:
    """Everything that is wrong; ``disallowed`` are issuers that others answer for (service account tokens)."""
    checked = Checked([], [])
    problems = checked.problems
    if len(config.jwt) > MOST_ISSUERS:
        problems.append(FieldError.too_many("jwt", len(config.jwt), MOST_ISSUERS))
        return checked
    issuers: set[str] = set()
    discoveries: set[str] = set()
    for number, one in enumerate(config.jwt):
        path = f"jwt[{number}]"
        look = _Look(one, path)
        problems += _issuer(one.issuer, disallowed, f"{path}.issuer")
        problems += look.problems()
        checked.expressions.append(look.found)
        if one.issuer.url in issuers:
            problems.append(FieldError.duplicate(f"{path}.issuer.url", one.issuer.url))
        issuers.add(one.issuer.url)
        if one.issuer.discovery_url:
            if one.issuer.discovery_url in discoveries:
                problems.append(FieldError.duplicate(f"{path}.issuer.discoveryURL", one.issuer.discovery_url))
            discoveries.add(one.issuer.discovery_url)
    anonymous = config.anonymous
    if anonymous is not None and not anonymous.enabled and anonymous.paths:
        shown = [{"path": path} for path in anonymous.paths]
        text = "enabled should be set to true when conditions are defined"
        problems.append(FieldError.invalid("anonymous.conditions", shown, text))
    return checked


def joined(problems: Collection[FieldError]) -> str:
    """As upstream prints several errors."""
    texts = list(dict.fromkeys(map(str, problems)))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


# -- issuer


def _issuer(issuer: Issuer, disallowed: Collection[str], path: str) -> Iterator[FieldError]:
    if not issuer.url:
        yield FieldError.required(f"{path}.url")
    else:
        if issuer.url in disallowed:
            listed = " ".join(sorted(disallowed))
            text = f"URL must not overlap with disallowed issuers: [{listed}]"
            yield FieldError.invalid(f"{path}.url", issuer.url, text)
        yield from _url(issuer.url, f"{path}.url")
    if issuer.discovery_url:
        at = f"{path}.discoveryURL"
        if issuer.url and issuer.url.rstrip("/") == issuer.discovery_url.rstrip("/"):
            yield FieldError.invalid(at, issuer.discovery_url, "discoveryURL must be different from URL")
        yield from _url(issuer.discovery_url, at)
    yield from _audiences(issuer, path)
    if issuer.certificate_authority:
        try:
            client_tls(b64encode(issuer.certificate_authority.encode()).decode())
        except ValueError:
            text = "data does not contain any valid RSA or ECDSA certificates"
            yield FieldError.invalid(f"{path}.certificateAuthority", "<omitted>", text)
    if issuer.egress_selector:
        text = "egress selectors are not supported by orca: issuers are reached directly"
        yield FieldError.invalid(f"{path}.egressSelectorType", issuer.egress_selector, text)


def _url(url: str, path: str) -> Iterator[FieldError]:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        yield FieldError.invalid(path, url, f'parse "{url}": {error}')
        return
    if any(char.isspace() or not char.isprintable() for char in url):
        yield FieldError.invalid(path, url, f'parse "{url}": net/url: invalid control character or space in URL')
        return
    if parts.scheme != "https":
        yield FieldError.invalid(path, url, "URL scheme must be https")
    if "@" in parts.netloc:
        yield FieldError.invalid(path, url, "URL must not contain a username or password")
    if parts.query:
        yield FieldError.invalid(path, url, "URL must not contain a query")
    if parts.fragment:
        yield FieldError.invalid(path, url, "URL must not contain a fragment")


def _audiences(issuer: Issuer, path: str) -> Iterator[FieldError]:
    audiences, policy, at = issuer.audiences, issuer.audience_match_policy, f"{path}.audiences"
    if not audiences:
        yield FieldError.required(at, f"at least one {at} is required")
        return
    for number, audience in enumerate(audiences):
        if not audience:
            yield FieldError.required(f"{at}[{number}]")
        if audience in audiences[:number]:
            yield FieldError.duplicate(f"{at}[{number}]", audience)
    at = f"{path}.audienceMatchPolicy"
    if len(audiences) > 1 and policy != "MatchAny":
        yield FieldError.invalid(at, policy, "audienceMatchPolicy must be MatchAny for multiple audiences")
    if len(audiences) == 1 and policy not in ("", "MatchAny"):
        yield FieldError.invalid(at, policy, "audienceMatchPolicy must be empty or MatchAny for single audience")


# -- rules and mappings


class _Look:
    """One look at the rules and mappings of an authenticator."""

    def __init__(self, one: JwtAuthenticator, path: str) -> None:
        self._one = one
        self._path = path
        self.found = Expressions()

    def problems(self) -> Iterator[FieldError]:
        """All of them; afterwards ``found`` is complete."""
        one, path = self._one, self._path
        yield from self._claim_rules(one.claim_rules, f"{path}.claimValidationRules")
        path = f"{path}.claimMappings"
        yield from self._username(one.username, f"{path}.username")
        yield from self._groups(one.groups, f"{path}.groups")
        yield from self._uid(one.uid, f"{path}.uid")
        yield from self._extra(one.extra, f"{path}.extra")
        if self._email_unverified():
            yield FieldError.invalid(f"{path}.username.expression", one.username.expression, _EMAIL_UNVERIFIED)
        yield from self._user_rules(one.user_rules, f"{self._path}.userValidationRules")

    def _claim_rules(self, rules: tuple[ClaimRule, ...], path: str) -> Iterator[FieldError]:
        claims: set[str] = set()
        expressions: set[str] = set()
        for number, rule in enumerate(rules):
            at = f"{path}[{number}]"
            if rule.claim and rule.expression:
                yield FieldError.invalid(at, rule.claim, _BOTH)
            elif rule.claim:
                if rule.message:
                    yield FieldError.invalid(f"{at}.message", rule.message, "may not be specified when claim is set")
                if rule.claim in claims:
                    yield FieldError.duplicate(f"{at}.claim", rule.claim)
                claims.add(rule.claim)
            elif rule.expression:
                if rule.required_value:
                    text = "may not be specified when expression is set"
                    yield FieldError.invalid(f"{at}.requiredValue", rule.required_value, text)
                if rule.expression in expressions:
                    yield FieldError.duplicate(f"{at}.expression", rule.expression)
                    continue
                expressions.add(rule.expression)
                program = yield from _compiled(rule.expression, f"{at}.expression", rule=True)
                if program is not None:
                    self.found.claim_rules.append((program, rule.message))
            else:
                yield FieldError.required(at, "claim or expression is required")

    def _username(self, source: Source, path: str) -> Iterator[FieldError]:
        if not source.claim and not source.expression:
            yield FieldError.required(path, "claim or expression is required")
        self.found.username = yield from _prefixed(source, path)

    def _groups(self, source: Source, path: str) -> Iterator[FieldError]:
        self.found.groups = yield from _prefixed(source, path)

    def _uid(self, source: Source, path: str) -> Iterator[FieldError]:
        if source.claim and source.expression:
            yield FieldError.invalid(path, "", _BOTH)
        elif source.expression:
            self.found.uid = yield from _compiled(source.expression, f"{path}.expression")

    def _extra(self, sources: tuple[ExtraSource, ...], path: str) -> Iterator[FieldError]:
        keys: set[str] = set()
        for number, source in enumerate(sources):
            at, key = f"{path}[{number}]", source.key
            wrong: list[FieldError] = []
            domain_prefixed_path(key, f"{at}.key", wrong)
            yield from wrong
            if key != key.lower():
                yield FieldError.invalid(f"{at}.key", key, "must be lowercase")
            domain = key.partition("/")[0] if "/" in key else ""
            if domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io")):
                text = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
                yield FieldError.invalid(f"{at}.key", key, text)
            if key in keys:
                yield FieldError.duplicate(f"{at}.key", key)
                continue
            keys.add(key)
            if not source.expression:
                yield FieldError.required(f"{at}.valueExpression")
                continue
            program = yield from _compiled(source.expression, f"{at}.valueExpression")
            if program is not None:
                self.found.extra.append((key, program))

    def _user_rules(self, rules: tuple[UserRule, ...], path: str) -> Iterator[FieldError]:
        expressions: set[str] = set()
        for number, rule in enumerate(rules):
            at = f"{path}[{number}].expression"
            if not rule.expression:
                yield FieldError.required(at)
            elif rule.expression in expressions:
                yield FieldError.duplicate(at, rule.expression)
            else:
                expressions.add(rule.expression)
                program = yield from _compiled(rule.expression, at, rule=True, user=True)
                if program is not None:
                    self.found.user_rules.append((program, rule.message))

    def _email_unverified(self) -> bool:
        """Whether the name is an address that nobody may have verified."""
        found = self.found
        if found.username is None or not _selects(found.username, "email"):
            return False
        others = (*(rule for rule, _ in found.claim_rules), *(extra for _, extra in found.extra))
        return not any(_selects(program, "email_verified") for program in (found.username, *others))


def _prefixed(source: Source, path: str) -> Any:
    """Generates problems, and returns the compiled expression or None."""
    if source.expression and source.claim:
        yield FieldError.invalid(path, "", _BOTH)
    elif source.expression:
        if source.prefix is not None:
            text = "may not be specified when expression is set"
            yield FieldError.invalid(f"{path}.prefix", source.prefix, text)
        return (yield from _compiled(source.expression, f"{path}.expression"))
    elif source.claim and source.prefix is None:
        text = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
        yield FieldError.required(f"{path}.prefix", text)
    return None


def _compiled(expression: str, path: str, *, rule: bool = False, user: bool = False) -> Any:
    """Generates problems, and returns the program or None. Rules must be true or false."""
    from orca.api import cel  # only who has expressions pays for the language

    try:
        return cel.compile(expression, _environment(user=user), expects=cel.BOOL if rule else cel.DYN)
    except cel.CelCompileError as error:
        text = str(error)
        told = text if text.startswith("must evaluate") else f"compilation failed: {text}"
        yield FieldError.invalid(path, expression, told)
    return None


def _environment(*, user: bool) -> Environment:
    from orca.api.cel import DYN, STRING, Environment, list_of, map_of
    from orca.api.cel.types import ObjectType

    if not user:
        return Environment({"claims": map_of(STRING, DYN)})
    strings = list_of(STRING)
    fields = {"username": STRING, "uid": STRING, "groups": strings, "extra": map_of(STRING, strings)}
    return Environment({"user": ObjectType("kubernetes.UserInfo", (), fields)})


def _selects(program: Program, name: str) -> bool:
    """Whether an expression has ``claims.<name>`` or ``claims.?<name>`` in it; ``claims["<name>"]`` does not count."""
    from orca.api.cel.tree import Call, Const, Ident, Select

    for node in _nodes(program.checked.tree.root):
        if isinstance(node, Select) and node.field == name:
            operand: Node | None = node.operand
        elif isinstance(node, Call) and node.function == "_?._" and _is(node.args[1], Const, "value", name):
            operand = node.args[0]
        else:
            continue
        if isinstance(operand, Ident) and operand.name == "claims":
            return True
    return False


def _is(node: Node, kind: type[Node], attribute: str, value: str) -> bool:
    return isinstance(node, kind) and getattr(node, attribute) == value


def _nodes(node: Node) -> Iterator[Node]:
    from orca.api.cel.tree import Call, Comprehension, ListLiteral, Select, StructLiteral
    from orca.api.cel.tree import Node as AnyNode

    yield node
    below: list[Any] = []
    if isinstance(node, Select):
        below = [node.operand]
    elif isinstance(node, Call):
        below = [node.target, *node.args]
    elif isinstance(node, ListLiteral):
        below = list(node.elements)
    elif isinstance(node, StructLiteral):
        below = [part for entry in node.entries for part in (entry.key, entry.value)]
    elif isinstance(node, Comprehension):
        below = [node.range, node.initial, node.condition, node.step, node.result]
    for part in below:
        if isinstance(part, AnyNode):
            yield from _nodes(part)
