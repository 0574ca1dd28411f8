"""Who is it: a verified client certificate first, then a bearer token, else nobody in particular.

Token methods are small objects with ``identify(token) -> UserInfo | None``; None means "not one of mine". They decide
at once. Tokens that none of them knows are for remote methods, which may have to be waited for.
"""

import csv
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from orca.api.errors import unauthorized
from orca.auth.identity import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, Credentials, UserInfo
from orca.auth.verdicts import Verdict
from orca.client.clock import Clock, SystemClock

_REMEMBERED = 4096
_UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
"""The part of a certificate's subject that is the user's uid, CNCF's own."""
_NOBODY = UserInfo(ANONYMOUS, groups=(UNAUTHENTICATED,))


class TokenMethod(Protocol):
    """One kind of bearer token."""

    def identify(self, token: str) -> UserInfo | None:
        """The token's user, without ``system:authenticated``. None when it is not valid here."""


class RemoteMethod(Protocol):
    """Tokens that others know."""

    def known(self, token: str) -> Verdict | None:
        """What they said of a token for this server a moment ago."""

    async def review(self, token: str, audiences: Sequence[str] = (), /) -> Verdict:
        """Who has a token that is meant for one of ``audiences``; for this server, if there are none."""


class Authenticator:
    """All methods together. Where ``anonymous_paths`` are given, only these can be asked for without credentials."""

    def __init__(
        self,
        tokens: Sequence[TokenMethod] = (),
        *,
        anonymous: bool = True,
        anonymous_paths: Collection[str] = (),
        remote: RemoteMethod | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._tokens = tuple(tokens)
        self._anonymous = anonymous
        self.anonymous_paths = frozenset(anonymous_paths)
        self.remote = remote
        self._clock = clock or SystemClock()
        self._certificates: dict[bytes, tuple[UserInfo, datetime]] = {}

    def authenticate(self, credentials: Credentials, path: str = "") -> UserInfo:
        """From what is known here. Raises ApiError 401 for credentials nobody vouches for, and for none where anonymous
        access is off, or not for this ``path``. ``remote`` may still know a bearer token that is refused."""
        if credentials.peer_cert_der:
            user = self._by_certificate(credentials.peer_cert_der)
            if user is not None:
                return user
        if credentials.bearer:
            user = self.by_token(credentials.bearer)
            if user is None:
                raise unauthorized()
            return user
        if credentials.peer_cert_der or not self._anonymous:
            raise unauthorized()
        if self.anonymous_paths and path not in self.anonymous_paths:
            raise unauthorized()
        return _NOBODY

    def by_token(self, token: str) -> UserInfo | None:
        """The user behind a bearer token, None when no method knows it, and none remembers what others said of it."""
        for method in self._tokens:
            user = method.identify(token)
            if user is not None:
                return authenticated(user)
        verdict = self.remote.known(token) if self.remote is not None else None
        return None if verdict is None or verdict.user is None else authenticated(verdict.user)

    def _by_certificate(self, der: bytes) -> UserInfo | None:
        found = self._certificates.get(der)
        if found is None:
            found = _certificate_user(der)
            if found is None:
                return None
            if len(self._certificates) >= _REMEMBERED:
                self._certificates.clear()
            self._certificates[der] = found
        user, end = found
        # The handshake checked the dates, but a connection may outlive its certificate.
        return user if self._clock.now() <= end else None


def authenticated(user: UserInfo) -> UserInfo:
    """With ``system:authenticated`` among the groups."""
    if AUTHENTICATED in user.groups:
        return user
    return UserInfo(user.name, user.uid, (*user.groups, AUTHENTICATED), user.extra)


def _certificate_user(der: bytes) -> tuple[UserInfo, datetime] | None:
    """None for one that names nobody, or not clearly."""
    certificate = x509.load_der_x509_certificate(der)
    names = [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not names or not names[0]:
        return None
    groups = tuple(str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    uids = [part.value for part in certificate.subject.get_attributes_for_oid(_UID)]
    if len(uids) > 1 or not all(isinstance(one, str) and one for one in uids):
        return None
    serial = f"X509SHA256={certificate.fingerprint(hashes.SHA256()).hex()}"
    extra = {"authentication.kubernetes.io/credential-id": (serial,)}
    uid = str(uids[0]) if uids else ""
    return authenticated(UserInfo(names[0], uid, groups, extra)), certificate.not_valid_after_utc


class StaticTokens:
    """``--token-auth-file``: CSV of token, user, uid and optionally quoted, comma separated groups."""

    def __init__(self, users: dict[str, UserInfo]) -> None:
        self._users = users

    @classmethod
    def from_file(cls, path: str | Path) -> "StaticTokens":
        """Raises OSError, ValueError for a line with fewer than three columns."""
        users: dict[str, UserInfo] = {}
        with open(path, newline="") as lines:
            for number, row in enumerate(csv.reader(lines, skipinitialspace=True), 1):
                if not row or row[0].startswith("#"):
                    continue
                if len(row) < 3 or not row[0]:
                    raise ValueError(f"{path}, line {number}: token, user and uid are needed")
                groups = tuple(g.strip() for g in row[3].split(",") if g.strip()) if len(row) > 3 else ()
                users[row[0]] = UserInfo(row[1], row[2], groups)
        return cls(users)

    def identify(self, token: str) -> UserInfo | None:
        """By exact match."""
        return self._users.get(token)
