"""NodeRestriction: what the node authorizer cannot see from a URL, judged on the object.

Nodes create only their own Node and mirror pods bound to themselves, and cannot give themselves taints or labels that
others rely on for isolation.
Reference: k8s.io/kubernetes ``plugin/pkg/admission/noderestriction``.
"""

import base64
import binascii

from cryptography import x509
from cryptography.x509.oid import NameOID

from orca.admission.chain import CREATE, DELETE, UPDATE, Attributes, Cluster
from orca.admission.service_account import MIRROR
from orca.api.builtin import (
    CERTIFICATESIGNINGREQUESTS,
    CSIDRIVERS,
    CSINODES,
    LEASES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    RESOURCESLICES,
    SERVICEACCOUNTS,
)
from orca.api.errors import not_found
from orca.api.finalizers import VOLUME_CONTENT
from orca.api.nodelabels import ROLE, is_foreign
from orca.api.objects import Obj, annotations, finalizers, labels, meta, namespace, owner_references, uid
from orca.auth.authorization import Authorizer
from orca.auth.identity import Action, node_of
from orca.auth.nodes import references

_VOLATILE = frozenset({"finalizers", "managedFields", "resourceVersion", "generation"})
_RESERVED = "node-restriction.kubernetes.io"


class NodeRestriction:
    """As upstream's plugin of this name; concerns only users in ``system:nodes``."""

    def __init__(self, cluster: Cluster, authorizer: Authorizer | None = None) -> None:
        self._cluster = cluster
        self._authorizer = authorizer

    async def admit(self, attrs: Attributes) -> None:
        """Raises ApiError 403."""
        node = node_of(attrs.user)
        if not node:
            return
        if attrs.resource is PODS:
            self._pod(node, attrs)
        elif attrs.resource is NODES:
            _node(node, attrs)
        elif attrs.resource is SERVICEACCOUNTS and attrs.subresource == "token":
            await self._token(node, attrs)
        elif attrs.resource is LEASES and attrs.operation == CREATE and attrs.name != node:
            text = f'can only access node lease with the same name as the requesting node "{node}"'
            raise attrs.forbidden(text)
        elif attrs.resource is CSINODES and attrs.operation == CREATE and attrs.name != node:
            text = f'can only access CSINode with the same name as the requesting node "{node}"'
            raise attrs.forbidden(text)
        elif attrs.resource is RESOURCESLICES and attrs.operation in (CREATE, UPDATE, DELETE):
            _slice(node, attrs)
        elif attrs.of(CERTIFICATESIGNINGREQUESTS, CREATE):
            _request(attrs)
        elif attrs.of(PERSISTENTVOLUMES, UPDATE):
            _volume(node, attrs)

    def _pod(self, node: str, attrs: Attributes) -> None:
        if attrs.subresource == "" and attrs.operation == CREATE and attrs.obj is not None:
            _mirror_pod(self._cluster, node, attrs, attrs.obj)
        elif attrs.subresource == "eviction" or attrs.operation == DELETE:
            pod = attrs.old or self._cluster.peek(PODS, attrs.namespace, attrs.name)
            if pod is not None and _place(pod) != node:
                raise attrs.forbidden(f'node "{node}" can only delete pods with spec.nodeName set to itself')
        elif attrs.subresource == "status" and attrs.old is not None and attrs.obj is not None:
            if _place(attrs.old) != node:
                text = f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
                raise attrs.forbidden(text)
            if labels(attrs.old) != labels(attrs.obj):
                raise attrs.forbidden(f'node "{node}" cannot update labels through pod status')
            if _claims(attrs.old) != _claims(attrs.obj):
                raise attrs.forbidden(f'node "{node}" cannot update resource claim statuses')
        elif attrs.operation == UPDATE:
            raise attrs.forbidden(f'node "{node}" cannot update pods')

    async def _token(self, node: str, attrs: Attributes) -> None:
        reference = ((attrs.obj or {}).get("spec") or {}).get("boundObjectRef") or {}
        if reference.get("kind") != "Pod" or not reference.get("name"):
            raise attrs.forbidden(f'node "{node}" requested token not bound to a pod')
        if not reference.get("uid"):
            raise attrs.forbidden(f'node "{node}" requested token with a pod binding without a uid')
        pod = self._cluster.peek(PODS, attrs.namespace, reference["name"])
        if pod is None or uid(pod) != reference["uid"]:
            raise attrs.forbidden(f'node "{node}" requested token bound to a pod that does not exist')
        if _place(pod) != node:
            raise attrs.forbidden(f'node "{node}" requested token bound to a pod scheduled on a different node')
        await self._audience(attrs, pod)

    async def _audience(self, attrs: Attributes, pod: Obj) -> None:
        """A node asks for the audiences its pods' volumes name, or those it was allowed by RBAC, and no others."""
        wanted = ((attrs.obj or {}).get("spec") or {}).get("audiences") or []
        if len(wanted) > 1:
            raise attrs.forbidden("node may only request 0 or 1 audiences")
        audience = wanted[0] if wanted else ""
        if audience in self._audiences(pod):
            return
        if self._authorizer is not None:
            verb = "request-serviceaccounts-token-audience"
            action = Action(verb, resource=audience, name=attrs.name, namespace=attrs.namespace)
            if (await self._authorizer.authorize(attrs.user, action)).allowed:
                return
        raise attrs.forbidden(f'audience "{audience}" not found in pod spec volume')

    def _audiences(self, pod: Obj) -> set[str]:
        found, drivers = {""}, set()
        for volume in (pod.get("spec") or {}).get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if source.get("serviceAccountToken") is not None:
                    found.add(source["serviceAccountToken"].get("audience") or "")
            drivers.add((volume.get("csi") or {}).get("driver"))
        for claim_name in references(pod, "persistentvolumeclaims"):
            claim = self._cluster.peek(PERSISTENTVOLUMECLAIMS, namespace(pod), claim_name) or {}
            volume_name = (claim.get("spec") or {}).get("volumeName")
            volume = self._cluster.peek(PERSISTENTVOLUMES, "", volume_name) if volume_name else None
            drivers.add((((volume or {}).get("spec") or {}).get("csi") or {}).get("driver"))
        for driver in drivers - {None}:
            spec = (self._cluster.peek(CSIDRIVERS, "", str(driver)) or {}).get("spec") or {}
            found |= {request.get("audience") or "" for request in spec.get("tokenRequests") or ()}
        return found


def _place(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("nodeName") or ""


def _claims(pod: Obj) -> list[Obj]:
    status = pod.get("status") or {}
    return [*(status.get("resourceClaimStatuses") or ()), status.get("extendedResourceClaimStatus") or {}]


def _slice(node: str, attrs: Attributes) -> None:
    for one in (attrs.old, attrs.obj):
        if one is not None and (one.get("spec") or {}).get("nodeName") != node:
            verb = {CREATE: "create", UPDATE: "update", DELETE: "delete"}[attrs.operation]
            raise attrs.forbidden(f"can only {verb} ResourceSlice with the same NodeName as the requesting node")


def _volume(node: str, attrs: Attributes) -> None:
    """A node that has removed what is on a volume lets go of it, and changes nothing else."""

    def rest(volume: Obj) -> Obj:
        metadata = {field: value for field, value in meta(volume).items() if field not in _VOLATILE}
        held = [one for one in finalizers(volume) if one != VOLUME_CONTENT]
        return {**volume, "metadata": {**metadata, "finalizers": held}}

    if attrs.old is None or attrs.obj is None or rest(attrs.old) != rest(attrs.obj):
        raise attrs.forbidden(f'node "{node}" can only take the finalizer {VOLUME_CONTENT} from a volume')


def _request(attrs: Attributes) -> None:
    """A node asks for certificates of its own name only."""
    spec = (attrs.obj or {}).get("spec") or {}
    if spec.get("signerName") not in ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"):
        return
    try:
        subject = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or "")).subject
    except (binascii.Error, ValueError, TypeError, x509.InvalidVersion):
        raise attrs.forbidden("unable to parse csr") from None
    names = [str(part.value) for part in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [attrs.user.name]:
        raise attrs.forbidden(f"can only create a node CSR with CN={attrs.user.name}")


def _mirror_pod(cluster: Cluster, node: str, attrs: Attributes, pod: Obj) -> None:
    spec = pod.get("spec") or {}
    if MIRROR not in annotations(pod):
        raise attrs.forbidden(f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods')
    if _place(pod) != node:
        raise attrs.forbidden(f'node "{node}" can only create pods with spec.nodeName set to itself')
    _owned(cluster, node, attrs, pod)
    if spec.get("serviceAccountName"):
        raise attrs.forbidden(f'node "{node}" can not create pods that reference a service account')
    for kind in ("secrets", "configmaps", "persistentvolumeclaims"):
        if any(references(pod, kind)):
            raise attrs.forbidden(f'node "{node}" can not create pods that reference {kind}')
    if any((volume.get("projected") or {}).get("sources") for volume in spec.get("volumes") or ()):
        raise attrs.forbidden(f'node "{node}" can not create pods that reference projected volumes')
    if spec.get("resourceClaims") or any(_claims(pod)):
        raise attrs.forbidden(f'node "{node}" can not create pods that reference resourceclaims')


def _owned(cluster: Cluster, node: str, attrs: Attributes, pod: Obj) -> None:
    """A mirror pod goes when its node does, and nobody else's end takes it along."""
    owners = owner_references(pod)
    if len(owners) > 1:
        raise attrs.forbidden(f'node "{node}" can only create pods with a single owner reference set to itself')
    owner = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        raise attrs.forbidden(f'node "{node}" can only create pods with an owner reference set to itself')
    if not owner.get("controller"):
        raise attrs.forbidden(f'node "{node}" can only create pods with a controller owner reference set to itself')
    if owner.get("blockOwnerDeletion"):
        raise attrs.forbidden(f'node "{node}" must not set blockOwnerDeletion on an owner reference')
    own = cluster.peek(NODES, "", node)
    if own is None:
        raise not_found(NODES, node)
    if owner.get("uid") != uid(own):
        raise attrs.forbidden(f"node {node} UID mismatch: expected {owner.get('uid')} got {uid(own)}")


def _node(node: str, attrs: Attributes) -> None:
    if attrs.operation not in (CREATE, UPDATE) or attrs.obj is None:
        return
    if attrs.name != node:
        raise attrs.forbidden(f'node "{node}" is not allowed to modify node "{attrs.name}"')
    before = attrs.old or {}
    if attrs.operation == UPDATE:
        old_taints = (before.get("spec") or {}).get("taints") or []
        if ((attrs.obj.get("spec") or {}).get("taints") or []) != old_taints:
            raise attrs.forbidden(f'node "{node}" is not allowed to modify taints')
        # Else a node could own itself away: the garbage collector would delete it.
        if owner_references(attrs.obj) != owner_references(before):
            raise attrs.forbidden(f'node "{node}" is not allowed to modify ownerReferences')
    changed = _changed(labels(before), labels(attrs.obj))
    reserved = sorted(key for key in changed if _is_reserved(key))
    if reserved:
        raise attrs.forbidden(f'node "{node}" is not allowed to modify labels: {", ".join(reserved)}')
    # Unlike upstream, a node may name its role when it joins (nothing else labels a server's host), never later.
    role = ROLE if attrs.operation == CREATE else "\0"
    unknown = sorted(key for key in changed if is_foreign(key) and not key.startswith(role))
    if unknown:
        verb = "set" if attrs.operation == CREATE else "modify"
        listed = ", ".join(unknown)
        raise attrs.forbidden(f'node "{node}" is not allowed to {verb} the following labels: {listed}')


def _changed(old: dict[str, str], new: dict[str, str]) -> set[str]:
    return {key for key in {*old, *new} if old.get(key) != new.get(key)}


def _is_reserved(key: str) -> bool:
    prefix = key.partition("/")[0] if "/" in key else ""
    return prefix == _RESERVED or prefix.endswith("." + _RESERVED)
