"""ServiceAccount: every pod runs as an account of its namespace and, unless that is off, gets a token of it mounted.

Reference: k8s.io/kubernetes ``plugin/pkg/admission/serviceaccount``.
"""

import random
from collections.abc import Iterator
from typing import Any

from orca.admission.chain import CREATE, UPDATE, Attributes, Cluster, find
from orca.api.builtin import PODS, SERVICEACCOUNTS
from orca.api.names import SUFFIX_ALPHABET
from orca.api.objects import Obj, annotations
from orca.auth.nodes import references
from orca.client.clock import Clock

DEFAULT = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"
MIRROR = "kubernetes.io/config.mirror"
ENFORCE_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"
# A little over an hour, so that agents renew before an hour has passed; clients know the number by heart.
EXPIRATION_SECONDS = 3607
FILE_MODE = 0o644
_VOLUME_PREFIX = "kube-api-access-"
# The account "default" follows its namespace within moments: worth waiting for.
_ATTEMPTS, _PAUSE = 10, (0.1, 0.2)


class ServiceAccount:
    """As upstream's plugin of this name."""

    kinds = frozenset({PODS})
    subresources = frozenset({"", "ephemeralcontainers"})

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

    async def validate(self, attrs: Attributes) -> None:
        """Mirror pods refer to nothing secret, others to what their account allows. Raises ApiError 403."""
        if attrs.obj is None:
            return
        spec = attrs.obj.get("spec") or {}
        if attrs.of(PODS, UPDATE, subresource="ephemeralcontainers"):
            account = await find(self._cluster, SERVICEACCOUNTS, attrs.namespace, spec.get("serviceAccountName") or "")
            if account is not None and _enforces(account):
                self._limit(attrs, account, {"ephemeralContainers": spec.get("ephemeralContainers") or ()})
        elif attrs.of(PODS, CREATE):
            if MIRROR in annotations(attrs.obj):
                _check_mirror(attrs, attrs.obj, spec)
                return
            account = await find(self._cluster, SERVICEACCOUNTS, attrs.namespace, spec.get("serviceAccountName") or "")
            if account is not None and _enforces(account):
                self._limit(attrs, account, spec)

    @staticmethod
    def _limit(attrs: Attributes, account: Obj, spec: Obj) -> None:
        who = account["metadata"]["name"]
        mountable = {one.get("name") for one in account.get("secrets") or ()}
        for what, secret in _mounted_secrets(spec):
            if secret not in mountable:
                text = f'secret.secretName="{secret}" is not allowed because service account {who} does not reference that secret'  # noqa: E501
                raise attrs.forbidden(f"{what} {text}")
        pulled = {one.get("name") for one in account.get("imagePullSecrets") or ()}
        for i, one in enumerate(spec.get("imagePullSecrets") or ()):
            if one.get("name") not in pulled:
                raise attrs.forbidden(
                    f'imagePullSecrets[{i}].name="{one.get("name")}" is not allowed because service account {who} '
                    "does not reference that imagePullSecret"
                )

    async def _account(self, namespace: str, wanted: str) -> Obj | None:
        pause = random.uniform(*_PAUSE)
        for attempt in range(_ATTEMPTS if wanted == DEFAULT else 1):
            if attempt:
                await self._clock.sleep(pause)
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


def _enforces(account: Obj) -> bool:
    return annotations(account).get(ENFORCE_MOUNTABLE, "").lower() in ("true", "1", "t")


def _check_mirror(attrs: Attributes, pod: Obj, spec: Obj) -> None:
    if spec.get("serviceAccountName"):
        raise attrs.forbidden("a mirror pod may not reference service accounts")
    if any(references(pod, "secrets")):
        raise attrs.forbidden("a mirror pod may not reference secrets")
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken") is not None:
                raise attrs.forbidden("a mirror pod may not use ServiceAccountToken volume projections")


def _mounted_secrets(spec: Obj) -> Iterator[tuple[str, str]]:
    """(who refers with, secret) of volumes and environments."""
    for volume in spec.get("volumes") or ():
        if volume.get("secret") is not None:
            yield "volume with", volume["secret"].get("secretName") or ""
    for key, word in (
        ("initContainers", "init container"),
        ("containers", "container"),
        ("ephemeralContainers", "ephemeral container"),
    ):
        for container in spec.get(key) or ():
            who = f"{word} {container.get('name')}"
            for variable in container.get("env") or ():
                secret = ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name")
                if secret is not None:
                    yield f"{who} with envVar {variable.get('name')} referencing", secret
            for source in container.get("envFrom") or ():
                if source.get("secretRef") is not None:
                    yield f"{who} with envFrom referencing", source["secretRef"].get("name") or ""


def mount_token(spec: Obj) -> None:
    """Mount the token, the cluster's CA and the namespace's name where clients look, in place.

    Containers that mount something there already are left alone; a volume that an earlier round made is taken again.
    """
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    lacking = [container for container in containers if not _mounts(container)]
    if not lacking:
        return
    present = spec.get("volumes") or []
    volume = next((one for one in present if str(one.get("name") or "").startswith(_VOLUME_PREFIX)), None)
    if volume is None:
        volume = token_volume(_VOLUME_PREFIX + "".join(random.choices(SUFFIX_ALPHABET, k=5)))
        spec["volumes"] = [*present, volume]
    for container in lacking:
        mount = {"name": volume["name"], "readOnly": True, "mountPath": MOUNT_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


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
