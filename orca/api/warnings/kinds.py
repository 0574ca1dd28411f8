"""Services, volumes, nodes and the other kinds with something to say."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_network

from orca.api.errors import quote
from orca.api.objects import Obj, meta
from orca.api.warnings import labels
from orca.api.warnings.pods import claim
from orca.api.warnings.registry import warns

_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_BETA_MOUNT = "volume.beta.kubernetes.io/mount-options"
_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"
_GONE_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}


def address(value: str, at: str) -> Iterator[str]:
    """An address that is written in an unusual way."""
    try:
        found = ip_address(value)
    except ValueError:
        return
    if isinstance(found, IPv6Address) and str(found) != value:
        yield f"{at}: IPv6 address {quote(value)} should be in RFC 5952 canonical format ({quote(str(found))})"


def cidr(value: str, at: str) -> Iterator[str]:
    """A range whose address has bits beyond its prefix, or is written in an unusual way."""
    value = value.strip()
    try:
        found = ip_network(value, strict=False)
    except ValueError:
        return
    written = value.partition("/")[0]
    if str(ip_address(written)) != str(found.network_address):
        narrow = f"{written}/{found.max_prefixlen}"
        yield (
            f"{at}: CIDR value {quote(value)} is ambiguous in this context "
            f"(should be {quote(str(found))} or {quote(narrow)}?)"
        )
    elif found.version == 6 and str(found) != value:
        yield f"{at}: IPv6 CIDR value {quote(value)} should be in RFC 5952 canonical format ({quote(str(found))})"


@warns("", "Service")
def service(new: Obj, old: Obj | None) -> Iterator[str]:
    """Fields that the service's type leaves without use, and deprecated ones."""
    del old
    if "service.kubernetes.io/topology-aware-hints" in (meta(new).get("annotations") or {}):
        yield (
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, "
            "please use service.kubernetes.io/topology-mode instead"
        )
    spec = new.get("spec") or {}
    kind, external = spec.get("type"), spec.get("externalIPs") or []
    headless = kind == "ClusterIP" and spec.get("clusterIP") == "None"
    for i, one in enumerate(spec.get("clusterIPs") or ()):
        yield from address(one, f"spec.clusterIPs[{i}]")
    if headless:
        if spec.get("loadBalancerIP"):
            yield "spec.loadBalancerIP is ignored for headless services"
        if external:
            yield "spec.externalIPs is ignored for headless services"
        if spec.get("sessionAffinity") not in (None, "None"):
            yield "spec.SessionAffinity is ignored for headless services"
    for i, one in enumerate(external):
        yield from address(one, f"spec.externalIPs[{i}]")
    if external and not headless and kind != "ExternalName":
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if spec.get("loadBalancerIP"):
        yield from address(spec["loadBalancerIP"], "spec.loadBalancerIP")
    for i, one in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        yield from cidr(one, f"spec.loadBalancerSourceRanges[{i}]")
    if kind == "ExternalName" and external:
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if kind != "ExternalName" and spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


@warns("", "PersistentVolume")
def volume(new: Obj, old: Obj | None) -> Iterator[str]:
    """Deprecated annotations, sources and ways to reclaim."""
    del old
    annotations, spec = meta(new).get("annotations") or {}, new.get("spec") or {}
    if _BETA_CLASS in annotations:
        yield f'metadata.annotations[{_BETA_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'
    if _BETA_MOUNT in annotations:
        yield f'metadata.annotations[{_BETA_MOUNT}]: deprecated since v1.31; use "mountOptions" attribute instead'
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        yield (
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended "
            "approach is to use dynamic provisioning."
        )
    required = (spec.get("nodeAffinity") or {}).get("required")
    yield from labels.in_node_terms(required, "spec.nodeAffinity.required")
    for kind, text in _GONE_VOLUMES.items():
        if spec.get(kind) is not None:
            yield f"spec.{kind}: {text}"


@warns("", "PersistentVolumeClaim")
def volume_claim(new: Obj, old: Obj | None) -> Iterator[str]:
    """Deprecated annotations, and amounts of half bytes."""
    del old
    if _BETA_CLASS in (meta(new).get("annotations") or {}):
        yield f'metadata.annotations[{_BETA_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'
    yield from claim(new.get("spec") or {}, "spec")


@warns("", "Node")
def node(new: Obj, old: Obj | None) -> Iterator[str]:
    """Fields that nothing reads any more."""
    del old
    spec = new.get("spec") or {}
    if spec.get("configSource") is not None:
        yield "spec.configSource: the feature is no longer supported"
    if spec.get("externalID"):
        yield "spec.externalID: this field is deprecated, and is unused by Kubernetes"


@warns("storage.k8s.io", "StorageClass")
def storage_class(new: Obj, old: Obj | None) -> Iterator[str]:
    """Old names of topology labels."""
    del old
    for i, term in enumerate(new.get("allowedTopologies") or ()):
        for j, rule in enumerate(term.get("matchLabelExpressions") or ()):
            if text := labels.renamed(rule.get("key") or ""):
                yield f"allowedTopologies[{i}].matchLabelExpressions[{j}].key: {rule['key']} is {text}"


@warns("node.k8s.io", "RuntimeClass")
def runtime_class(new: Obj, old: Obj | None) -> Iterator[str]:
    """Old names of node labels."""
    del old
    for label in (new.get("scheduling") or {}).get("nodeSelector") or ():
        if text := labels.renamed(label):
            yield f"scheduling.nodeSelector: {text}"


@warns("storage.k8s.io", "CSIStorageCapacity")
def capacity(new: Obj, old: Obj | None) -> Iterator[str]:
    """Old names of node labels."""
    del old
    yield from labels.in_label_selector(new.get("nodeTopology"), "nodeTopology")


@warns("networking.k8s.io", "Ingress")
def ingress(new: Obj, old: Obj | None) -> Iterator[str]:
    """The annotation that was there before ``ingressClassName``."""
    if old is None and "kubernetes.io/ingress.class" in (meta(new).get("annotations") or {}):
        yield "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"


@warns("", "ServiceAccount")
def service_account(new: Obj, old: Obj | None) -> Iterator[str]:
    """The annotation that keeps pods from Secrets their account does not list."""
    before = (meta(old).get("annotations") or {}) if old is not None else {}
    if _MOUNTABLE in (meta(new).get("annotations") or {}) and _MOUNTABLE not in before:
        text = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        yield f"metadata.annotations[{_MOUNTABLE}]: {text}"


@warns("networking.k8s.io", "NetworkPolicy")
def network_policy(new: Obj, old: Obj | None) -> Iterator[str]:
    """Ranges that are written in an unusual way."""
    del old
    spec = new.get("spec") or {}
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(way) or ()):
            for j, peer in enumerate(rule.get(peers) or ()):
                block, at = peer.get("ipBlock"), f"spec.{way}[{i}].{peers}[{j}].ipBlock"
                if block:
                    yield from cidr(str(block.get("cidr") or ""), f"{at}.cidr")
                    for k, one in enumerate(block.get("except") or ()):
                        yield from cidr(str(one), f"{at}.except[{k}]")


@warns("discovery.k8s.io", "EndpointSlice")
def endpoint_slice(new: Obj, old: Obj | None) -> Iterator[str]:
    """Slices of names, and addresses that are written in an unusual way."""
    del old
    if new.get("addressType") == "FQDN":
        yield "addressType: FQDN endpoints are deprecated"
        return
    for i, endpoint in enumerate(new.get("endpoints") or ()):
        for j, one in enumerate(endpoint.get("addresses") or ()):
            yield from address(one, f"endpoints[{i}].addresses[{j}]")
