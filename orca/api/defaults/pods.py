"""Pods and pod templates.

Upstream keeps two sets apart, and so does this module: what every pod spec gets, also inside templates, and what
only a Pod itself gets (requests from limits, service links, host ports of the host network).
"""

from __future__ import annotations

from typing import Any

from orca.api.defaults.quantities import canonical_list, canonical_value
from orca.api.defaults.registry import Obj, defaults, put
from orca.api.remembering import remembered

FILE_MODE = 0o644
TOKEN_SECONDS = 3600


@remembered(4096)
def _pull_policy(image: str) -> str:
    """``Always`` for the tag latest, also when implied; a digest pins the image."""
    if "@" in image:
        # The tag before a digest still counts, as in upstream.
        before = image.partition("@")[0]
        tag = before.rpartition("/")[2].partition(":")[2]
        return "Always" if tag == "latest" else "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _field_ref(ref: Obj | None) -> None:
    if ref is not None and not ref.get("apiVersion"):
        ref["apiVersion"] = "v1"


def _resource_ref(ref: Obj | None) -> None:
    if ref is not None:
        divisor = ref.get("divisor")
        ref["divisor"] = "0" if divisor is None else canonical_value(divisor)


def _http(action: Obj | None) -> None:
    if action is not None:
        if not action.get("path"):
            action["path"] = "/"
        if not action.get("scheme"):
            action["scheme"] = "HTTP"


def _probe(probe: Obj) -> None:
    if not probe.get("timeoutSeconds"):
        probe["timeoutSeconds"] = 1
    if not probe.get("periodSeconds"):
        probe["periodSeconds"] = 10
    if not probe.get("successThreshold"):
        probe["successThreshold"] = 1
    if not probe.get("failureThreshold"):
        probe["failureThreshold"] = 3
    _http(probe.get("httpGet"))
    grpc = probe.get("grpc")
    if grpc is not None and grpc.get("service") is None:
        grpc["service"] = ""


def _env(variables: list[Obj]) -> None:
    for variable in variables:
        if "valueFrom" not in variable:
            continue
        source = variable["valueFrom"]
        if source is not None:
            _field_ref(source.get("fieldRef"))
            _resource_ref(source.get("resourceFieldRef"))
            file_ref = source.get("fileKeyRef")
            if file_ref is not None:
                put(file_ref, optional=False)


def container(obj: Obj) -> None:
    """Defaults of one container of a pod or template, also init and ephemeral ones."""
    get = obj.get
    if not get("imagePullPolicy"):
        obj["imagePullPolicy"] = _pull_policy(get("image") or "")
    if not get("terminationMessagePath"):
        obj["terminationMessagePath"] = "/dev/termination-log"
    if not get("terminationMessagePolicy"):
        obj["terminationMessagePolicy"] = "File"
    for port in get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    env = get("env")
    if env:
        _env(env)
    resources = get("resources")
    if resources is None:
        obj["resources"] = {}
    elif resources:
        canonical_list(resources.get("limits"))
        canonical_list(resources.get("requests"))
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = get(kind)
        if probe is not None:
            _probe(probe)
    lifecycle = get("lifecycle")
    if lifecycle:
        for hook in ("postStart", "preStop"):
            handler = lifecycle.get(hook)
            if handler:
                _http(handler.get("httpGet"))


def _items(items: list[Obj] | None) -> None:
    for item in items or ():
        _field_ref(item.get("fieldRef"))
        _resource_ref(item.get("resourceFieldRef"))


def _projected(source: Obj) -> None:
    put(source, defaultMode=FILE_MODE)
    for one in source.get("sources") or ():
        token = one.get("serviceAccountToken")
        if token is not None:
            put(token, expirationSeconds=TOKEN_SECONDS)
        downward = one.get("downwardAPI")
        if downward is not None:
            _items(downward.get("items"))


def _downward(source: Obj) -> None:
    put(source, defaultMode=FILE_MODE)
    _items(source.get("items"))


def _mode(source: Obj) -> None:
    put(source, defaultMode=FILE_MODE)


def _empty_dir(source: Obj) -> None:
    limit = source.get("sizeLimit")
    if limit is not None:
        source["sizeLimit"] = canonical_value(limit)


def _ephemeral(source: Obj) -> None:
    template = source.get("volumeClaimTemplate")
    if template is not None and template.get("spec") is not None:
        claim_spec(template["spec"])


def claim_spec(spec: Obj) -> None:
    """Defaults of a PersistentVolumeClaim's spec, also inside templates."""
    put(spec, volumeMode="Filesystem")
    resources = spec.get("resources")
    if resources:
        canonical_list(resources.get("requests"))
        canonical_list(resources.get("limits"))


def _azure_disk(source: Obj) -> None:
    put(source, cachingMode="ReadWrite", kind="Shared", fsType="ext4", readOnly=False)


def _rbd(source: Obj) -> None:
    for key, value in (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")):
        if not source.get(key):
            source[key] = value


def _scale_io(source: Obj) -> None:
    if not source.get("storageMode"):
        source["storageMode"] = "ThinProvisioned"
    if not source.get("fsType"):
        source["fsType"] = "xfs"


def _iscsi(source: Obj) -> None:
    if not source.get("iscsiInterface"):
        source["iscsiInterface"] = "default"


def _host_path(source: Obj) -> None:
    put(source, type="")


def _image(source: Obj) -> None:
    if not source.get("pullPolicy"):
        source["pullPolicy"] = _pull_policy(source.get("reference") or "")


_VOLUMES = {
    "secret": _mode,
    "configMap": _mode,
    "projected": _projected,
    "downwardAPI": _downward,
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "ephemeral": _ephemeral,
    "iscsi": _iscsi,
    "rbd": _rbd,
    "azureDisk": _azure_disk,
    "scaleIO": _scale_io,
    "image": _image,
}
# PersistentVolumes name the same sources.
PERSISTENT_SOURCES = {key: _VOLUMES[key] for key in ("hostPath", "iscsi", "rbd", "azureDisk", "scaleIO")}


def _volume(volume: Obj) -> None:
    if len(volume) < 2 or all(value is None for key, value in volume.items() if key != "name"):
        volume["emptyDir"] = {}
        return
    for key, source in volume.items():
        fill = _VOLUMES.get(key)
        if fill is not None and source is not None:
            fill(source)


def pod_spec(spec: Obj) -> None:
    """What every pod spec gets, in a Pod and in templates."""
    get = spec.get
    if not get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if not get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if get("securityContext") is None:
        spec["securityContext"] = {}
    if get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if not get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    # The old name of the field is kept equal to the new one, which wins.
    account = get("serviceAccountName") or get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for group in ("containers", "initContainers", "ephemeralContainers"):
        for one in get(group) or ():
            container(one)
    for volume in get("volumes") or ():
        _volume(volume)
    overhead = get("overhead")
    if overhead:
        canonical_list(overhead)
    resources = get("resources")
    if resources:
        canonical_list(resources.get("limits"))
        canonical_list(resources.get("requests"))


def template(obj: Obj | None) -> None:
    """Defaults of a PodTemplateSpec."""
    if obj is not None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        pod_spec(spec)


def _requests_from_limits(one: Obj) -> Obj | None:
    resources = one.get("resources") or {}
    limits = resources.get("limits")
    if limits:
        requests = resources.get("requests")
        resources["requests"] = {**limits, **requests} if requests else dict(limits)
    found: Obj | None = resources.get("requests")
    return found


def _resize_policy(one: Obj, requests: Obj) -> None:
    """Containers that request cpu or memory say how each may be resized."""
    policies = one.get("resizePolicy") or []
    named = {policy.get("resourceName") for policy in policies}
    missing = [name for name in ("cpu", "memory") if name in requests and name not in named]
    if missing:
        added = [{"resourceName": name, "restartPolicy": "NotRequired"} for name in missing]
        one["resizePolicy"] = [*policies, *added]


def _host_ports(containers: list[Obj]) -> None:
    for one in containers:
        for port in one.get("ports") or ():
            if not port.get("hostPort") and port.get("containerPort"):
                port["hostPort"] = port["containerPort"]


def _pod_requests_from_limits(spec: Obj) -> None:
    """Pod-level requests: from the containers when all of them say so, else from the pod-level limits."""
    resources = spec.get("resources")
    limits = resources.get("limits") if resources else None
    if not resources or not limits:
        return
    requests = dict(resources.get("requests") or {})
    for key, value in limits.items():
        if key in ("cpu", "memory") and key not in requests:
            asked = [((c.get("resources") or {}).get("requests") or {}).get(key) for c in spec.get("containers") or ()]
            if not any(asked):
                requests[key] = value
    if requests:
        resources["requests"] = requests


@defaults("", "Pod")
def pod(obj: Obj) -> None:
    """Defaults of a Pod."""
    spec: Any = obj.get("spec")
    if spec is None:
        spec = obj["spec"] = {}
    pod_spec(spec)
    if spec["terminationGracePeriodSeconds"] < 0:
        spec["terminationGracePeriodSeconds"] = 1  # in pods alone: templates keep what they say
    containers, init = spec.get("containers") or [], spec.get("initContainers") or []
    for one in containers:
        requests = _requests_from_limits(one)
        if requests:
            _resize_policy(one, requests)
    for one in init:
        requests = _requests_from_limits(one)
        if requests and one.get("restartPolicy") == "Always":
            _resize_policy(one, requests)
    _pod_requests_from_limits(spec)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        _host_ports(containers)
        _host_ports(init)


@defaults("", "PodTemplate")
def pod_template(obj: Obj) -> None:
    """Defaults of a PodTemplate object."""
    template(obj.get("template"))
