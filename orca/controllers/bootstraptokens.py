"""Join tokens that have expired are removed; their Secrets are `bootstrap-token-<id>` in kube-system."""

import base64
from datetime import datetime

from orca.api.builtin import SECRETS
from orca.api.objects import Obj, key, namespace
from orca.api.times import parse_time
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter

TYPE = "bootstrap.kubernetes.io/token"
NAMESPACE = "kube-system"


def expires_at(secret: Obj) -> datetime | None:
    """When the token ends; None when it never does. A date that cannot be read has passed."""
    encoded = (secret.get("data") or {}).get("expiration")
    if not encoded:
        return None
    try:
        return parse_time(base64.b64decode(encoded).decode())
    except ValueError:
        return datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class BootstrapTokenCleaner(Controller):
    """Keys are Secrets."""

    name = "bootstrap-token-cleaner-controller"
    resource = SECRETS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._secrets = self.caches.of(SECRETS)
        self._secrets.informer.on_add(self._seen)
        self._secrets.informer.on_update(lambda _, new: self._seen(new))

    def _seen(self, secret: Obj) -> None:
        if secret.get("type") == TYPE and namespace(secret) == NAMESPACE:
            self.queue.add(key(secret))

    async def sync(self, key: str) -> Outcome:
        """One token."""
        secret = self._secrets.get(key)
        ends = expires_at(secret) if secret is not None else None
        if secret is None or ends is None:
            return DONE
        left = (ends - self.clock.now()).total_seconds()
        if left > 0:
            return RetryAfter(left)
        await self._secrets.delete(secret)
        return DONE
