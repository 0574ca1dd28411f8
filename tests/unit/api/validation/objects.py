"""Objects as clients send them, and what the API says of them."""

from copy import deepcopy

from orca.api import strategy
from orca.api.builtin import PODS


def pod(annotations=None, **spec):
    """A pod of one container, changed by *spec*."""
    meta = {"name": "x", "namespace": "d"}
    if annotations:
        meta["annotations"] = annotations
    base = {"containers": [{"name": "c", "image": "i:1"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": base}


def container(**fields):
    """A pod whose container has *fields*."""
    return pod(containers=[{"name": "c", "image": "i:1", **fields}])


def volume(**fields):
    """A pod with one volume of *fields*."""
    return pod(volumes=[{"name": "v", **fields}])


def made(resource, body):
    """*body* with a name, defaults and what creation sets."""
    meta = {"name": "x", **({"namespace": "d"} if resource.namespaced else {})}
    obj = deepcopy({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, **body})
    strategy.apply_defaults(resource, obj)
    strategy.prepare_create(resource, obj)
    return obj


def refused(resource, body):
    """What is wrong with *body* as a new object."""
    return [str(error) for error in strategy.validate_create(resource, made(resource, body))]


def refused_pod(obj):
    """What is wrong with the new pod *obj*."""
    return refused(PODS, obj)


def changed(resource, body, change, door=""):
    """What is wrong when *change* is done to *body* through *door*."""
    old = made(resource, body)
    new = deepcopy(old)
    change(new)
    strategy.apply_defaults(resource, new)
    strategy.prepare_update(resource, new, old, door)
    return [str(error) for error in strategy.validate_update(resource, new, old, door)]
