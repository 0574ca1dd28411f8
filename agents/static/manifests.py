"""A manifest of this host as the pod it asks for. Pure, but loads the API's schema (20 MB): see ``judging``.

Reference: k8s.io/kubernetes ``pkg/kubelet/config/common.go``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from agents.origin import HASH, SOURCE
from orca.api import strategy
from orca.api.builtin import PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj, ensure_meta
from orca.api.schema import decode

Kind = Literal["file", "http"]

_CRITICAL = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_OUTLIVES_TAINTS = {"operator": "Exists", "effect": "NoExecute"}


class ManifestError(Exception):
    """Why a manifest is no pod that can run here."""


def pods_of(text: str, *, kind: Kind, origin: str, node_name: str) -> list[Obj]:
    """The pods of a manifest, defaulted and checked. One for a file; a URL may also answer a PodList.

    ``origin`` is the file's path or the URL: two places that ask for the same pod ask for two. Raises ManifestError.
    """
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ManifestError(f"couldn't parse as pod: {error}") from error
    if not isinstance(document, dict):
        raise ManifestError("couldn't parse as pod: not an object")
    if kind == "http" and document.get("kind") in ("PodList", "List"):
        items = document.get("items") or []
        return [_pod(item, kind, origin, node_name) for item in items]
    return [_pod(document, kind, origin, node_name)]


def _pod(document: Any, kind: Kind, origin: str, node_name: str) -> Obj:
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != ("v1", "Pod"):
        raise ManifestError("couldn't parse as pod: want apiVersion v1 and kind Pod")
    try:
        # Unknown fields are dropped: a manifest may be older or newer than this agent.
        pod, _ = decode(PODS, json.loads(json.dumps(document)), refuse_unknown=False)
    except ApiError as error:
        raise ManifestError(error.message) from error
    metadata, spec = ensure_meta(pod), pod.setdefault("spec", {})
    if not metadata.get("name"):
        raise ManifestError("invalid pod: metadata.name: Required value: name or generateName is required")
    if resource := next(references(spec), ""):
        raise ManifestError(f"static pods may not reference {resource}")
    if spec.get("ephemeralContainers"):
        raise ManifestError("static pods may not have ephemeral containers")
    uid = metadata.get("uid") or _hash(pod, kind, origin, node_name)
    pod.pop("status", None)
    for field in ("resourceVersion", "creationTimestamp", "deletionTimestamp", "ownerReferences", "managedFields"):
        metadata.pop(field, None)
    metadata["uid"] = uid
    metadata["name"] = f"{metadata['name']}-{node_name.lower()}"
    metadata.setdefault("namespace", "default")
    metadata["annotations"] = {**(metadata.get("annotations") or {}), SOURCE: kind, HASH: uid}
    spec["nodeName"] = node_name
    if kind == "file" and _OUTLIVES_TAINTS not in (spec.get("tolerations") or ()):
        spec["tolerations"] = [*(spec.get("tolerations") or ()), dict(_OUTLIVES_TAINTS)]
    if spec.get("priority") is None and spec.get("priorityClassName") in _CRITICAL:
        # What the admission of the mirror will find; who orders pods by priority needs it before there is one.
        spec["priority"] = _CRITICAL[spec["priorityClassName"]]
    strategy.apply_defaults(PODS, pod)
    if problems := strategy.validate_create(PODS, pod):
        raise ManifestError(f"invalid pod: {'; '.join(map(str, problems))}")
    pod["status"] = {"phase": "Pending"}
    return pod


def references(spec: Obj) -> Iterator[str]:
    """What of the API a pod would need: the plural names of the resources."""
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        yield "serviceaccounts"
    if spec.get("imagePullSecrets"):
        yield "secrets"
    if spec.get("resourceClaims"):
        yield "resourceclaims"
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        yield from _of_container(container)
    for volume in spec.get("volumes") or ():
        yield from _of_volume(volume)


def _of_container(container: Obj) -> Iterator[str]:
    for source in container.get("envFrom") or ():
        yield from (name for field, name in _REFERENCES.items() if source.get(field) is not None)
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        yield from (name for field, name in _REFERENCES.items() if source.get(field) is not None)


def _of_volume(volume: Obj) -> Iterator[str]:
    for field, name in _VOLUMES.items():
        if volume.get(field) is not None:
            yield name
    for value in volume.values():
        if isinstance(value, dict) and (value.get("secretRef") or value.get("nodePublishSecretRef")):
            yield "secrets"
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield from (name for field, name in _PROJECTED.items() if source.get(field) is not None)


_REFERENCES = {
    "configMapRef": "configmaps",
    "configMapKeyRef": "configmaps",
    "secretRef": "secrets",
    "secretKeyRef": "secrets",
}
_VOLUMES = {
    "configMap": "configmaps",
    "secret": "secrets",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims",
    "csi": "csidrivers",
}
_PROJECTED = {
    "configMap": "configmaps",
    "secret": "secrets",
    "serviceAccountToken": "serviceaccounts",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


def _hash(pod: Obj, kind: Kind, origin: str, node_name: str) -> str:
    """The uid of a pod that names none: another content, place or node makes another pod."""
    place = f"host:{node_name}file:{origin}" if kind == "file" else f"url:{origin}"
    content = json.dumps(pod, sort_keys=True, separators=(",", ":"))
    return hashlib.md5(f"{place}{content}".encode(), usedforsecurity=False).hexdigest()


class _Loader(yaml.SafeLoader):
    """Times stay text, as in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
