"""persistentVolumeClaim: what a claim is bound to, as far as this host can mount it by itself: hostPath, local, nfs.

Binding and provisioning are not the agent's: a claim that is not bound is an error that is tried again.
Reference: k8s.io/kubernetes ``pkg/kubelet/volumemanager/populator``, ``pkg/volume/local``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from agents import mounts
from agents.pods.admission import selects
from agents.pods.ports import Mounted
from agents.threads import to_the_end
from agents.volumes import host_path, provisioned
from agents.volumes.errors import MountFailed, VolumeError
from agents.volumes.nfs import Nfs
from agents.volumes.ownership import give_to_group
from agents.volumes.plugin import Places, fs_group, only_on_mismatch
from agents.volumes.provisioned import Exports
from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, controller_of, name, namespace, uid
from orca.api.resources import Resource
from orca.api.volumes import LOCAL_PATH, NFS_SUBDIR, PROVISIONED_BY, annotation
from orca.client.base import Client

LOCAL = "local-volume"
SOURCES = ("hostPath", "local", "nfs")


class Claims:
    """Reads claim and volume from the API each time: a pod starts seldom, and must not start on an old answer."""

    follows_api = False

    def __init__(
        self, client: Client, places: Places, nfs: Nfs, node: Callable[[], Obj | None], exports: Exports
    ) -> None:
        self._client = client
        self._exports = exports
        self._places = places
        self._nfs = nfs
        self._node = node

    async def make(self, pod: Obj, volume_name: str, source: Obj) -> Mounted:
        claim_name, space = source["claimName"], namespace(pod)
        try:
            claim = await self._get(PERSISTENTVOLUMECLAIMS, claim_name, space)
            volume = await self._get(PERSISTENTVOLUMES, check_claim(claim), "")
            check_volume(volume, claim)
        except VolumeError as error:
            raise VolumeError(f"error processing PVC {space}/{claim_name}: {error}") from error
        self._check_node(volume)
        try:
            return await self._mount(pod, volume, read_only=bool(source.get("readOnly")))
        except (VolumeError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise MountFailed(f'MountVolume.SetUp failed for volume "{name(volume)}" : {reason}') from error

    async def make_own(self, pod: Obj, volume_name: str) -> Mounted:
        """The volume of a claim that was made for this pod alone (``ephemeral``)."""
        claim_name, space = f"{name(pod)}-{volume_name}", namespace(pod)
        claim = await self._get(PERSISTENTVOLUMECLAIMS, claim_name, space)
        owner = controller_of(claim)
        if owner is None or owner["uid"] != uid(pod):
            told = f"PVC {space}/{claim_name} was not created for pod {space}/{name(pod)} (pod is not owner)"
            raise VolumeError(f"error processing PVC {space}/{claim_name}: {told}")
        return await self.make(pod, volume_name, {"claimName": claim_name})

    def _check_node(self, volume: Obj) -> None:
        """Some volumes are on one host alone; a pod that names its node itself may have been sent to another."""
        required = (volume["spec"].get("nodeAffinity") or {}).get("required")
        node = self._node()
        if required and node is not None and not selects(required, node):
            text = "no matching NodeSelectorTerms"
            raise MountFailed(f'MountVolume.NodeAffinity check failed for volume "{name(volume)}" : {text}')

    async def _get(self, resource: Resource, object_name: str, space: str) -> Obj:
        try:
            return await self._client.get(resource, object_name, space)
        except ApiError as error:
            if is_not_found(error):
                raise VolumeError(f'{resource.singular} "{object_name}" not found') from error
            raise

    async def _mount(self, pod: Obj, volume: Obj, *, read_only: bool) -> Mounted:
        spec = volume["spec"]
        kind = next((kind for kind in SOURCES if spec.get(kind)), "")
        source, options = spec.get(kind) or {}, spec.get("mountOptions") or ()
        if options and kind != "nfs":
            text = "Mount options are not supported by the provided plugin but were specified in the PV"
            raise VolumeError(f"{text}: {', '.join(options)}")
        match kind:
            case "hostPath":
                path = await asyncio.to_thread(host_path.prepare, source["path"], source.get("type") or "")
                return Mounted(path, read_only)
            case "local":
                if annotation(volume, PROVISIONED_BY) == LOCAL_PATH:
                    await to_the_end(provisioned.make_directory, source["path"])
                return await to_the_end(self._bind_local, pod, volume, read_only=read_only)
            case "nfs":
                if annotation(volume, PROVISIONED_BY) == NFS_SUBDIR:
                    await self._exports.make_directory(volume)
                return await self._nfs.mount(pod, name(volume), source, options=options, read_only=read_only)
        found = next(
            (key for key, value in spec.items() if isinstance(value, dict) and key not in _NO_SOURCES), "unknown"
        )
        raise VolumeError(f'PersistentVolume "{name(volume)}" is of type {found}, which this host does not support')

    def _bind_local(self, pod: Obj, volume: Obj, *, read_only: bool) -> Mounted:
        """The directory is bound below the pod's own, so that it counts as in use until the pod is gone."""
        source = volume["spec"]["local"]["path"]
        if not os.path.exists(source):
            raise VolumeError(f'path "{source}" does not exist')
        if not os.path.isdir(source):
            raise VolumeError(f'path "{source}" is not a directory: local volumes on block devices are not supported')
        path = self._places.on_disk(pod, LOCAL, name(volume))
        if not mounts.is_mounted(path):
            path.mkdir(mode=0o750, parents=True, exist_ok=True)
            mounts.bind(source, path)
        # Read-only is the container's mount of it: the pod may have the same claim twice, and write to one.
        group = fs_group(pod)
        if group is not None and not read_only:
            give_to_group(path, group, only_on_mismatch=only_on_mismatch(pod))
        return Mounted(str(path), read_only)


class OwnClaims:
    """ephemeral: claims that are made for one pod each."""

    follows_api = False

    def __init__(self, claims: Claims) -> None:
        self._claims = claims

    async def make(self, pod: Obj, volume_name: str, source: Obj) -> Mounted:
        return await self._claims.make_own(pod, volume_name)


_NO_SOURCES = frozenset({"capacity", "claimRef", "nodeAffinity"})


def check_claim(claim: Obj) -> str:
    """The name of the volume that a claim is bound to. Raises VolumeError."""
    spec, status = claim["spec"], claim.get("status") or {}
    if claim["metadata"].get("deletionTimestamp"):
        raise VolumeError(f"can't start pod because PVC {namespace(claim)}/{name(claim)} is being deleted")
    phase, volume = status.get("phase") or "", spec.get("volumeName") or ""
    if phase != "Bound" or not volume:
        raise VolumeError(f'PVC is not bound: phase "{phase}", spec.volumeName "{volume}"')
    return str(volume)


def check_volume(volume: Obj, claim: Obj) -> None:
    """Raises VolumeError for a volume that is not the claim's, or that is no file system."""
    reference = volume["spec"].get("claimRef")
    if reference is None:
        text = "but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        raise VolumeError(f'found PV object "{name(volume)}" {text}')
    if reference.get("uid") != uid(claim):
        told = f'pv.Spec.ClaimRef.UID "{reference.get("uid", "")}" does not point to claim.UID "{uid(claim)}"'
        raise VolumeError(f'found PV object "{name(volume)}" but its {told}')
    if volume["spec"].get("volumeMode", "Filesystem") != "Filesystem":
        raise VolumeError(f'PersistentVolume "{name(volume)}" is a block device, which this host does not support')
