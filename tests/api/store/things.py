"""Objects for the store's tests."""

from __future__ import annotations

from orca.api.objects import Obj


def config(name: str, namespace: str = "default", **data: str) -> Obj:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "labels": {"part": data.get("part", "")}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(name: str, node: str, namespace: str = "default") -> Obj:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node, "containers": []}}


def with_data(obj: Obj, **data: str) -> Obj:
    return {**obj, "data": {**obj.get("data", {}), **data}}
