"""ServiceAccount: every pod runs as an account of its namespace and, unless that is off, gets a token of it mounted."""

import random
from typing import Any

from orca.admission.chain import CREATE, Attributes, Cluster, find
from orca.api.builtin import PODS, SERVICEACCOUNTS
from orca.api.names import SUFFIX_ALPHABET
from orca.api.objects import Obj, annotations
from orca.client.clock import Clock

DEFAULT = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"
MIRROR = "kubernetes.io/config.mirror"
# A little over an hour, so that agents renew before an hour has passed; clients know the number by heart.
EXPIRATION_SECONDS = 3607
FILE_MODE = 0o644
_VOLUME_PREFIX = "kube-api-access-"
# The account "default" follows its namespace within moments: worth waiting for.
_ATTEMPTS, _PAUSE = 10, 0.1


class ServiceAccount:
    """As upstream's plugin of this name."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    async def admit(self, attrs: Attributes) -> None:
        """Raises ApiError 403 when the account is missing."""
        if not attrs.of(PODS, CREATE) or attrs.obj is None:
            return
        pod = attrs.obj
        spec = pod.setdefault("spec", {})
        if MIRROR in annotations(pod):
            if spec.get("serviceAccountName"):
                raise attrs.forbidden("a mirror pod may not reference service accounts")
            return
        wanted = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT
        spec["serviceAccountName"] = spec["serviceAccount"] = wanted
        account = await self._account(attrs.namespace, wanted)
        if account is None:
            who = f"{attrs.namespace}/{wanted}"
            raise attrs.forbidden(f'error looking up service account {who}: serviceaccount "{wanted}" not found')
        if _automount(spec, account):
            mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(reference) for reference in account["imagePullSecrets"]]

    async def _account(self, namespace: str, wanted: str) -> Obj | None:
        for attempt in range(_ATTEMPTS if wanted == DEFAULT else 1):
            if attempt:
                await self._clock.sleep(_PAUSE)
            found = await find(self._cluster, SERVICEACCOUNTS, namespace, wanted)
            if found is not None:
                return found
        return None


def _automount(spec: Obj, account: Obj) -> bool:
    for holder in (spec, account):
        said = holder.get("automountServiceAccountToken")
        if said is not None:
            return bool(said)
    return True


def mount_token(spec: Obj) -> None:
    """Mount the token, the cluster's CA and the namespace's name where clients look, in place.

    Containers that mount something there already are left alone.
    """
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    lacking = [container for container in containers if not _mounts(container)]
    if not lacking:
        return
    volume = token_volume(_VOLUME_PREFIX + "".join(random.choices(SUFFIX_ALPHABET, k=5)))
    for container in lacking:
        mount = {"name": volume["name"], "readOnly": True, "mountPath": MOUNT_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
    spec["volumes"] = [*(spec.get("volumes") or ()), volume]


def _mounts(container: Obj) -> bool:
    return any(mount.get("mountPath") == MOUNT_PATH for mount in container.get("volumeMounts") or ())


def token_volume(volume_name: str) -> Obj:
    """The projected volume, all defaults filled in."""
    sources: list[Any] = [
        {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]
            }
        },
    ]
    return {"name": volume_name, "projected": {"sources": sources, "defaultMode": FILE_MODE}}
