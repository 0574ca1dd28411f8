"""ServiceAccount tokens: JWTs bound to an account and, usually, to a pod, secret or node that must still exist.

Reference: k8s.io/kubernetes ``pkg/serviceaccount``. They are made in :mod:`orca.auth.token_requests`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from orca.api.builtin import NODES, PODS, SECRETS, SERVICEACCOUNTS
from orca.api.legacytokens import INVALID_SINCE, SECRET_TYPE
from orca.api.objects import Obj, labels, meta, uid
from orca.api.resources import Resource
from orca.api.times import parse_time
from orca.auth.account_keys import PublicKey, algorithm_of, jwk, key_id_of, public_keys
from orca.auth.identity import SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNTS, Reader, UserInfo
from orca.auth.tokencache import TokenCacheStats
from orca.client.clock import Clock, SystemClock

ISSUER = "https://kubernetes.default.svc.cluster.local"
_REMEMBERED = 4096
# A pod that is being deleted keeps its identity until the grace is over, and a little longer.
_LINGER = timedelta(seconds=60)
CLAIM = "kubernetes.io"
"""The claim that has what only this API understands."""
EXTRA = "authentication.kubernetes.io/"
_LEGACY = "authentication.k8s.io/legacy-token"
_STALE = "authentication.k8s.io/stale-token"


@dataclass(frozen=True, slots=True)
class Keys:
    """The signing key, all keys that verify (by key id), and the issuers: the first one's tokens are made, all of
    theirs are taken."""

    private: rsa.RSAPrivateKey
    public: dict[str, PublicKey]
    key_id: str
    issuers: tuple[str, ...] = (ISSUER,)
    audiences: tuple[str, ...] = (ISSUER,)

    @property
    def issuer(self) -> str:
        """Whose tokens are made."""
        return self.issuers[0]

    @classmethod
    def load(
        cls,
        private: Path,
        further: Sequence[Path] = (),
        audiences: tuple[str, ...] = (),
        issuers: tuple[str, ...] = (ISSUER,),
    ) -> "Keys":
        """From PEM files; ``further`` have keys of other signers. ``audiences`` are this API's names, the
        issuers if there are none: tokens that an earlier one has made without being asked for audiences are meant for
        it. Raises OSError, ValueError."""
        key = serialization.load_pem_private_key(private.read_bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"{private} is no RSA key")
        public: dict[str, PublicKey] = {key_id_of(key.public_key()): key.public_key()}
        for path in further:
            public |= {key_id_of(other): other for other in public_keys(path)}
        return cls(key, public, key_id_of(key.public_key()), issuers, audiences or issuers)

    def jwks(self) -> Obj:
        """The public keys as served at ``/openid/v1/jwks``."""
        return {"keys": [jwk(key) for key in self.public.values()]}

    def discovery(self, jwks_uri: str) -> Obj:
        """The answer at ``/.well-known/openid-configuration``."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(dict.fromkeys(map(algorithm_of, self.public.values()))),
        }


def _sound(payload: Obj) -> bool:
    """Whether claims have the types we make: whoever holds the key may still write nonsense."""
    claims = payload.get(CLAIM) or {}
    if not isinstance(claims, dict):
        return False
    times = (payload["exp"], payload.get("nbf", 0))
    bound = (claims.get(kind) or {} for kind in ("serviceaccount", "pod", "secret", "node"))
    return all(isinstance(one, int | float) for one in times) and all(isinstance(one, dict) for one in bound)


def _claims(token: str, key: PublicKey) -> Obj | None:
    """What a token says, if that key has signed it. Times are judged on every use, by our clock."""
    verified = ("exp", "nbf", "iat", "aud", "iss")
    options: Any = {**{f"verify_{one}": False for one in verified}, "require": ["exp", "iss", "sub"]}
    try:
        found: Obj = jwt.decode(token, key, algorithms=[algorithm_of(key)], options=options)
    except jwt.PyJWTError:
        return None
    return found


def _kept(payload: Obj) -> bool:
    """Whether a token is for keeping in a Secret. As it is made once and for all, it says for what or from whom only in
    the name of that time, so its signature has to do. (Upstream's name an issuer that is always known.)"""
    return "aud" not in payload and bool((payload.get(CLAIM) or {}).get("secret"))


class TokenCounts:
    """How often tokens were taken: extended ones before and after the pod should have had another, and those of
    Secrets. Names as in k8s.io/kubernetes ``pkg/serviceaccount/metrics.go``."""

    def __init__(self) -> None:
        self.valid = self.stale = self.manual = self.generated = 0

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        for stem, text, count in (
            ("valid_tokens", "Extended tokens that were used in time.", self.valid),
            ("stale_tokens", "Extended tokens that were used after they should have been exchanged.", self.stale),
            ("legacy_tokens", "Tokens of Secrets that were used.", self.manual + self.generated),
            ("legacy_manual_token_uses", "Of those, tokens of Secrets that somebody made.", self.manual),
            ("legacy_auto_token_uses", "Of those, tokens of Secrets made for an account.", self.generated),
        ):
            yield CounterMetricFamily(f"serviceaccount_{stem}", text, value=count)


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
        self.counts = TokenCounts()
        self.used: Callable[[Obj], None] = lambda _: None
        """Hears of each Secret whose token was shown."""

    def identify(self, token: str) -> UserInfo | None:
        """A token for this API server."""
        found = self.review(token, self._keys.audiences)
        return found[0] if found is not None else None

    def notes(self, token: str) -> Obj:
        """What the audit log says of a token that was taken: that it should have been exchanged, or is of a Secret."""
        payload = self._verified.get(token)
        if payload is None:
            return {}
        claims = payload.get(CLAIM) or {}
        late = self._late(claims)
        if late is not None and late > 0:
            return {_STALE: f"subject: {payload['sub']}, seconds after warning threshold: {int(late)}"}
        secret = self._legacy(claims)
        if secret:
            sort = "autogenerated" if self._generated(claims, secret) else "manual"
            return {_LEGACY: payload["sub"], f"{_LEGACY}-{sort}-secret": secret}
        return {}

    def count(self, token: str) -> None:
        """A request was let in by it. Not for :meth:`identify` to say: who asks may have to ask again for the same."""
        claims = self._verified.get(token, {}).get(CLAIM) or {}
        late = self._late(claims)
        if late is not None:
            if late > 0:
                self.counts.stale += 1
            else:
                self.counts.valid += 1
        elif secret := self._legacy(claims):
            if self._generated(claims, secret):
                self.counts.generated += 1
            else:
                self.counts.manual += 1

    def _late(self, claims: Obj) -> float | None:
        """For how many seconds its pod should have had another one, where that was told."""
        after = claims.get("warnafter")
        return self._clock.now().timestamp() - after if isinstance(after, int | float) and after else None

    def _legacy(self, claims: Obj) -> str:
        """The name of the Secret that has it."""
        who = (claims.get("secret") or {}).get("name") or ""
        secret = self._reader.peek(SECRETS, claims.get("namespace") or "", who) if who else None
        return who if secret is not None and secret.get("type") == SECRET_TYPE else ""

    def _generated(self, claims: Obj, secret: str) -> bool:
        """Whether it was made for its account, not by somebody."""
        who = (claims.get("serviceaccount") or {}).get("name") or ""
        account = self._reader.peek(SERVICEACCOUNTS, claims.get("namespace") or "", who) or {}
        return any(one.get("name") == secret for one in account.get("secrets") or ())

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
        if _kept(payload):
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
            key_id = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            return None
        public = self._keys.public
        # Who does not say which key has signed it may have any of them.
        keys = ([public[key_id]] if key_id in public else []) if key_id else public.values()
        found = next((claims for key in keys if (claims := _claims(token, key)) is not None), None)
        if found is None or not _sound(found):
            return None
        return found if found["iss"] in self._keys.issuers or _kept(found) else None

    def _user(self, payload: Obj) -> UserInfo | None:
        claims = payload.get(CLAIM) or {}
        space, account = claims.get("namespace") or "", claims.get("serviceaccount") or {}
        who = account.get("name") or ""
        if payload["sub"] != f"{SERVICE_ACCOUNT_PREFIX}{space}:{who}":
            return None
        if not self._lives(SERVICEACCOUNTS, space, account):
            return None
        extra = {f"{EXTRA}credential-id": (f"JTI={payload['jti']}",)} if payload.get("jti") else {}
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
                extra[f"{EXTRA}{kind}-name"] = (bound.get("name") or "",)
                if bound.get("uid"):
                    extra[f"{EXTRA}{kind}-uid"] = (bound["uid"],)
        groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{space}")
        return UserInfo(payload["sub"], account.get("uid") or "", groups, extra)

    def _lives(self, resource: Resource, space: str, bound: Obj) -> bool:
        found = self._reader.peek(resource, space, bound.get("name") or "")
        if found is None or (bound.get("uid") and bound["uid"] != uid(found)):
            return False
        going = meta(found).get("deletionTimestamp")
        return not going or self._clock.now() < parse_time(going) + _LINGER
