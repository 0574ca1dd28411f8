"""A proxy that vouches for its users: it shows a client certificate of the request header CA and names them in headers.

Reference: k8s.io/apiserver ``pkg/authentication/request/headerrequest``. Certificates of that CA prove nothing else:
their own subject never is a user.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from orca.auth.authentication import authenticated
from orca.auth.identity import UserInfo, header_text
from orca.client.clock import Clock, SystemClock

USER, UID, GROUP, EXTRA = "x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-"
_REMEMBERED = 1024


class Headers(Protocol):
    """A request's headers."""

    def items(self) -> Collection[tuple[str, str]]:
        """All of them, also repeated ones."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A certificate of the request header CA: until when it is good, and whether its name is allowed."""

    end: datetime
    allowed: bool


class FrontProxy:
    """``allowed_names`` are common names of proxies; none allows all."""

    def __init__(self, ca_pem: bytes, allowed_names: Collection[str] = (), clock: Clock | None = None) -> None:
        self._authorities = x509.load_pem_x509_certificates(ca_pem)
        self._names = frozenset(allowed_names)
        self._clock = clock or SystemClock()
        self._known: dict[bytes, _Seen | None] = {}

    def issued(self, certificate: bytes) -> bool:
        """Whether a client certificate (DER), which the TLS layer has verified, comes from the request header CA."""
        return self._look(certificate) is not None

    def user(self, certificate: bytes, headers: Headers) -> UserInfo | None:
        """Whom a proxy with this certificate names; None when it may not, or names nobody."""
        seen = self._look(certificate)
        if seen is None or not seen.allowed or self._clock.now() > seen.end:
            return None
        return named_user(headers)

    def _look(self, certificate: bytes) -> _Seen | None:
        if certificate not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[certificate] = self._read(certificate)
        return self._known[certificate]

    def _read(self, der: bytes) -> _Seen | None:
        certificate = x509.load_der_x509_certificate(der)
        for authority in self._authorities:
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                continue
            names = [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            allowed = not self._names or bool(names and names[0] in self._names)
            return _Seen(certificate.not_valid_after_utc, allowed)
        return None


def named_user(headers: Headers) -> UserInfo | None:
    """The user of ``X-Remote-User``, ``-Uid``, ``-Group`` and ``-Extra-…``; None without a name."""
    name, uid, groups = "", "", []
    extra: dict[str, list[str]] = {}
    for key, value in _folded(headers):
        if key == USER:
            name = name or value
        elif key == UID:
            uid = uid or value
        elif key == GROUP:
            groups.append(value)
        elif key.startswith(EXTRA):
            extra.setdefault(unquote(key[len(EXTRA) :]), []).append(value)
    if not name:
        return None
    held: Mapping[str, tuple[str, ...]] = {key: tuple(values) for key, values in extra.items()}
    return authenticated(UserInfo(name, uid, tuple(groups), held))


def _folded(headers: Headers) -> Collection[tuple[str, str]]:
    return [(key.lower(), header_text(value)) for key, value in headers.items() if key[:9].lower() == "x-remote-"]
