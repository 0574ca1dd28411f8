"""``EncryptionConfiguration`` (apiserver.config.k8s.io/v1): parsed strictly, checked as upstream checks it.

Secrets never appear in messages. Reference: k8s.io/apiserver ``pkg/apis/apiserver/validation``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import yaml

from orca.api.errors import FieldError
from orca.store.encryption.providers import PROVIDERS
from orca.store.encryption.transform import PLAIN, Rule, Sealer, Transform

API_VERSION = "apiserver.config.k8s.io/v1"
KIND = "EncryptionConfiguration"
_EXPECTED = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
_SEVERAL = "more than one provider specified in a single element, should split into different list elements"
_NOT_STORED = frozenset({"apiserveripinfo", "serviceipallocations", "servicenodeportallocations"})


class ConfigInvalid(ValueError):
    """The file cannot be used; the message lists every problem with its field."""


def parse_config(text: str | bytes) -> list[Rule]:
    """The rules of a file, in order. Raises ConfigInvalid."""
    try:
        loaded = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        # The error's own text quotes the line, which may hold a secret.
        raise ConfigInvalid(f"malformed YAML: {where}{getattr(error, 'problem', '') or 'cannot be parsed'}") from None
    problems = list(check(loaded))
    if problems:
        raise ConfigInvalid("; ".join(map(str, problems)))
    return [
        Rule(
            tuple(_split(name) for name in element["resources"]),
            Transform([sealer for one in element["providers"] for sealer in _sealers(one)]),
        )
        for element in loaded["resources"]
    ]


def check(config: Any) -> Iterator[FieldError]:
    """Everything that is wrong with a parsed file."""
    if not isinstance(config, dict):
        yield FieldError.invalid("", type(config).__name__, f"must be an object of kind {KIND}")
        return
    if config.get("apiVersion") != API_VERSION:
        yield FieldError.not_supported("apiVersion", config.get("apiVersion") or "", (API_VERSION,))
    if config.get("kind") != KIND:
        yield FieldError.not_supported("kind", config.get("kind") or "", (KIND,))
    yield from _unknown(config, ("apiVersion", "kind", "resources"), "")
    elements = config.get("resources")
    if not elements:
        yield FieldError.required("resources", "at least one resources is required")
    elif not isinstance(elements, list):
        yield FieldError.invalid("resources", type(elements).__name__, "must be a list")
    else:
        for i, element in enumerate(elements):
            yield from _element(element, f"resources[{i}]")


def _element(element: Any, path: str) -> Iterator[FieldError]:
    if not isinstance(element, dict):
        yield FieldError.invalid(path, type(element).__name__, "must be an object")
        return
    yield from _unknown(element, ("resources", "providers"), f"{path}.")
    at = f"{path}.resources"
    names = element.get("resources")
    if not names:
        yield FieldError.required(at, f"at least one {at} is required")
    elif not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield FieldError.invalid(at, names, "must be a list of strings")
    else:
        yield from _overlaps(names, at)
        for i, name in enumerate(names):
            why = _wrong_name(name)
            if why:
                yield FieldError.invalid(f"{at}[{i}]", name, why)
    at = f"{path}.providers"
    providers = element.get("providers")
    if not providers:
        yield FieldError.required(at, f"at least one {at} is required")
    elif not isinstance(providers, list):
        yield FieldError.invalid(at, type(providers).__name__, "must be a list")
    else:
        for i, provider in enumerate(providers):
            yield from _provider(provider, f"{at}[{i}]")


def _wrong_name(name: str) -> str:
    plural, group = _split(name)
    if name != name.lower():
        return "resource name should not contain capital letters"
    if name == "*":
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    if name in _NOT_STORED:
        return "resources which do not have REST API/s cannot be encrypted"
    if group == "events.k8s.io":
        return (
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. "
            "Use 'events' instead in the config file"
        )
    if group == "extensions":
        return "'extensions' group has been removed and cannot be used for encryption"
    if group == "*" and plural != "*":
        return "encrypting the same resource across groups is not supported"
    return ""


def _overlaps(names: list[str], path: str) -> Iterator[FieldError]:
    pairs = [_split(name) for name in names]
    if len(set(pairs)) < len(pairs):
        yield FieldError.invalid(path, names, "the same resource cannot be specified multiple times")
    distinct = set(pairs)
    groups_in_full = {group for plural, group in distinct if plural == "*"}
    masked = ("*", "*") in distinct and len(distinct) > 1
    if masked or any(group in groups_in_full for plural, group in distinct if plural != "*"):
        yield FieldError.invalid(
            path,
            names,
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they "
            "will be masked",
        )


def _provider(provider: Any, path: str) -> Iterator[FieldError]:
    if not isinstance(provider, dict) or not provider:
        yield FieldError.invalid(path, _shape(provider), _EXPECTED)
        return
    known = [name for name in (*PROVIDERS, "identity", "kms") if name in provider]
    yield from _unknown(provider, (*PROVIDERS, "identity", "kms"), f"{path}.")
    if not known:
        yield FieldError.invalid(path, _shape(provider), _EXPECTED)
    elif len(known) > 1:
        yield FieldError.invalid(path, _shape(provider), _SEVERAL)
    elif known == ["kms"]:
        text = "KMS plugins are not supported by orca; use secretbox, aesgcm, aescbc or identity"
        yield FieldError.forbidden(f"{path}.kms", text)
    elif known != ["identity"]:
        yield from _keys(provider[known[0]], f"{path}.{known[0]}", PROVIDERS[known[0]].SIZES)


def _keys(settings: Any, path: str, sizes: tuple[int, ...]) -> Iterator[FieldError]:
    keys = settings.get("keys") if isinstance(settings, dict) else None
    if not keys or not isinstance(keys, list):
        yield FieldError.required(f"{path}.keys", "at least one keys is required")
        return
    yield from _unknown(settings, ("keys",), f"{path}.")
    for i, key in enumerate(keys):
        at = f"{path}.keys[{i}]"
        if not isinstance(key, dict):
            yield FieldError.invalid(at, type(key).__name__, "must be an object with name and secret")
            continue
        yield from _unknown(key, ("name", "secret"), f"{at}.")
        if not key.get("name"):
            yield FieldError.required(f"{at}.name", "name is a mandatory field for a key")
        elif not isinstance(key["name"], str):
            yield FieldError.invalid(f"{at}.name", key["name"], "must be a string")
        secret = key.get("secret")
        if not secret:
            yield FieldError.required(f"{at}.secret", "secret is a mandatory field for a key")
            continue
        try:
            size = len(base64.b64decode(secret, validate=True)) if isinstance(secret, str) else -1
        except (binascii.Error, ValueError):
            size = -1
        if size < 0:
            yield FieldError.invalid(f"{at}.secret", "REDACTED", "secrets must be base64 encoded")
        elif size not in sizes:
            expected = " ".join(map(str, sizes))
            text = f"secret is not of the expected length, got {size}, expected one of [{expected}]"
            yield FieldError.invalid(f"{at}.secret", "REDACTED", text)


def _sealers(provider: dict[str, Any]) -> Iterator[Sealer]:
    for name, settings in provider.items():
        if name == "identity":
            yield PLAIN
            continue
        for key in settings["keys"]:
            prefix = f"k8s:enc:{name}:v1:{key['name']}:".encode()
            yield Sealer(prefix, PROVIDERS[name](base64.b64decode(key["secret"])))


def _unknown(found: dict[Any, Any], known: tuple[str, ...], path: str) -> Iterator[FieldError]:
    for name in found:
        if name not in known:
            yield FieldError.forbidden(f"{path}{name}", f"unknown field; known are {', '.join(known)}")


def _split(name: str) -> tuple[str, str]:
    """(plural, group) of ``secrets``, ``pandas.bears.example``, ``*.`` or ``*.*``."""
    plural, _, group = name.partition(".")
    return plural, group


def _shape(provider: Any) -> str:
    """A provider without its secrets, for messages."""
    return ", ".join(map(str, provider)) if isinstance(provider, dict) else type(provider).__name__
