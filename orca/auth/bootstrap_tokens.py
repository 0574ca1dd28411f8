"""Bootstrap tokens: Secrets in kube-system that let a machine ask for its first certificate.

A token is ``<id>.<secret>``. What people pass around is one string ``<id>.<secret>.<sha256 of the CA's public key>``,
so that a joining host can tell the real server from another.
"""

import base64
import binascii
import hmac
import re
import secrets
from datetime import datetime

from orca.api.builtin import SECRETS
from orca.api.objects import Obj, is_terminating
from orca.api.times import format_time, parse_time
from orca.auth.default_roles import NODE_TOKEN_GROUP
from orca.auth.identity import BOOTSTRAP_PREFIX, BOOTSTRAPPERS, Reader, UserInfo
from orca.client.clock import Clock, SystemClock

SECRET_TYPE = "bootstrap.kubernetes.io/token"
NAMESPACE = "kube-system"
PREFIX = "bootstrap-token-"
_TOKEN = re.compile(r"^([a-z0-9]{6})\.([a-z0-9]{16})$")
_GROUP = re.compile(r"^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_token() -> tuple[str, str]:
    """(id, secret), random."""
    return _random(6), _random(16)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def join_string(token_id: str, secret: str, ca_hash: str) -> str:
    """What ``orca token create`` prints and ``orca-agent --token`` takes."""
    return f"{token_id}.{secret}.{ca_hash}"


def token_secret(
    token_id: str,
    secret: str,
    *,
    expires: datetime | None,
    description: str = "",
) -> Obj:
    """The Secret that makes a token valid; ``expires`` None is for ever."""
    fields = {
        "token-id": token_id,
        "token-secret": secret,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": NODE_TOKEN_GROUP,
    }
    if description:
        fields["description"] = description
    if expires is not None:
        fields["expiration"] = format_time(expires)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": PREFIX + token_id, "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in fields.items()},
    }


def secret_field(secret: Obj, field: str) -> str:
    """A Secret's value as text; "" when missing or no text."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(field) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


class BootstrapTokens:
    """Bearer tokens of the form ``<id>.<secret>``."""

    def __init__(self, reader: Reader, clock: Clock | None = None) -> None:
        self._reader = reader
        self._clock = clock or SystemClock()

    def identify(self, token: str) -> UserInfo | None:
        """``system:bootstrap:<id>`` while its Secret exists, has not expired and allows authentication."""
        match = _TOKEN.match(token)
        if match is None:
            return None
        secret = self._reader.peek(SECRETS, NAMESPACE, PREFIX + match[1])
        if secret is None or is_terminating(secret) or secret.get("type") != SECRET_TYPE:
            return None
        if not hmac.compare_digest(secret_field(secret, "token-secret").encode(), match[2].encode()):
            return None
        if secret_field(secret, "token-id") != match[1] or self._expired(secret):
            return None
        if secret_field(secret, "usage-bootstrap-authentication") != "true":
            return None
        groups = [g.strip() for g in secret_field(secret, "auth-extra-groups").split(",") if g.strip()]
        if not all(_GROUP.match(group) for group in groups):
            return None
        return UserInfo(BOOTSTRAP_PREFIX + match[1], groups=(BOOTSTRAPPERS, *groups))

    def _expired(self, secret: Obj) -> bool:
        text = secret_field(secret, "expiration")
        if not text:
            return False
        try:
            return self._clock.now() >= parse_time(text)
        except ValueError:
            return True
