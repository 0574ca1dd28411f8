"""Tokens that were made for a service account by itself and that nobody used for a year: first invalid, then deleted.

Only those that the account lists are meant: a Secret that somebody made by hand is theirs. Reference: KEP-2799 and
k8s.io/kubernetes ``pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go``.
"""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from enum import Enum, auto

from orca.api.builtin import CONFIGMAPS, PODS, SECRETS, SERVICEACCOUNTS
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.legacytokens import (
    ACCOUNT_NAME,
    ACCOUNT_UID,
    INVALID_SINCE,
    LAST_USED,
    SECRET_TYPE,
    SINCE,
    TRACKING,
    TRACKING_NAMESPACE,
    day,
    day_of,
)
from orca.api.objects import Obj, annotations, is_terminating, key, labels, name, namespace, uid
from orca.controllers import podstate
from orca.controllers.harness import BaseController, Context

PERIOD = 86400.0
UNUSED = timedelta(days=365)
"""As kube-controller-manager's ``--legacy-service-account-token-clean-up-period``."""
_SOURCES = ("cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos", "csi")


class Verdict(Enum):
    """What becomes of a token."""

    KEEP = auto()
    INVALIDATE = auto()
    DELETE = auto()


def judge(secret: Obj, account: Obj | None, mounted: Collection[str], now: datetime) -> Verdict:
    """``account`` is the one that the Secret names, ``mounted`` are the Secrets that pods of the namespace use."""
    if secret.get("type") != SECRET_TYPE or is_terminating(secret):
        return Verdict.KEEP
    limit = now - UNUSED
    if podstate.created_at(secret) >= limit:
        return Verdict.KEEP
    used = labels(secret).get(LAST_USED)
    if used is not None:
        when = day_of(used)
        if when is None or when >= limit.date():
            return Verdict.KEEP
    listed = {one.get("name") for one in (account or {}).get("secrets") or ()}
    if account is None or annotations(secret).get(ACCOUNT_UID, uid(account)) != uid(account):
        return Verdict.KEEP
    if name(secret) not in listed or name(secret) in mounted:
        return Verdict.KEEP
    since = day_of(labels(secret).get(INVALID_SINCE) or "")
    if since is None:
        return Verdict.INVALIDATE
    return Verdict.KEEP if since >= limit.date() else Verdict.DELETE


def secrets_of(pod: Obj) -> Iterator[str]:
    """Names of the Secrets that a pod uses in whatever way."""
    spec = pod["spec"]
    for reference in spec.get("imagePullSecrets") or ():
        yield reference.get("name") or ""
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            for source in container.get("envFrom") or ():
                yield (source.get("secretRef") or {}).get("name") or ""
            for variable in container.get("env") or ():
                yield ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name") or ""
    for volume in spec.get("volumes") or ():
        yield (volume.get("secret") or {}).get("secretName") or ""
        yield (volume.get("azureFile") or {}).get("secretName") or ""
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield (source.get("secret") or {}).get("name") or ""
        for kind in _SOURCES:
            source = volume.get(kind) or {}
            yield ((source.get("secretRef") or source.get("nodePublishSecretRef")) or {}).get("name") or ""


class LegacyTokenCleaner(BaseController):
    """Looks once a day."""

    name = "legacy-service-account-token-cleaner-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._secrets = self.caches.of(SECRETS)
        self._accounts = self.caches.of(SERVICEACCOUNTS)
        self._pods = self.caches.of(PODS)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.clean()
            except ApiError as error:
                self.tell("tokens", error)
            await self.clock.sleep(PERIOD)

    async def clean(self) -> None:
        """One look at all tokens. Raises ApiError."""
        now = self.clock.now()
        if not await self._tracked(now):
            return
        for secret in self._secrets.all():
            if secret.get("type") != SECRET_TYPE:
                continue
            space = namespace(secret)
            account = self._accounts.get(f"{space}/{annotations(secret).get(ACCOUNT_NAME, '')}")
            if judge(secret, account, (), now) is Verdict.KEEP:
                continue  # as most are: nobody need look through the pods
            mounted = {used for pod in self._pods.by_index("namespace", space) for used in secrets_of(pod)}
            await self._apply(secret, judge(secret, account, mounted, now), now)

    async def _apply(self, secret: Obj, verdict: Verdict, now: datetime) -> None:
        try:
            if verdict is Verdict.INVALIDATE:
                await self._secrets.patch(
                    secret, {"metadata": {"uid": uid(secret), "labels": {INVALID_SINCE: day(now)}}}
                )
            elif verdict is Verdict.DELETE:
                # Not the one that was used a moment ago.
                version = secret["metadata"]["resourceVersion"]
                await self.client.delete(SECRETS, name(secret), namespace(secret), resource_version=version)
        except ApiError as error:
            if not is_conflict(error) and not is_not_found(error):
                self.tell(key(secret), error)

    async def _tracked(self, now: datetime) -> bool:
        """Whether uses have been noted for long enough to know what was not used."""
        try:
            found = await self.client.get(CONFIGMAPS, TRACKING, TRACKING_NAMESPACE)
        except ApiError as error:
            if is_not_found(error):
                return False
            raise
        since = day_of((found.get("data") or {}).get(SINCE) or "")
        # The first day may have had only its last hour.
        return since is not None and now.date() >= since + timedelta(days=1) + UNUSED
