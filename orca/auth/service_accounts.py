"""ServiceAccount tokens: JWTs bound to an account and, usually, to a pod, secret or node that must still exist.

Reference: k8s.io/kubernetes ``pkg/serviceaccount`` and ``pkg/registry/core/serviceaccount/storage/token.go``.
"""

import base64
import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from orca.api.builtin import NODES, PODS, SECRETS, SERVICEACCOUNTS
from orca.api.errors import ApiError, FieldError, conflict, invalid_kind, not_found
from orca.api.legacytokens import INVALID_SINCE, SECRET_TYPE
from orca.api.objects import Obj, labels, meta, name, namespace, uid
from orca.api.resources import Resource
from orca.api.times import format_time, parse_time
from orca.auth.identity import SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNTS, Reader, UserInfo
from orca.auth.tokencache import TokenCacheStats
from orca.client.clock import Clock, SystemClock

ISSUER = "https://kubernetes.default.svc.cluster.local"
MIN_SECONDS = 600
MAX_SECONDS = 1 << 32
DEFAULT_SECONDS = 3600
_REMEMBERED = 4096
# A pod that is being deleted keeps its identity until the grace is over, and a little longer.
_LINGER = timedelta(seconds=60)
_CLAIM = "kubernetes.io"
_EXTRA = "authentication.kubernetes.io/"
_BOUND = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}


@dataclass(frozen=True, slots=True)
class Keys:
    """The signing key, all keys that verify (by key id), and the issuer."""

    private: rsa.RSAPrivateKey
    public: dict[str, rsa.RSAPublicKey]
    key_id: str
    issuer: str = ISSUER
    audiences: tuple[str, ...] = (ISSUER,)

    @classmethod
    def load(cls, private: Path, further: Sequence[Path] = (), audiences: tuple[str, ...] = ()) -> "Keys":
        """From PEM files; ``further`` are public keys of earlier signers. ``audiences`` are this API's names, the
        issuer if there are none. Raises OSError, ValueError."""
        key = serialization.load_pem_private_key(private.read_bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"{private} is no RSA key")
        public = {key_id_of(key.public_key()): key.public_key()}
        for path in further:
            other = serialization.load_pem_public_key(path.read_bytes())
            if isinstance(other, rsa.RSAPublicKey):
                public[key_id_of(other)] = other
        return cls(key, public, key_id_of(key.public_key()), ISSUER, audiences or (ISSUER,))

    def jwks(self) -> Obj:
        """The public keys as served at ``/openid/v1/jwks``."""
        algorithm = jwt.algorithms.RSAAlgorithm
        found = []
        for key_id, key in self.public.items():
            entry: dict[str, Any] = algorithm.to_jwk(key, as_dict=True)
            entry.pop("key_ops", None)
            found.append({**entry, "use": "sig", "alg": "RS256", "kid": key_id})
        return {"keys": found}

    def discovery(self, jwks_uri: str) -> Obj:
        """The answer at ``/.well-known/openid-configuration``."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }


def key_id_of(key: rsa.RSAPublicKey) -> str:
    """Hash of the public key, as upstream derives it."""
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(info).digest()).rstrip(b"=").decode()


@dataclass(slots=True)
class TokenIssuer:
    """Answers the ``token`` subresource of ServiceAccounts."""

    keys: Keys
    reader: Reader
    clock: Clock = field(default_factory=SystemClock)

    def request(self, account: Obj, body: Obj) -> Obj:
        """The ``TokenRequest`` with its status. Raises ApiError 404, 409, 422."""
        spec = dict(body.get("spec") or {})
        seconds = spec.get("expirationSeconds", DEFAULT_SECONDS)
        spec["expirationSeconds"] = seconds
        asked = [a for a in spec.get("audiences") or () if a]
        audiences = spec["audiences"] = asked or list(self.keys.audiences)
        problems = _duration_problems(seconds)
        if problems:
            raise invalid_kind("authentication.k8s.io", "TokenRequest", name(body), problems)
        claims: Obj = {
            "namespace": namespace(account),
            "serviceaccount": {"name": name(account), "uid": uid(account)},
        }
        reference = spec.get("boundObjectRef")
        if reference and self._bind(claims, account, reference).get("type") == SECRET_TYPE and not asked:
            audiences = []  # as tokens in Secrets always were: for this API, whatever it is called
        now = self.clock.now()
        ends = now + timedelta(seconds=seconds)
        token = self._sign(claims, account, audiences, now, ends)
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {
                "name": name(account),
                "namespace": namespace(account),
                "creationTimestamp": format_time(now),
            },
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": format_time(ends)},
        }

    def _sign(self, claims: Obj, account: Obj, audiences: list[str], now: datetime, ends: datetime) -> str:
        issued = int(now.timestamp())
        payload = {
            **({"aud": audiences} if audiences else {}),
            "exp": int(ends.timestamp()),
            "iat": issued,
            "iss": self.keys.issuer,
            "jti": str(uuid.uuid4()),
            _CLAIM: claims,
            "nbf": issued,
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{namespace(account)}:{name(account)}",
        }
        return jwt.encode(payload, self.keys.private, algorithm="RS256", headers={"kid": self.keys.key_id})

    def _bind(self, claims: Obj, account: Obj, reference: Obj) -> Obj:
        """Adds to the claims what the token is bound to, and returns that."""
        kind, who = reference.get("kind") or "", reference.get("name") or ""
        resource = _BOUND.get(kind)
        if resource is None:
            known = f"cannot bind token for serviceaccount {name(account)!r} to object type {kind}"
            raise ApiError(400, "BadRequest", known)
        space = "" if resource is NODES else namespace(account)
        found = self.reader.peek(resource, space, who)
        if found is None:
            raise not_found(resource, who)
        wanted = reference.get("uid")
        if wanted and wanted != uid(found):
            raise _uid_conflict(resource, who, wanted, uid(found))
        if resource is PODS:
            self._bind_pod(claims, account, found)
        claims[kind.lower()] = {"name": who, "uid": uid(found)}
        return found

    def _bind_pod(self, claims: Obj, account: Obj, pod: Obj) -> None:
        spec = pod.get("spec") or {}
        if (spec.get("serviceAccountName") or "") != name(account):
            text = (
                f'cannot bind token for serviceaccount "{name(account)}" to pod running with different serviceaccount'
            )
            raise ApiError(400, "BadRequest", text)
        node_name = spec.get("nodeName")
        if node_name:
            node = self.reader.peek(NODES, "", node_name)
            claims["node"] = {"name": node_name, **({"uid": uid(node)} if node else {})}


def _sound(payload: Obj) -> bool:
    """Whether claims have the types we make: whoever holds the key may still write nonsense."""
    claims = payload.get(_CLAIM) or {}
    if not isinstance(claims, dict):
        return False
    times = (payload["exp"], payload.get("nbf", 0))
    bound = (claims.get(kind) or {} for kind in ("serviceaccount", "pod", "secret", "node"))
    return all(isinstance(one, int | float) for one in times) and all(isinstance(one, dict) for one in bound)


def _uid_conflict(resource: Resource, who: str, wanted: str, found: str) -> ApiError:
    return conflict(
        resource,
        who,
        f"the UID in the bound object reference ({wanted}) does not match the UID in record. "
        f"The object might have been deleted and then recreated ({found})",
    )


def _duration_problems(seconds: Any) -> list[FieldError]:
    path = "spec.expirationSeconds"
    if seconds < MIN_SECONDS:
        return [FieldError.invalid(path, seconds, "may not specify a duration less than 10 minutes")]
    if seconds > MAX_SECONDS:
        return [FieldError.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")]
    return []


class ServiceAccountTokens:
    """Verifies tokens; the signature once, what they are bound to every time."""

    def __init__(
        self, keys: Keys, reader: Reader, clock: Clock | None = None, stats: TokenCacheStats | None = None
    ) -> None:
        self._keys = keys
        self._reader = reader
        self._clock = clock or SystemClock()
        self._stats = stats or TokenCacheStats()
        self._verified: dict[str, Obj] = {}
        self.used: Callable[[Obj], None] = lambda _: None
        """Hears of each Secret whose token was shown."""

    def identify(self, token: str) -> UserInfo | None:
        """A token for this API server."""
        found = self.review(token, self._keys.audiences)
        return found[0] if found else None

    def unseen(self, token: str) -> bool:
        """Whether we made the token, but what it is bound to is not to be seen: another server may have been told of
        that a moment ago, so that it is worth to look again when the cache has come up with it."""
        payload = self._payload(token)
        return payload is not None and self._user(payload) is None

    def review(self, token: str, audiences: Sequence[str]) -> tuple[UserInfo, list[str]] | None:
        """(user, the audiences both sides know) of a token meant for any of ``audiences``."""
        payload = self._payload(token)
        if payload is None:
            return None
        said = payload.get("aud")
        meant = [said] if isinstance(said, str) else list(said or ())
        if said is None and (payload.get(_CLAIM) or {}).get("secret"):
            meant = list(self._keys.audiences)
        common = [audience for audience in audiences if audience in meant]
        now = self._clock.now().timestamp()
        if not common or now >= payload["exp"] or now + 60 < payload.get("nbf", 0):
            return None
        user = self._user(payload)
        return (user, common) if user else None

    def _payload(self, token: str) -> Obj | None:
        found = self._verified.get(token)
        if found is not None:
            self._stats.hits += 1
            return found
        if token.count(".") != 2:
            return None
        began = self._clock.monotonic()
        found = self._verify(token)
        self._stats.fetched(self._clock.monotonic() - began, found is not None)
        if found is None:
            return None
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[token] = found
        return found

    def _verify(self, token: str) -> Obj | None:
        """The claims of a token that one of our keys has signed."""
        try:
            key = self._keys.public.get(jwt.get_unverified_header(token).get("kid") or "")
            if key is None:
                return None
            # Times are judged on every use, by our clock.
            found: Obj = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                issuer=self._keys.issuer,
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "require": ["exp", "iss", "sub"],
                },
            )
        except jwt.PyJWTError:
            return None
        return found if _sound(found) else None

    def _user(self, payload: Obj) -> UserInfo | None:
        claims = payload.get(_CLAIM) or {}
        space, account = claims.get("namespace") or "", claims.get("serviceaccount") or {}
        who = account.get("name") or ""
        if payload["sub"] != f"{SERVICE_ACCOUNT_PREFIX}{space}:{who}":
            return None
        if not self._lives(SERVICEACCOUNTS, space, account):
            return None
        extra = {f"{_EXTRA}credential-id": (f"JTI={payload['jti']}",)} if payload.get("jti") else {}
        for kind, resource in (("secret", SECRETS), ("pod", PODS), ("node", NODES)):
            bound = claims.get(kind)
            if not bound:
                continue
            # A pod's token names its node for information; only a token bound to the node alone dies with it.
            informative = kind == "node" and "pod" in claims
            if not informative and not self._lives(resource, "" if kind == "node" else space, bound):
                return None
            if kind == "secret":
                secret = self._reader.peek(SECRETS, space, bound.get("name") or "") or {}
                if secret.get("type") == SECRET_TYPE:
                    self.used(secret)
                    if labels(secret).get(INVALID_SINCE):
                        return None  # nobody used it for a year
            else:
                extra[f"{_EXTRA}{kind}-name"] = (bound.get("name") or "",)
                if bound.get("uid"):
                    extra[f"{_EXTRA}{kind}-uid"] = (bound["uid"],)
        groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{space}")
        return UserInfo(payload["sub"], account.get("uid") or "", groups, extra)

    def _lives(self, resource: Resource, space: str, bound: Obj) -> bool:
        found = self._reader.peek(resource, space, bound.get("name") or "")
        if found is None or (bound.get("uid") and bound["uid"] != uid(found)):
            return False
        going = meta(found).get("deletionTimestamp")
        return not going or self._clock.now() < parse_time(going) + _LINGER
