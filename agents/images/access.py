"""Who may use an image that is here already: the policy, and what it is decided by. Pure.

Upstream: KEP 2535, ``imagePullCredentialsVerificationPolicy`` and ``preloadedImagesVerificationAllowlist``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agents.runtime.errors import InvalidReference
from agents.runtime.references import parse_reference

NEVER_VERIFY = "NeverVerify"
PRELOADED = "NeverVerifyPreloadedImages"
ALLOWLISTED = "NeverVerifyAllowlistedImages"
ALWAYS_VERIFY = "AlwaysVerify"
MOST_SECRETS = 100
"""Secrets found to match are noted with a record up to this many."""


@dataclass(frozen=True, slots=True)
class Verification:
    """When a pod must show that its own credentials can pull an image that is present."""

    policy: str = PRELOADED
    allowlist: tuple[str, ...] = ()
    """Repositories, or prefixes that end in ``/*``."""

    def required(self, image: str, *, pulled_by_us: bool) -> bool:
        if self.policy == NEVER_VERIFY:
            return False
        if self.policy == PRELOADED:
            return pulled_by_us
        return not (self.policy == ALLOWLISTED and self._allowed(image))

    def _allowed(self, image: str) -> bool:
        try:
            name = repository_of(image)
        except InvalidReference:
            return False
        return any(name.startswith(one[:-1]) if one.endswith("/*") else name == one for one in self.allowlist)


def pattern_problem(pattern: str) -> str:
    """What is wrong with an entry of the allow list; "" for a good one."""
    if pattern != pattern.strip():
        return "has spaces around it"
    prefix = pattern[:-1] if pattern.endswith("/*") else ""
    if "*" in (prefix or pattern):
        return "may have * only as a last part of its path"
    if prefix:
        return "" if len(prefix) > 1 else "names no registry"
    try:
        plain = repository_of(pattern)
    except InvalidReference as error:
        return f"is no image name: {error}"
    return "" if plain == pattern else f"is not the full name of a repository without tag and digest, as {plain} is"


def repository_of(image: str) -> str:
    """``docker.io/library/nginx``: what credentials and records are looked up by. Raises ``InvalidReference``."""
    parsed = parse_reference(image)
    return f"{parsed.domain}/{parsed.path}"


@dataclass(frozen=True, slots=True)
class SecretUse:
    """A login that came out of a Secret: which one, and a hash of what it said."""

    uid: str
    namespace: str
    name: str
    digest: str

    def same_secret(self, other: SecretUse) -> bool:
        return (self.uid, self.namespace, self.name) == (other.uid, other.namespace, other.name)


@dataclass(frozen=True, slots=True)
class Access:
    """Who pulled from one repository: anybody on the node could (``node``), or owners of these secrets."""

    node: bool = False
    secrets: tuple[SecretUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """An image this agent pulled. ``by_repository`` is empty for one that came in unknown circumstances (a crash):
    everybody has to prove access again."""

    image_id: str
    updated: datetime
    by_repository: dict[str, Access] = field(default_factory=dict)


def merge(record: Record | None, image_id: str, repository: str, access: Access | None, now: datetime) -> Record:
    """The record after another pull; the same object when that adds nothing."""
    if record is None:
        return Record(image_id, now, {repository: access} if access else {})
    if access is None:
        return record
    known = record.by_repository.get(repository)
    if known is None:
        merged = access
    elif known.node or access.node:
        merged = Access(node=True)
    else:
        kept = [one for one in known.secrets if not any(one.same_secret(new) for new in access.secrets)]
        merged = Access(secrets=tuple(sorted({*kept, *access.secrets}, key=lambda one: (one.namespace, one.name))))
    if merged == known:
        return record
    return Record(image_id, now, {**record.by_repository, repository: merged})


def grants(record: Record | None, repository: str, logins: Sequence[SecretUse]) -> SecretUse | bool | None:
    """Whether a record lets a pod with these logins use the image: True, False, or the login that does and is worth
    noting because secret or content are new."""
    access = record.by_repository.get(repository) if record is not None else None
    if access is None:
        return False
    if access.node:
        return True
    for login in logins:
        for known in access.secrets:
            same_content = bool(known.digest) and known.digest == login.digest
            same_secret = known.same_secret(login)
            if same_content and same_secret:
                return True
            if same_content or same_secret:
                # A secret that was changed keeps its rights: who may write it could pull before.
                return login if len(access.secrets) < MOST_SECRETS else True
    return False


def to_json(record: Record) -> dict[str, Any]:
    """As upstream writes an ``ImagePulledRecord``."""
    mapping: dict[str, Any] = {}
    for repository, access in record.by_repository.items():
        if access.node:
            mapping[repository] = {"nodePodsAccessible": True}
        else:
            mapping[repository] = {
                "kubernetesSecrets": [
                    {"uid": one.uid, "namespace": one.namespace, "name": one.name, "credentialHash": one.digest}
                    for one in access.secrets
                ]
            }
    return {
        "kind": "ImagePulledRecord",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "lastUpdatedTime": record.updated.isoformat(),
        "imageRef": record.image_id,
        "credentialMapping": mapping,
    }


def from_json(raw: dict[str, Any]) -> Record:
    """Raises KeyError, TypeError or ValueError for what :func:`to_json` did not write."""
    mapping = {}
    for repository, access in raw["credentialMapping"].items():
        secrets = tuple(
            SecretUse(one["uid"], one["namespace"], one["name"], one["credentialHash"])
            for one in access.get("kubernetesSecrets") or ()
        )
        mapping[repository] = Access(bool(access.get("nodePodsAccessible")), secrets)
    return Record(raw["imageRef"], datetime.fromisoformat(raw["lastUpdatedTime"]), mapping)
