"""Who a pod of a StatefulSet is: its ordinal, name, labels, host name and claims. Pure.

An ordinal is only ever read from the pod's name, and names are unique in a namespace: that is what keeps two pods of
one ordinal from existing at the same time.
"""

import re

from orca.api.builtin import STATEFULSETS
from orca.api.objects import Obj, labels, name
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.podcontrol import pod_from_template

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
_ORDINAL = re.compile(r"0|[1-9][0-9]*")


def ordinal_of(statefulset: Obj, pod_name: str) -> int | None:
    """The ordinal in a pod's name; None when it is no name that this set gives (`web-03`, `other-3`)."""
    prefix = f"{name(statefulset)}-"
    rest = pod_name.removeprefix(prefix)
    return int(rest) if pod_name.startswith(prefix) and _ORDINAL.fullmatch(rest) else None


def ordinals(statefulset: Obj) -> range:
    """The ordinals it should have."""
    spec = statefulset["spec"]
    start = (spec.get("ordinals") or {}).get("start") or 0
    replicas = spec.get("replicas")
    return range(start, start + (1 if replicas is None else replicas))


def revision_of(pod: Obj) -> str:
    """Name of the ControllerRevision it was made from."""
    return labels(pod).get(HASH_LABEL, "")


def identity_labels(statefulset: Obj, ordinal: int) -> dict[str, str]:
    """Labels that name one pod."""
    return {NAME_LABEL: f"{name(statefulset)}-{ordinal}", INDEX_LABEL: str(ordinal)}


def make_pod(statefulset: Obj, template: Obj, ordinal: int, revision: str) -> Obj:
    """The pod of that ordinal from `template` (of the revision named `revision`)."""
    pod = pod_from_template(STATEFULSETS, statefulset, template)
    pod_name = f"{name(statefulset)}-{ordinal}"
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["name"] = pod_name
    metadata["labels"] = {
        **(metadata.get("labels") or {}),
        **identity_labels(statefulset, ordinal),
        HASH_LABEL: revision,
    }
    spec["hostname"] = pod_name
    if statefulset["spec"].get("serviceName"):
        spec["subdomain"] = statefulset["spec"]["serviceName"]
    claims = {
        claim["metadata"]["name"]: claim_name(statefulset, claim, ordinal)
        for claim in statefulset["spec"].get("volumeClaimTemplates") or ()
    }
    if claims:
        # A claim takes the place of a volume of the template that has its name.
        spec["volumes"] = [
            *({"name": volume, "persistentVolumeClaim": {"claimName": found}} for volume, found in claims.items()),
            *(volume for volume in spec.get("volumes") or () if volume["name"] not in claims),
        ]
    return pod


def claim_name(statefulset: Obj, template: Obj, ordinal: int) -> str:
    """Name of the claim made from a claim template for one ordinal."""
    return f"{template['metadata']['name']}-{name(statefulset)}-{ordinal}"
