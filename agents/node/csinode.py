"""The CSINode that stands beside a host's Node.

It names the CSI drivers of the host: none, as pods mount no such volumes here. Whoever asks for it (autoscalers,
installers of drivers) wants to see it all the same.

Reference: k8s.io/kubernetes ``pkg/volume/csi/nodeinfomanager``.
"""

from __future__ import annotations

from orca.api.builtin import CSINODES
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, meta, name, uid
from orca.client.base import Client

MIGRATED = "storage.alpha.kubernetes.io/migrated-plugins"
_PLUGINS = ("aws-ebs", "azure-disk", "azure-file", "cinder", "gce-pd", "portworx-volume", "vsphere-volume")
"""Volumes of clouds that no kubelet of v1.36 mounts without a driver."""


async def ensure(client: Client, node: Obj) -> None:
    """There is one and it belongs to this ``node``, as the server has that. Raises ApiError."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": name(node), "uid": uid(node)}
    told = {MIGRATED: ",".join(f"kubernetes.io/{plugin}" for plugin in _PLUGINS)}
    try:
        found = await client.get(CSINODES, name(node))
    except ApiError as error:
        if not is_not_found(error):
            raise
        metadata = {"name": name(node), "annotations": told, "ownerReferences": [owner]}
        body = {"apiVersion": CSINODES.api_version, "kind": CSINODES.kind, "metadata": metadata}
        await client.create(CSINODES, {**body, "spec": {"drivers": []}})
        return
    if all(one.get("uid") != uid(node) for one in meta(found).get("ownerReferences") or ()):
        # Of a Node of this name that was deleted: it would soon go after that one.
        await client.patch(CSINODES, name(node), {"metadata": {"ownerReferences": [owner]}})
