"""From verified claims to a user. Pure; texts of refusals are upstream's.

Reference: k8s.io/apiserver ``plugin/pkg/authenticator/token/oidc/oidc.go``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orca.auth.identity import UserInfo
from orca.auth.oidc.config import JwtAuthenticator
from orca.auth.oidc.tokens import TokenRefused
from orca.auth.oidc.validation import Expressions

if TYPE_CHECKING:
    from orca.api.cel import Program

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_STRINGS = "expression must return a string or a list of strings"


@dataclass(frozen=True, slots=True)
class Mapping:
    """What an authenticator makes of claims, and which it takes."""

    spec: JwtAuthenticator
    expressions: Expressions

    def user(self, claims: dict[str, Any]) -> UserInfo:
        """Raises TokenRefused for claims that lack something, or break a rule."""
        name = self._name(claims)
        groups = self._groups(claims)
        uid = self._uid(claims)
        extra = self._extra(claims)
        for rule in self.spec.claim_rules:
            if rule.claim:
                _require(claims, rule.claim, rule.required_value)
        _hold(self.expressions.claim_rules, {"claims": claims}, "oidc: error evaluating claim validation expression")
        user = UserInfo(name, uid, groups, extra)
        if self.expressions.user_rules:
            shown = {
                "username": name,
                "uid": uid,
                "groups": list(groups),
                "extra": {key: list(values) for key, values in extra.items()},
            }
            _hold(self.expressions.user_rules, {"user": shown}, "oidc: error evaluating user info validation rule")
        return user

    def _name(self, claims: dict[str, Any]) -> str:
        if self.expressions.username is not None:
            what = "oidc: error evaluating username claim expression"
            name = _evaluated(self.expressions.username, claims, what)
            if not isinstance(name, str):
                raise TokenRefused(f"{what}: username claim expression must return a string")
        else:
            claim = self.spec.username.claim
            name = _text(claims, claim, f'oidc: parse username claims "{claim}"')
            if claim == "email" and "email_verified" in claims:
                verified = claims["email_verified"]
                if not isinstance(verified, bool):
                    raise TokenRefused("oidc: parse 'email_verified' claim: it is no boolean")
                if not verified:
                    raise TokenRefused("oidc: email not verified")
        if not name:
            raise TokenRefused("oidc: the user has no name")  # which all of orca takes for nobody
        return name if self.expressions.username is not None else f"{self.spec.username.prefix or ''}{name}"

    def _groups(self, claims: dict[str, Any]) -> tuple[str, ...]:
        source = self.spec.groups
        if source.claim and source.claim in claims:
            found = claims[source.claim]
            listed = [found] if isinstance(found, str) else found or []
            if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
                raise TokenRefused(f'oidc: parse groups claim "{source.claim}": neither a string nor a list of strings')
            return tuple(f"{source.prefix or ''}{one}" for one in listed)
        if self.expressions.groups is None:
            return ()
        what = "oidc: error evaluating group claim expression"
        return _texts(_evaluated(self.expressions.groups, claims, what), what)

    def _uid(self, claims: dict[str, Any]) -> str:
        if self.spec.uid.claim:
            return _text(claims, self.spec.uid.claim, f'oidc: parse uid claim "{self.spec.uid.claim}"')
        if self.expressions.uid is None:
            return ""
        what = "oidc: error evaluating uid claim expression"
        found = _evaluated(self.expressions.uid, claims, what)
        if not isinstance(found, str):
            raise TokenRefused(f"{what}: uid claim expression must return a string")
        return found

    def _extra(self, claims: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        identifier = claims.get("jti")
        extra: dict[str, tuple[str, ...]] = {}
        if isinstance(identifier, str) and identifier:
            extra[CREDENTIAL_ID] = (f"JTI={identifier}",)
        what = "oidc: error evaluating extra claim expression"
        for key, program in self.expressions.extra:
            values = _texts(_evaluated(program, claims, what), f"{what}: {program.source}")
            if values:
                extra[key] = values
        return extra


def _require(claims: dict[str, Any], claim: str, wanted: str) -> None:
    if claim not in claims:
        raise TokenRefused(f"oidc: required claim {claim} not present in ID token")
    found = _text(claims, claim, f"oidc: parse claim {claim}")
    if found != wanted:
        raise TokenRefused(f"oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}")


def _text(claims: dict[str, Any], claim: str, what: str) -> str:
    if claims.get(claim) is None:
        raise TokenRefused(f"{what}: claim not present")
    if not isinstance(claims[claim], str):
        raise TokenRefused(f"{what}: it is no string")
    return str(claims[claim])


def _evaluated(program: Program, claims: dict[str, Any], what: str) -> Any:
    from orca.api.cel import CelError

    try:
        return program.evaluate({"claims": claims})
    except CelError as error:
        raise TokenRefused(f"{what}: expression '{program.source}' resulted in error: {error}") from error


def _texts(found: Any, what: str) -> tuple[str, ...]:
    """A string or a list of some; what is empty does not count."""
    listed = [found] if isinstance(found, str) else [] if found is None else found
    if not isinstance(listed, list | tuple) or not all(isinstance(one, str) for one in listed):
        raise TokenRefused(f"{what}: {_STRINGS}")
    return tuple(one for one in listed if one)


def _hold(rules: list[tuple[Program, str]], variables: dict[str, Any], what: str) -> None:
    if not rules:
        return
    from orca.api.cel import CelError

    for program, message in rules:
        try:
            holds = program.evaluate(variables)
        except CelError as error:
            raise TokenRefused(f"{what}: expression '{program.source}' resulted in error: {error}") from error
        if holds is not True:
            raise TokenRefused(f"{what}: validation expression '{program.source}' failed: {message}")
