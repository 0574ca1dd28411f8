"""Nodes and RuntimeClasses."""

from __future__ import annotations

import ipaddress

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import resources, scheduling
from orca.api.validation.registry import Errors, Obj, on_create, on_update


def _taints(taints: list[Obj], path: str, out: Errors) -> None:
    seen = set()
    for i, taint in enumerate(taints):
        at = f"{path}[{i}]"
        key, value, effect = taint.get("key") or "", taint.get("value") or "", taint.get("effect")
        common.messages(names.qualified_name(key), key, f"{at}.key", out)
        wrong = names.label_value(value)
        if wrong:
            out.append(FieldError.invalid(f"{at}.value", value, ";".join(wrong)))
        if not effect:
            out.append(FieldError.required(f"{at}.effect"))
        else:
            common.choice(effect, scheduling.EFFECTS, f"{at}.effect", out)
        if (key, effect) in seen:
            duplicate = FieldError.duplicate(at, taint)
            text = "taints must be unique by key and effect pair"
            out.append(FieldError(duplicate.type, duplicate.field, duplicate.value, text))
        seen.add((key, effect))


def _cidrs(spec: Obj, out: Errors) -> None:
    listed = spec.get("podCIDRs") or []
    for i, value in enumerate(listed):
        common.messages(names.cidr(value), value, f"spec.podCIDRs[{i}]", out)
    sound = [value for value in listed if not names.cidr(value)]
    if len(listed) > 1:
        versions = {ipaddress.ip_network(value, strict=False).version for value in sound}
        if len(listed) > 2 or len(versions) != len(listed):
            text = "may specify no more than one CIDR for each IP family"
            out.append(FieldError.invalid("spec.podCIDRs", listed, text))


@on_create("", "Node")
def node(obj: Obj) -> Errors:
    """A Node."""
    out: Errors = []
    spec = obj.get("spec") or {}
    # Upstream tells of taints as if they were metadata.
    _taints(spec.get("taints") or [], "metadata.taints", out)
    _cidrs(spec, out)
    for part in ("capacity", "allocatable"):
        for key, value in ((obj.get("status") or {}).get(part) or {}).items():
            resources.amount(key, value, f"status.{part}.{key}", out)
    return out


@on_update("", "Node")
def node_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Node: ranges and provider stay once they are set."""
    out: Errors = []
    if subresource == "status":
        seen = set()
        for i, address in enumerate((new.get("status") or {}).get("addresses") or ()):
            pair = (address.get("type"), address.get("address"))
            if pair in seen:
                out.append(FieldError.duplicate(f"status.addresses[{i}]", address))
            seen.add(pair)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    had, has = before.get("podCIDRs") or [], wanted.get("podCIDRs") or []
    if had and has != had:
        text = 'node updates may not change podCIDR except from "" to valid'
        out.append(FieldError.forbidden("spec.podCIDRs", text))
    if before.get("providerID") and wanted.get("providerID") != before["providerID"]:
        text = 'node updates may not change providerID except from "" to valid'
        out.append(FieldError.forbidden("spec.providerID", text))
    return out + node(new)


@on_create("node.k8s.io", "RuntimeClass")
def runtime_class(obj: Obj) -> Errors:
    """A RuntimeClass."""
    out: Errors = []
    handler = obj.get("handler") or ""
    common.messages(names.dns1123_label(handler), handler, "handler", out)
    fixed = (obj.get("overhead") or {}).get("podFixed")
    if fixed:
        resources.requirements({"limits": fixed}, "overhead.podFixed", out)
    rules = obj.get("scheduling") or {}
    common.labels(rules.get("nodeSelector"), "scheduling.nodeSelector", out)
    scheduling.tolerations(rules.get("tolerations") or [], "scheduling.tolerations", out)
    return out


@on_update("node.k8s.io", "RuntimeClass")
def runtime_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed RuntimeClass; its handler stays."""
    out = runtime_class(new)
    common.immutable(new.get("handler"), old.get("handler"), "handler", out)
    return out
