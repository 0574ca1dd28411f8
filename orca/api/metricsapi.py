"""Definitions of ``metrics.k8s.io/v1beta1``, which upstream has apart from its API server.

Reference: k8s.io/metrics.
"""

from orca.api.objects import Obj

_PREFIX = "io.k8s.metrics.pkg.apis.metrics.v1beta1."
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def _ref(name: str) -> Obj:
    return {"$ref": f"#/$defs/{name}"}


_TEXT: Obj = {"type": ["string", "null"]}
_USAGE: Obj = {
    "description": "The resources used, by name: cpu and memory.",
    "type": ["object", "null"],
    "additionalProperties": _ref("io.k8s.apimachinery.pkg.api.resource.Quantity"),
}
_SPAN: Obj = {
    "timestamp": {**_ref(f"{_META}Time"), "description": "The end of the interval that was measured."},
    "window": {**_ref(f"{_META}Duration"), "description": "The length of that interval."},
}


def _kind(kind: str, description: str, properties: Obj) -> Obj:
    return {
        "description": description,
        "type": ["object", "null"],
        "properties": {"apiVersion": _TEXT, "kind": _TEXT, **properties},
        "x-kubernetes-group-version-kind": [{"group": "metrics.k8s.io", "version": "v1beta1", "kind": kind}],
    }


def _list(kind: str) -> Obj:
    items = {"type": ["array", "null"], "items": _ref(_PREFIX + kind), "description": "One entry for each."}
    return _kind(f"{kind}List", f"A list of {kind}.", {"metadata": _ref(f"{_META}ListMeta"), "items": items})


_OBJECT_META: Obj = _ref(f"{_META}ObjectMeta")
DEFINITIONS: dict[str, Obj] = {
    f"{_META}Duration": {"description": "A duration as Go writes it, such as 10s.", "type": ["string", "null"]},
    f"{_PREFIX}ContainerMetrics": {
        "description": "What one container used.",
        "type": ["object", "null"],
        "properties": {"name": {**_TEXT, "description": "The container's name."}, "usage": _USAGE},
    },
    f"{_PREFIX}NodeMetrics": _kind(
        "NodeMetrics", "What a node used.", {"metadata": _OBJECT_META, **_SPAN, "usage": _USAGE}
    ),
    f"{_PREFIX}PodMetrics": _kind(
        "PodMetrics",
        "What a pod's containers used.",
        {
            "metadata": _OBJECT_META,
            **_SPAN,
            "containers": {
                "description": "All containers, as measured over the same interval.",
                "type": ["array", "null"],
                "items": _ref(f"{_PREFIX}ContainerMetrics"),
            },
        },
    ),
    f"{_PREFIX}NodeMetricsList": _list("NodeMetrics"),
    f"{_PREFIX}PodMetricsList": _list("PodMetrics"),
}
"""Name -> JSON Schema, in the form of the schema's data."""
