"""``AuthenticationConfiguration`` (apiserver.config.k8s.io): what the file says, read strictly.

Reference: k8s.io/apiserver ``pkg/apis/apiserver/v1``. What the values may be is ``validation``'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

KIND = "AuthenticationConfiguration"
GROUP = "apiserver.config.k8s.io"
VERSIONS = tuple(f"{GROUP}/{version}" for version in ("v1", "v1beta1", "v1alpha1"))


class ConfigInvalid(ValueError):
    """The configuration cannot be used; the message lists every problem with its field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who signs. ``certificate_authority`` is PEM, "" for the system's; ``discovery_url`` "" for the usual place."""

    url: str = ""
    discovery_url: str = ""
    certificate_authority: str = ""
    audiences: tuple[str, ...] = ()
    audience_match_policy: str = ""
    egress_selector: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a part of the user comes from: a claim, with a prefix, or an expression. ``prefix`` is None if not set."""

    claim: str = ""
    prefix: str | None = None
    expression: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRule:
    """A claim that must have a value, or an expression over claims that must be true."""

    claim: str = ""
    required_value: str = ""
    expression: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRule:
    """An expression over the user that must be true."""

    expression: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraSource:
    """One key of the user's extra values."""

    key: str = ""
    expression: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtAuthenticator:
    """One entry of ``jwt``."""

    issuer: Issuer
    claim_rules: tuple[ClaimRule, ...] = ()
    username: Source = Source()
    groups: Source = Source()
    uid: Source = Source()
    extra: tuple[ExtraSource, ...] = ()
    user_rules: tuple[UserRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Anonymous:
    """Who shows no credentials. With ``paths``, only requests for exactly these are let in."""

    enabled: bool = False
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationConfiguration:
    """``anonymous`` is None where the file says nothing of it."""

    jwt: tuple[JwtAuthenticator, ...] = ()
    anonymous: Anonymous | None = None


_SOURCE = {"claim": str, "prefix": str, "expression": str}
_SHAPE: dict[str, Any] = {
    "apiVersion": str,
    "kind": str,
    "jwt": [
        {
            "issuer": {
                "url": str,
                "discoveryURL": str,
                "certificateAuthority": str,
                "audiences": [str],
                "audienceMatchPolicy": str,
                "egressSelectorType": str,
            },
            "claimValidationRules": [{"claim": str, "requiredValue": str, "expression": str, "message": str}],
            "claimMappings": {
                "username": _SOURCE,
                "groups": _SOURCE,
                "uid": {"claim": str, "expression": str},
                "extra": [{"key": str, "valueExpression": str}],
            },
            "userValidationRules": [{"expression": str, "message": str}],
        }
    ],
    "anonymous": {"enabled": bool, "conditions": [{"path": str}]},
}
_NAMES = {str: "a string", bool: "a boolean"}


def parse(text: bytes) -> AuthenticationConfiguration:
    """The configuration in YAML or JSON. Raises ConfigInvalid for what is not of its form."""
    if not text:
        raise ConfigInvalid("empty config data")
    loader = _Loader(text)
    try:
        loaded = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigInvalid(f"error converting YAML to JSON: {error}") from error
    finally:
        loader.dispose()
    if not isinstance(loaded, dict):
        raise ConfigInvalid(f"must be an object of kind {KIND}")
    version, kind = loaded.get("apiVersion"), loaded.get("kind")
    if version not in VERSIONS or kind != KIND:
        known = ", ".join(VERSIONS)
        told = f'no kind "{kind or ""}" is registered for version "{version or ""}"'
        raise ConfigInvalid(f"{told}; known are {KIND} of {known}")
    problems = [*loader.duplicates, *_strange(loaded, _SHAPE, "")]
    if problems:
        raise ConfigInvalid(f"strict decoding error: {', '.join(problems)}")
    return _read(loaded)


class _Loader(yaml.SafeLoader):
    """Tells of keys that are there twice; the last one would silently win."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.duplicates: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                self.duplicates.append(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _strange(value: Any, shape: Any, path: str) -> Iterator[str]:
    """What is unknown, or of another type; null is as good as nothing, as in Go."""
    if value is None:
        return
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"{path}: must be an object"
            return
        for key, part in value.items():
            at = f"{path}.{key}" if path else str(key)
            if key in shape:
                yield from _strange(part, shape[key], at)
            else:
                yield f'unknown field "{at}"'
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{path}: must be a list"
            return
        for number, part in enumerate(value):
            yield from _strange(part, shape[0], f"{path}[{number}]")
    elif not isinstance(value, shape):
        yield f"{path}: must be {_NAMES[shape]}"


def _read(loaded: dict[str, Any]) -> AuthenticationConfiguration:
    anonymous = loaded.get("anonymous")
    return AuthenticationConfiguration(
        jwt=tuple(_authenticator(one or {}) for one in loaded.get("jwt") or ()),
        anonymous=None
        if anonymous is None
        else Anonymous(
            enabled=bool(anonymous.get("enabled")),
            paths=tuple((one or {}).get("path") or "" for one in anonymous.get("conditions") or ()),
        ),
    )


def _authenticator(one: dict[str, Any]) -> JwtAuthenticator:
    issuer, mappings = one.get("issuer") or {}, one.get("claimMappings") or {}
    return JwtAuthenticator(
        issuer=Issuer(
            url=issuer.get("url") or "",
            discovery_url=issuer.get("discoveryURL") or "",
            certificate_authority=issuer.get("certificateAuthority") or "",
            audiences=tuple(audience or "" for audience in issuer.get("audiences") or ()),
            audience_match_policy=issuer.get("audienceMatchPolicy") or "",
            egress_selector=issuer.get("egressSelectorType") or "",
        ),
        claim_rules=tuple(
            ClaimRule(
                claim=rule.get("claim") or "",
                required_value=rule.get("requiredValue") or "",
                expression=rule.get("expression") or "",
                message=rule.get("message") or "",
            )
            for rule in _each(one, "claimValidationRules")
        ),
        username=_source(mappings.get("username")),
        groups=_source(mappings.get("groups")),
        uid=_source(mappings.get("uid")),
        extra=tuple(
            ExtraSource(key=extra.get("key") or "", expression=extra.get("valueExpression") or "")
            for extra in _each(mappings, "extra")
        ),
        user_rules=tuple(
            UserRule(expression=rule.get("expression") or "", message=rule.get("message") or "")
            for rule in _each(one, "userValidationRules")
        ),
    )


def _each(holder: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    return (one or {} for one in holder.get(key) or ())


def _source(found: dict[str, Any] | None) -> Source:
    found = found or {}
    return Source(claim=found.get("claim") or "", prefix=found.get("prefix"), expression=found.get("expression") or "")
