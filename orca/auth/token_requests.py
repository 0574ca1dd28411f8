"""Tokens for ServiceAccounts: what a TokenRequest is answered with.

Reference: k8s.io/kubernetes ``pkg/registry/core/serviceaccount/storage/token.go`` and ``pkg/serviceaccount/claims.go``.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt

from orca.api.builtin import NODES, PODS, SECRETS
from orca.api.errors import ApiError, FieldError, bad_request, conflict, conflict_kind, invalid_kind, not_found
from orca.api.legacytokens import SECRET_TYPE
from orca.api.objects import Obj, meta, name, namespace, uid
from orca.api.times import format_time
from orca.auth.identity import SERVICE_ACCOUNT_PREFIX, Reader
from orca.auth.service_accounts import CLAIM, EXTRA, ISSUER, Keys
from orca.client.clock import Clock, SystemClock

MIN_SECONDS = 600
MAX_SECONDS = 1 << 32
DEFAULT_SECONDS = 3600
POD_SECONDS = 3607
"""What admission asks for the tokens that it mounts into pods; nobody else is likely to ask for just this."""
EXTENDED_SECONDS = 365 * 24 * 3600
_GROUP, _KIND = "authentication.k8s.io", "TokenRequest"
_ISSUED = f"{EXTRA}issued-credential-id"
_BOUND = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """``longest`` seconds is what a token may live at most, 0: no limit; those that Secrets keep end with them.
    ``extended`` tokens of pods live on for a year after their time, for programs that read them only once; kubelets
    exchange them in time all the same."""

    longest: int = 0
    extended: bool = True


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What a server is told of its tokens: of ``issuers`` the first one's are made, and those of all are taken. Others
    are told to read the keys at ``jwks_uri``, at this server when it is empty. Beside the key that signs, those of
    ``key_files`` verify."""

    issuers: tuple[str, ...] = (ISSUER,)
    jwks_uri: str = ""
    key_files: tuple[Path, ...] = ()
    lifetimes: Lifetimes = Lifetimes()


@dataclass(slots=True)
class Told:
    """What is told beside the answer: ``warnings`` to the client, ``notes`` to the audit log."""

    warnings: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class TokenIssuer:
    """Answers the ``token`` subresource of ServiceAccounts."""

    keys: Keys
    reader: Reader
    clock: Clock = field(default_factory=SystemClock)
    lifetimes: Lifetimes = Lifetimes()

    def request(self, account: Obj, body: Obj, told: Told | None = None) -> Obj:
        """The ``TokenRequest`` with its status. Raises ApiError 400, 404, 409, 422."""
        told = told or Told()
        spec = dict(body.get("spec") or {})
        seconds = spec.setdefault("expirationSeconds", DEFAULT_SECONDS)
        asked = [a for a in spec.get("audiences") or () if a]
        audiences = spec["audiences"] = asked or list(self.keys.audiences)
        wanted = meta(body).get("uid")
        if wanted and wanted != uid(account):
            text = f"the UID in the token request ({wanted}) does not match the UID of the service account"
            raise conflict_kind(_GROUP, _KIND, name(account), f"{text} ({uid(account)})")
        problems = _duration_problems(seconds)
        if problems:
            raise invalid_kind(_GROUP, _KIND, name(body), problems)
        claims: Obj = {
            "namespace": namespace(account),
            "serviceaccount": {"name": name(account), "uid": uid(account)},
        }
        reference = spec.get("boundObjectRef")
        bound = self._bind(claims, account, reference) if reference is not None else {}
        kept = bound.get("type") == SECRET_TYPE and not asked
        if kept:
            audiences = []  # as tokens in Secrets always were: for this API, whatever it is called
        longest = self.lifetimes.longest
        if longest and seconds > longest and not kept:  # and without end: nobody makes another one
            told.warnings.append(f"requested expiration of {seconds} seconds shortened to {longest} seconds")
            seconds = spec["expirationSeconds"] = longest
        now = self.clock.now()
        lives = seconds
        if self._extends(claims, seconds, audiences):
            lives = EXTENDED_SECONDS
            claims["warnafter"] = int(now.timestamp()) + seconds
        serial = str(uuid.uuid4())
        token = self._sign(claims, account, audiences, serial, now, now + timedelta(seconds=lives))
        told.notes[_ISSUED] = f"JTI={serial}"
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": _KIND,
            "metadata": {
                **meta(body),
                "name": name(account),
                "namespace": namespace(account),
                "uid": uid(account),
                "creationTimestamp": format_time(now),
            },
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": format_time(now + timedelta(seconds=seconds))},
        }

    def _extends(self, claims: Obj, seconds: int, audiences: Sequence[str]) -> bool:
        ours = bool(audiences) and set(audiences) <= set(self.keys.audiences)
        return self.lifetimes.extended and "pod" in claims and seconds == POD_SECONDS and ours

    def _sign(self, claims: Obj, account: Obj, audiences: list[str], serial: str, now: datetime, ends: datetime) -> str:
        issued = int(now.timestamp())
        payload = {
            **({"aud": audiences} if audiences else {}),
            "exp": int(ends.timestamp()),
            "iat": issued,
            "iss": self.keys.issuer,
            "jti": serial,
            CLAIM: claims,
            "nbf": issued,
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{namespace(account)}:{name(account)}",
        }
        return jwt.encode(payload, self.keys.private, algorithm="RS256", headers={"kid": self.keys.key_id})

    def _bind(self, claims: Obj, account: Obj, reference: Obj) -> Obj:
        """Adds to the claims what the token is bound to, and returns that."""
        kind, who = reference.get("kind") or "", reference.get("name") or ""
        group, _, version = (reference.get("apiVersion") or "").rpartition("/")
        resource = _BOUND.get(kind) if not group else None
        if resource is None:
            raise bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        space = "" if resource is NODES else namespace(account)
        found = self.reader.peek(resource, space, who)
        if found is None:
            raise not_found(resource, who)
        if resource is PODS:
            self._bind_pod(claims, account, found)
        wanted = reference.get("uid")
        if wanted and wanted != uid(found):
            text = f"the UID in the bound object reference ({wanted}) does not match the UID in record"
            raise conflict(
                resource, who, f"{text}. The object might have been deleted and then recreated ({uid(found)})"
            )
        claims[kind.lower()] = {"name": who, "uid": uid(found)}
        return found

    def _bind_pod(self, claims: Obj, account: Obj, pod: Obj) -> None:
        spec = pod.get("spec") or {}
        if (spec.get("serviceAccountName") or "") != name(account):
            text = "to pod running with different serviceaccount name."
            raise ApiError(400, "BadRequest", f'cannot bind token for serviceaccount "{name(account)}" {text}')
        node_name = spec.get("nodeName")
        if node_name:
            node = self.reader.peek(NODES, "", node_name)
            claims["node"] = {"name": node_name, **({"uid": uid(node)} if node else {})}


def _duration_problems(seconds: Any) -> list[FieldError]:
    path = "spec.expirationSeconds"
    if seconds < MIN_SECONDS:
        return [FieldError.invalid(path, seconds, "may not specify a duration less than 10 minutes")]
    if seconds > MAX_SECONDS:
        return [FieldError.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")]
    return []
