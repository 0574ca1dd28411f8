"""What a node's agent may do: a fixed list, narrowed to its own Node, its own pods and what these refer to.

Besides what upstream grants kubelets, nodes may read all Nodes and watch Endpoints, EndpointSlices, Namespaces,
NetworkPolicies and the settings of DNS: the agent also routes between hosts, proxies Services and serves DNS. While
there are NetworkPolicies, nodes may also list and watch all pods that have a network of their own: hosts enforce what
policies say of them.
Reference: k8s.io/kubernetes ``plugin/pkg/auth/authorizer/node``, with AuthorizeNodeWithSelectors.
"""

from collections.abc import Iterator

from orca.api.builtin import (
    NETWORKPOLICIES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    RESOURCESLICES,
    VOLUMEATTACHMENTS,
)
from orca.api.objects import Obj, annotations, labels, name, namespace
from orca.api.volumes import RECLAIM_ON
from orca.auth.identity import NO_OPINION, Action, Decision, Reader, UserInfo, node_of

_READ = frozenset({"get", "list", "watch"})
_CHANGE = frozenset({"update", "patch"})
_OK = Decision(True)
LEASE_NAMESPACE = "kube-node-lease"
MIRROR = "kubernetes.io/config.mirror"
DNS_SETTINGS = ("kube-system", "kube-dns")

# (group, resource/subresource) -> verbs, without further conditions
_GRANTS: dict[tuple[str, str], frozenset[str]] = {
    ("", "nodes"): _READ | {"create"},
    ("", "pods"): frozenset({"create"}),
    ("", "services"): _READ,
    ("", "endpoints"): _READ,
    ("", "namespaces"): _READ,
    ("", "events"): frozenset({"create", "update", "patch"}),
    ("events.k8s.io", "events"): frozenset({"create", "update", "patch"}),
    ("discovery.k8s.io", "endpointslices"): _READ,
    ("networking.k8s.io", "networkpolicies"): _READ,
    ("node.k8s.io", "runtimeclasses"): _READ,
    ("storage.k8s.io", "csidrivers"): _READ,
    ("certificates.k8s.io", "certificatesigningrequests"): _READ | {"create"},
    ("certificates.k8s.io", "certificatesigningrequests/selfnodeclient"): frozenset({"create"}),
    ("authentication.k8s.io", "tokenreviews"): frozenset({"create"}),
    ("authorization.k8s.io", "subjectaccessreviews"): frozenset({"create"}),
    ("authorization.k8s.io", "localsubjectaccessreviews"): frozenset({"create"}),
    ("resource.k8s.io", "resourceslices"): frozenset({"create"}),
}


class NodeAuthorizer:
    """Has an opinion only of users ``system:node:<name>`` in group ``system:nodes``."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def authorize(self, user: UserInfo, action: Action) -> Decision:
        """Allowed, or no opinion with the reason why not."""
        node = node_of(user)
        if not node or action.path:
            return NO_OPINION
        key = (action.group, action.full_resource)
        verbs = _GRANTS.get(key)
        if verbs and action.verb in verbs:
            return _OK
        reason = self._refusal(node, key, action)
        return Decision(False, reason) if reason else _OK

    def _refusal(self, node: str, key: tuple[str, str], action: Action) -> str:
        """Why not; "" when it may."""
        match key:
            case ("", "nodes" | "nodes/status") if action.verb in _CHANGE:
                return "" if action.name == node else f'node "{node}" can only modify its own node object'
            case ("", "pods") if action.verb in ("list", "watch"):
                if action.fields.exact("spec.nodeName") == node or self._has_pod(node, action):
                    return ""
                if action.fields.exact("spec.hostNetwork") == "false" and self._reader.peek_list(NETWORKPOLICIES):
                    return ""
                return "can only list/watch pods with spec.nodeName field selector"
            case ("", "pods") if action.verb in ("get", "delete"):
                return self._own_pod(node, action)
            case ("", "pods/status") if action.verb in _CHANGE:
                return self._own_pod(node, action)
            case ("", "pods/eviction") if action.verb == "create":
                return self._own_pod(node, action)
            case ("", "secrets" | "configmaps") if action.verb in _READ:
                if not action.name:
                    return "can only read individual resources of this type"
                if action.resource == "configmaps" and (action.namespace, action.name) == DNS_SETTINGS:
                    return ""
                return self._referred(node, action, action.resource)
            case ("", "persistentvolumeclaims") if action.verb == "get":
                return self._referred(node, action, "persistentvolumeclaims")
            case ("", "persistentvolumeclaims/status") if action.verb in _CHANGE:
                return self._referred(node, action, "persistentvolumeclaims")
            case ("", "persistentvolumes") if action.verb in ("list", "watch"):
                if action.labels.exact().get(RECLAIM_ON) == node:
                    return ""
                return f"can only list/watch volumes with the label selector {RECLAIM_ON}={node}"
            case ("", "persistentvolumes") if action.verb in ("get", "delete", "patch"):
                if self._reclaims(node, action.name):
                    return ""
                # By a patch it lets go of a volume that is empty; admission sees to it that it does nothing else.
                return "" if action.verb == "get" and action.name in self._volumes(node) else _unrelated(node)
            case ("", "serviceaccounts/token") if action.verb == "create":
                return self._referred(node, action, "serviceaccounts")
            case ("", "serviceaccounts") if action.verb == "get":
                return self._referred(node, action, "serviceaccounts")
            case ("resource.k8s.io", "resourceclaims") if action.verb == "get":
                return self._referred(node, action, "resourceclaims")
            case ("resource.k8s.io", "resourceslices"):
                return self._slice(node, action)
            case ("coordination.k8s.io", "leases"):
                return _own_lease(node, action)
            case ("storage.k8s.io", "csinodes") if action.verb in ("create", "get", "update", "patch", "delete"):
                if action.verb == "create" or action.name == node:
                    return ""
                return f'can only access CSINode with the same name as the requesting node "{node}"'
            case ("storage.k8s.io", "volumeattachments") if action.verb == "get":
                found = self._reader.peek(VOLUMEATTACHMENTS, "", action.name)
                own = found is not None and (found.get("spec") or {}).get("nodeName") == node
                return "" if own else _unrelated(node)
        return f'node "{node}" cannot {action.verb} {action.full_resource}'

    def _own_pod(self, node: str, action: Action) -> str:
        # A pod that is not there is anybody's: the agent must learn that its pod is gone.
        pod = self._reader.peek(PODS, action.namespace, action.name)
        if pod is None or (pod.get("spec") or {}).get("nodeName") == node:
            return ""
        verb = "get" if action.verb in _READ else "change"
        return f'node "{node}" can only {verb} pods bound to itself'

    def _has_pod(self, node: str, action: Action) -> bool:
        """Whether the pod is there and the node's: by waiting for a name it would see what comes to others."""
        pod = self._reader.peek(PODS, action.namespace, action.name) if action.name else None
        return pod is not None and (pod.get("spec") or {}).get("nodeName") == node

    def _slice(self, node: str, action: Action) -> str:
        if action.verb in ("list", "watch", "deletecollection"):
            if action.fields.exact("spec.nodeName") == node:
                return ""
            return "can only list/watch/deletecollection resourceslices with nodeName field selector"
        if action.verb not in ("get", "update", "patch", "delete"):
            return f'node "{node}" cannot {action.verb} {action.full_resource}'
        found = self._reader.peek(RESOURCESLICES, "", action.name)
        return "" if found is not None and (found.get("spec") or {}).get("nodeName") == node else _unrelated(node)

    def _referred(self, node: str, action: Action, kind: str) -> str:
        for pod in self._pods(node):
            if namespace(pod) == action.namespace and action.name in references(pod, kind):
                return ""
        if kind == "secrets" and (action.namespace, action.name) in self._volume_secrets(node):
            return ""
        return _unrelated(node)

    def _pods(self, node: str) -> Iterator[Obj]:
        """The node's pods, but for mirror pods: nodes make these themselves, and would give themselves rights."""
        for pod in self._reader.peek_list(PODS, hint=("spec.nodeName", node)):
            if MIRROR not in annotations(pod):
                yield pod

    def _reclaims(self, node: str, volume_name: str) -> bool:
        """Whether the node was told to remove a volume that is nobody's any more."""
        volume = self._reader.peek(PERSISTENTVOLUMES, "", volume_name) or {}
        released = (volume.get("status") or {}).get("phase") == "Released"
        unwanted = (volume.get("spec") or {}).get("persistentVolumeReclaimPolicy") == "Delete"
        return released and unwanted and labels(volume).get(RECLAIM_ON) == node

    def _volumes(self, node: str) -> dict[str, Obj]:
        """PersistentVolumes behind the claims of the node's pods."""
        found: dict[str, Obj] = {}
        for pod in self._pods(node):
            for claim_name in references(pod, "persistentvolumeclaims"):
                claim = self._reader.peek(PERSISTENTVOLUMECLAIMS, namespace(pod), claim_name) if claim_name else None
                volume_name = ((claim or {}).get("spec") or {}).get("volumeName") or ""
                volume = self._reader.peek(PERSISTENTVOLUMES, "", volume_name) if volume_name else None
                if volume is None:
                    continue
                bound = (volume.get("spec") or {}).get("claimRef") or {}
                if (bound.get("namespace"), bound.get("name")) == (namespace(pod), claim_name):
                    found[volume_name] = volume
        return found

    def _volume_secrets(self, node: str) -> set[tuple[str, str]]:
        found = set()
        for volume in self._volumes(node).values():
            spec = volume.get("spec") or {}
            space = (spec.get("claimRef") or {}).get("namespace") or ""
            for source in spec.values():
                if not isinstance(source, dict):
                    continue
                for field in _VOLUME_SECRETS:
                    reference = source.get(field) or {}
                    found.add((reference.get("namespace") or space, reference.get("name") or ""))
                if source.get("secretName"):
                    found.add((source.get("secretNamespace") or space, source["secretName"]))
        return found


_VOLUME_SECRETS = (
    "secretRef",
    "controllerExpandSecretRef",
    "controllerPublishSecretRef",
    "nodeExpandSecretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
)


def _unrelated(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"


def _own_lease(node: str, action: Action) -> str:
    if action.namespace != LEASE_NAMESPACE:
        return f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
    if action.verb in ("create",) or (action.verb in ("get", "update", "patch", "delete") and action.name == node):
        return ""
    return f'can only access node lease with the same name as the requesting node "{node}"'


def references(pod: Obj, kind: str) -> Iterator[str]:
    """Names (some empty) of the ``kind`` (a plural) in its namespace that a pod refers to."""
    spec = pod.get("spec") or {}
    if kind == "serviceaccounts":
        yield spec.get("serviceAccountName") or "default"
        return
    if kind == "resourceclaims":
        for claim in (pod.get("status") or {}).get("resourceClaimStatuses") or ():
            yield claim.get("resourceClaimName") or ""
        for claim in spec.get("resourceClaims") or ():
            yield claim.get("resourceClaimName") or ""
        return
    volumes = spec.get("volumes") or ()
    if kind == "persistentvolumeclaims":
        for volume in volumes:
            yield (volume.get("persistentVolumeClaim") or {}).get("claimName") or ""
            if volume.get("ephemeral"):
                yield f"{name(pod)}-{volume.get('name')}"
        return
    secret = kind == "secrets"
    if secret:
        for pull in spec.get("imagePullSecrets") or ():
            yield pull.get("name") or ""
    source, field, key = ("secret", "secretName", "secret") if secret else ("configMap", "name", "configMap")
    for volume in volumes:
        yield (volume.get(source) or {}).get(field) or ""
        for projected in (volume.get("projected") or {}).get("sources") or ():
            yield (projected.get(key) or {}).get("name") or ""
        if secret:
            yield from _volume_secrets(volume)
    from_all, from_one = ("secretRef", "secretKeyRef") if secret else ("configMapRef", "configMapKeyRef")
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(group) or ():
            for source_of in container.get("envFrom") or ():
                yield (source_of.get(from_all) or {}).get("name") or ""
            for variable in container.get("env") or ():
                yield ((variable.get("valueFrom") or {}).get(from_one) or {}).get("name") or ""


def _volume_secrets(volume: Obj) -> Iterator[str]:
    for kind in ("cephfs", "flexVolume", "rbd", "scaleIO", "storageos", "iscsi"):
        yield ((volume.get(kind) or {}).get("secretRef") or {}).get("name") or ""
    yield (volume.get("azureFile") or {}).get("secretName") or ""
    yield ((volume.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name") or ""
