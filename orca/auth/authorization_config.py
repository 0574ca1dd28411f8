"""``AuthorizationConfiguration`` (apiserver.config.k8s.io): parsed strictly, checked as kube-apiserver checks it.

Reference: k8s.io/kubernetes ``pkg/kubeapiserver/authorizer``, k8s.io/apiserver ``pkg/apis/apiserver/validation``.
Paths in errors are upstream's, which leaves out ``webhook`` in those of its fields.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orca.api.durations import parse_nanoseconds
from orca.api.errors import FieldError
from orca.api.names import dns1123_subdomain
from orca.api.objects import Obj
from orca.auth.authorization import MODES
from orca.auth.webhook.asking import Settings
from orca.auth.webhook.review import VERSIONS

KIND = "AuthorizationConfiguration"
API_VERSIONS = tuple(f"apiserver.config.k8s.io/{version}" for version in ("v1alpha1", "v1beta1", "v1"))
WEBHOOK = "Webhook"
_SECOND = 10**9
_MOST_TIMEOUT = 30 * _SECOND
_MOST_CONDITIONS = 64
_TTLS = {"authorizedTTL": 300 * _SECOND, "unauthorizedTTL": 30 * _SECOND}
_FILE = "KubeConfigFile"

_TOP = {"apiVersion": str, "kind": str, "authorizers": list}
_AUTHORIZER = {"type": str, "name": str, "webhook": dict}
_WEBHOOK = {
    "timeout": str,
    "authorizedTTL": str,
    "cacheAuthorizedRequests": bool,
    "unauthorizedTTL": str,
    "cacheUnauthorizedRequests": bool,
    "subjectAccessReviewVersion": str,
    "matchConditionSubjectAccessReviewVersion": str,
    "failurePolicy": str,
    "connectionInfo": dict,
    "matchConditions": list,
}
_CONNECTION = {"type": str, "kubeConfigFile": str}
_CONDITION = {"expression": str}
_SPOKEN = {str: "string", bool: "bool", list: "array", dict: "object"}


class ConfigInvalid(ValueError):
    """The configuration cannot be used; the message lists every problem with its field."""


@dataclass(frozen=True, slots=True)
class Configured:
    """One authorizer. ``webhook`` is there where ``kind`` is Webhook."""

    kind: str
    name: str
    webhook: Settings | None = None


@dataclass(frozen=True, slots=True)
class AuthorizationConfig:
    """All of them, in order."""

    authorizers: tuple[Configured, ...]

    @property
    def local_kinds(self) -> frozenset[str]:
        """The types that are no webhooks."""
        return frozenset(one.kind for one in self.authorizers if one.kind != WEBHOOK)


def of_modes(modes: Iterable[str], webhook: Settings | None = None) -> AuthorizationConfig:
    """Of ``--authorization-mode``."""
    return AuthorizationConfig(
        tuple(
            Configured(mode, webhook.name, webhook) if mode == WEBHOOK and webhook else Configured(mode, mode.lower())
            for mode in modes
        )
    )


def parse_config(text: str | bytes, required: Iterable[str] = ()) -> AuthorizationConfig:
    """Of a file's content, in which the types ``required`` must be. Raises ConfigInvalid."""
    loaded = _loaded(text)
    problems = list(_strange(loaded, _TOP, ""))
    for i, one in enumerate(_items(loaded, "authorizers")):
        problems += _shape(one, f"authorizers[{i}]")
    if problems:
        raise _unloadable(f"strict decoding error: {', '.join(problems)}")
    errors = list(_check(loaded))
    if errors:
        raise _all(list(map(str, errors)))
    authorizers = tuple(_configured(one) for one in loaded["authorizers"])
    texts = [
        f"expected name {one.kind.lower()} for authorizer {one.kind} instead of {one.name}"
        for one in authorizers
        if one.kind != WEBHOOK and one.name != one.kind.lower()
    ]
    config = AuthorizationConfig(authorizers)
    missing = sorted(set(required) - config.local_kinds)
    if missing:
        texts.append(f"missing required types: [{' '.join(missing)}]")
    if texts:
        raise _all(texts)
    return config


def _all(texts: list[str]) -> ConfigInvalid:
    return ConfigInvalid(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _unloadable(why: str) -> ConfigInvalid:
    return ConfigInvalid(f"failed to load {KIND} from file: {why}")


# -- its shape


def _loaded(text: str | bytes) -> Obj:
    try:
        loaded = yaml.load(text, Loader=_OnceOnly)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unloadable(f"error converting YAML to JSON: {error}") from None
    if not loaded:
        raise _unloadable("empty config data")
    if not isinstance(loaded, dict):
        raise _unloadable(f"json: cannot unmarshal {type(loaded).__name__} into Go value of type {KIND}")
    for field in ("kind", "apiVersion"):
        if not loaded.get(field):
            raise _unloadable(f"Object '{field[0].upper()}{field[1:]}' is missing")
    if loaded["kind"] != KIND or loaded["apiVersion"] not in API_VERSIONS:
        raise _unloadable(f'no kind "{loaded["kind"]}" is registered for version "{loaded["apiVersion"]}"')
    return loaded


class _OnceOnly(yaml.CSafeLoader):
    """Refuses a key that is there twice: one of the values would be left out without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                where = f"line {key_node.start_mark.line + 1}"
                raise yaml.YAMLError(f'{where}: key "{key_node.value}" already set in map')
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _strange(found: Any, known: Mapping[str, type], path: str) -> Iterator[str]:
    """Fields nobody knows, and values that are not of a field's type."""
    if not isinstance(found, dict):
        yield f'json: cannot unmarshal {_go_type(found)} into Go struct field "{path}" of type object'
        return
    for name, value in found.items():
        at = f"{path}.{name}" if path else str(name)
        if name not in known:
            yield f'unknown field "{at}"'
        elif value is not None and not isinstance(value, known[name]):
            yield f'json: cannot unmarshal {_go_type(value)} into Go struct field "{at}" of type {_SPOKEN[known[name]]}'


def _shape(one: Any, path: str) -> Iterator[str]:
    yield from _strange(one, _AUTHORIZER, path)
    webhook = one.get("webhook") if isinstance(one, dict) else None
    if not isinstance(webhook, dict):
        return
    at = f"{path}.webhook"
    yield from _strange(webhook, _WEBHOOK, at)
    if isinstance(webhook.get("connectionInfo"), dict):
        yield from _strange(webhook["connectionInfo"], _CONNECTION, f"{at}.connectionInfo")
    for i, condition in enumerate(_items(webhook, "matchConditions")):
        yield from _strange(condition, _CONDITION, f"{at}.matchConditions[{i}]")
    for field in ("timeout", *_TTLS):
        value = webhook.get(field)
        try:
            parse_nanoseconds(value if value and isinstance(value, str) else "0")
        except ValueError as error:
            yield f"{at}.{field}: {error}"


def _items(found: Obj, field: str) -> list[Any]:
    items = found.get(field)
    return items if isinstance(items, list) else []


def _go_type(value: Any) -> str:
    return _SPOKEN.get(type(value), "number" if isinstance(value, int | float) else "null")


# -- its meaning


def _check(config: Obj) -> Iterator[FieldError]:
    authorizers = config.get("authorizers") or []
    if not authorizers:
        yield FieldError.required("authorizers", "at least one authorization mode must be defined")
    kinds: set[str] = set()
    names: set[str] = set()
    for i, one in enumerate(authorizers):
        path, kind, name = f"authorizers[{i}]", one.get("type") or "", one.get("name") or ""
        if not kind:
            yield FieldError.required(f"{path}.type")
            continue
        if kind not in MODES:
            yield FieldError.not_supported(f"{path}.type", kind, MODES)
            continue
        if kind in kinds and kind != WEBHOOK:
            yield FieldError.duplicate(f"{path}.type", kind)
            continue
        kinds.add(kind)
        yield from _name(name, names, f"{path}.name")
        names.add(name)
        webhook = one.get("webhook")
        if kind != WEBHOOK:
            if webhook is not None:
                yield FieldError.invalid(f"{path}.webhook", "non-null", "may only be specified when type=Webhook")
        elif webhook is None:
            yield FieldError.required(f"{path}.webhook", "required when type=Webhook")
        else:
            yield from _webhook(webhook, path)


def _name(name: str, taken: set[str], path: str) -> Iterator[FieldError]:
    if not name:
        yield FieldError.required(path)
    elif name in taken:
        yield FieldError.duplicate(path, name)
    elif wrong := dns1123_subdomain(name):
        yield FieldError.invalid(path, name, f"authorizer name is invalid: {', '.join(wrong)}")


def _webhook(webhook: Obj, path: str) -> Iterator[FieldError]:
    timeout = parse_nanoseconds(webhook.get("timeout") or "0")
    if not timeout:
        yield FieldError.required(f"{path}.timeout")
    elif not 0 < timeout <= _MOST_TIMEOUT:
        yield FieldError.invalid(f"{path}.timeout", webhook["timeout"], "must be > 0s and <= 30s")
    for field in _TTLS:
        if parse_nanoseconds(webhook.get(field) or "0") < 0:
            yield FieldError.invalid(f"{path}.{field}", webhook[field], "must be > 0s")
    yield from _one_of(webhook, "subjectAccessReviewVersion", VERSIONS, path)
    conditions = webhook.get("matchConditions") or []
    at = "matchConditionSubjectAccessReviewVersion"
    if webhook.get(at):
        yield from _one_of(webhook, at, ("v1",), path)
    elif conditions:
        yield FieldError.required(f"{path}.{at}", "required if match conditions are specified")
    yield from _one_of(webhook, "failurePolicy", ("NoOpinion", "Deny"), path)
    yield from _connection(webhook.get("connectionInfo") or {}, f"{path}.connectionInfo")
    yield from _conditions(conditions, f"{path}.matchConditions")


def _one_of(webhook: Obj, field: str, known: tuple[str, ...], path: str) -> Iterator[FieldError]:
    value = webhook.get(field) or ""
    if not value:
        yield FieldError.required(f"{path}.{field}")
    elif value not in known:
        yield FieldError.not_supported(f"{path}.{field}", value, known)


def _connection(connection: Obj, path: str) -> Iterator[FieldError]:
    kind, file = connection.get("type") or "", connection.get("kubeConfigFile")
    if not kind:
        yield FieldError.required(f"{path}.type")
    elif kind == "InClusterConfig":
        # For other servers that use this file; an API server would ask itself.
        yield FieldError.invalid(f"{path}.type", kind, "is not allowed for kube-apiserver")
    elif kind != _FILE:
        yield FieldError.not_supported(f"{path}.type", kind, ("InClusterConfig", _FILE))
    elif not file:
        yield FieldError.required(f"{path}.kubeConfigFile")
    elif why := _unusable(Path(file)):
        yield FieldError.invalid(f"{path}.kubeConfigFile", file, why)


def _unusable(file: Path) -> str:
    if not file.is_absolute():
        return "must be an absolute path"
    try:
        mode = file.stat().st_mode
    except OSError as error:
        return f"error loading file: stat {file}: {(error.strerror or str(error)).lower()}"
    return "" if stat.S_ISREG(mode) else "must be a regular file"


def _conditions(conditions: list[Any], path: str) -> Iterator[FieldError]:
    if len(conditions) > _MOST_CONDITIONS:
        yield FieldError.too_many(path, len(conditions), _MOST_CONDITIONS)
        return
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        at, expression = f"{path}[{i}].expression", condition.get("expression") or ""
        if not expression.strip():
            yield FieldError.required(at)
            continue
        if expression in seen:
            yield FieldError.duplicate(at, expression)
            continue
        seen.add(expression)
        from orca.auth.webhook.conditions import problem_of  # with all of CEL, which a server without conditions spares

        if problem := problem_of(expression):
            yield FieldError.invalid(at, expression, problem)


def _configured(one: Obj) -> Configured:
    kind, name, webhook = one["type"], one["name"], one.get("webhook")
    if webhook is None:
        return Configured(kind, name)
    ttls = {field: parse_nanoseconds(webhook.get(field) or "0") or default for field, default in _TTLS.items()}
    for field, cached in (
        ("authorizedTTL", "cacheAuthorizedRequests"),
        ("unauthorizedTTL", "cacheUnauthorizedRequests"),
    ):
        if webhook.get(cached) is False:
            ttls[field] = 0
    settings = Settings(
        name=name,
        kubeconfig=Path(webhook["connectionInfo"]["kubeConfigFile"]),
        timeout=parse_nanoseconds(webhook["timeout"]) / _SECOND,
        allowed_ttl=ttls["authorizedTTL"] / _SECOND,
        refused_ttl=ttls["unauthorizedTTL"] / _SECOND,
        version=webhook["subjectAccessReviewVersion"],
        deny_on_failure=webhook["failurePolicy"] == "Deny",
        conditions=tuple(one["expression"] for one in webhook.get("matchConditions") or ()),
    )
    return Configured(kind, name, settings)
