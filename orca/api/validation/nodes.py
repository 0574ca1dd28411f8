"""Nodes and RuntimeClasses."""

from __future__ import annotations

import ipaddress
import re

from orca.api import names
from orca.api.errors import FieldError, quote
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


_FEATURE = re.compile(r"[A-Z][a-zA-Z0-9]*(/[a-zA-Z0-9]+)*")


def _features(features: list[str], path: str, out: Errors) -> None:
    """What a node says it can: sorted names."""
    for i, name in enumerate(features):
        if len(name) > names.SUBDOMAIN_MAX:
            text = f"must be no more than {names.SUBDOMAIN_MAX} characters"
        elif not _FEATURE.fullmatch(name):
            text = (
                "must start with an UpperCamelCase segment, with subsequent segments separated by '/' "
                "(e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            )
        else:
            text = ""
        if text:
            out.append(FieldError.invalid(f"{path}[{i}]", name, f"invalid feature name {quote(name)}: {text}"))
        if i and features[i - 1] == name:
            out.append(FieldError.duplicate(f"{path}[{i}]", name))
        elif i and features[i - 1] > name:
            out.append(FieldError.invalid(f"{path}[{i}]", name, "list must be sorted alphabetically"))


def _amounts(state: Obj, out: Errors) -> None:
    for part in ("capacity", "allocatable"):
        for key, value in (state.get(part) or {}).items():
            resources.amount(key, value, f"status.{part}.{key}", out)


@on_create("", "Node")
def node(obj: Obj) -> Errors:
    """A Node."""
    out: Errors = []
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    # Upstream tells of taints, and of swap, as if they were metadata.
    _taints(spec.get("taints") or [], "metadata.taints", out)
    _amounts(state, out)
    swap = ((state.get("nodeInfo") or {}).get("swap") or {}).get("capacity")
    if swap is not None and swap < 0:
        out.append(FieldError.invalid("metadata.nodeSwapStatus.capacity", swap, common.NON_NEGATIVE))
    _features(state.get("declaredFeatures") or [], "status.declaredFeatures", out)
    _cidrs(spec, out)
    return out


@on_update("", "Node")
def node_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Node: ranges and provider stay once they are set."""
    del subresource
    out = node(new)
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
    if (wanted.get("externalID") or "") != (before.get("externalID") or ""):
        out.append(FieldError.forbidden("spec.externalID", "may not be updated"))
    return out


@on_create("node.k8s.io", "RuntimeClass")
def runtime_class(obj: Obj) -> Errors:
    """A RuntimeClass."""
    out: Errors = []
    handler = obj.get("handler") or ""
    common.messages(names.dns1123_label(handler), handler, "handler", out)
    fixed = (obj.get("overhead") or {}).get("podFixed")
    if fixed:
        resources.requirements({"limits": fixed}, "overhead", out)
    rules = obj.get("scheduling") or {}
    common.labels(rules.get("nodeSelector"), "scheduling.nodeSelector", out)
    items = rules.get("tolerations") or []
    # Upstream names the list twice.
    scheduling.tolerations(items, "scheduling.tolerations.tolerations", out)
    seen = set()
    for i, one in enumerate(items):
        key = tuple(one.get(field) or "" for field in ("key", "operator", "value", "effect"))
        if key in seen:
            out.append(FieldError.duplicate(f"scheduling.tolerations[{i}]", one))
        seen.add(key)
    return out


@on_update("node.k8s.io", "RuntimeClass")
def runtime_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed RuntimeClass; its handler stays."""
    out = runtime_class(new)
    common.immutable(new.get("handler"), old.get("handler"), "handler", out)
    return out
