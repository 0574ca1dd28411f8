"""``authorizer``: questions to the server's authorizer. Reference: k8s.io/apiserver ``pkg/cel/library/authz.go``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from orca.api import names
from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare, fixed
from orca.api.cel.types import Type

_ROOM = "kubernetes.authorization"
RESOURCE_CHECK = Type(f"{_ROOM}.ResourceCheck")
"""The type of ``authorizer.requestResource``."""

_CHECK_COST = 350_000  # lets one evaluation ask twice


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. ``account`` (namespace, name) asks for a service account instead of who sent the request."""

    account: tuple[str, str] | None = None
    path: str = ""
    verb: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: str = ""
    labels: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer; ``error`` when there was none."""

    allowed: bool
    reason: str = ""
    error: str = ""
    cel_type: ClassVar[str] = f"{_ROOM}.Decision"


Ask = Callable[[Question], Verdict]


@dataclass(frozen=True, slots=True, eq=False)
class Asker:
    """``authorizer``, with what is asked so far. Answers at once, never waits."""

    ask: Ask
    question: Question = Question()
    cel_type: str = f"{_ROOM}.Authorizer"


def request_resource(ask: Ask, question: Question) -> Asker:
    """The value of ``authorizer.requestResource``."""
    return Asker(ask, question, RESOURCE_CHECK.name)


def _with(asker: Asker, kind: str = "", **parts: Any) -> Asker:
    return Asker(asker.ask, replace(asker.question, **parts), f"{_ROOM}.{kind}" if kind else asker.cel_type)


def _path(asker: Asker, path: str) -> Asker:
    if not path.strip():
        raise CelError("path must not be empty")
    return _with(asker, "PathCheck", path=path)


def _account(asker: Asker, namespace: str, name: str) -> Asker:
    for what, text, wrong in (
        ("name", name, names.dns1123_subdomain(name)),
        ("namespace", namespace, names.dns1123_label(namespace)),
    ):
        if wrong:
            raise CelError(f"Invalid service account {what} {text!r}: {', '.join(wrong)}")
    return Asker(asker.ask, replace(asker.question, account=(namespace, name)), asker.cel_type)


def _resource(asker: Asker, resource: str) -> Asker:
    if not resource.strip():
        raise CelError("resource must not be empty")
    return _with(asker, "ResourceCheck", resource=resource)


def _check(asker: Asker, verb: str) -> Verdict:
    return asker.ask(replace(asker.question, verb=verb))


_R = f"{_ROOM}.ResourceCheck"
declare("path", f"{_ROOM}.Authorizer.(string) -> {_ROOM}.PathCheck", _path, fixed(1))
declare(
    "group",
    f"{_ROOM}.Authorizer.(string) -> {_ROOM}.GroupCheck",
    lambda a, g: _with(a, "GroupCheck", group=g),
    fixed(1),
)
declare("serviceAccount", f"{_ROOM}.Authorizer.(string, string) -> {_ROOM}.Authorizer", _account, fixed(1))
declare("resource", f"{_ROOM}.GroupCheck.(string) -> {_R}", _resource, fixed(1))
declare("subresource", f"{_R}.(string) -> {_R}", lambda a, text: _with(a, subresource=text), fixed(1))
declare("namespace", f"{_R}.(string) -> {_R}", lambda a, text: _with(a, namespace=text), fixed(1))
declare("name", f"{_R}.(string) -> {_R}", lambda a, text: _with(a, name=text), fixed(1))
declare("fieldSelector", f"{_R}.(string) -> {_R}", lambda a, text: _with(a, fields=text), fixed(1))
declare("labelSelector", f"{_R}.(string) -> {_R}", lambda a, text: _with(a, labels=text), fixed(1))
declare(
    "check",
    f"{_ROOM}.PathCheck.(string) -> {_ROOM}.Decision; {_R}.(string) -> {_ROOM}.Decision",
    _check,
    fixed(_CHECK_COST),
)
declare("allowed", f"{_ROOM}.Decision.() -> bool", lambda verdict: verdict.allowed, fixed(1))
declare("reason", f"{_ROOM}.Decision.() -> string", lambda verdict: verdict.reason, fixed(1))
declare("errored", f"{_ROOM}.Decision.() -> bool", lambda verdict: bool(verdict.error), fixed(1))
declare("error", f"{_ROOM}.Decision.() -> string", lambda verdict: verdict.error, fixed(1))
