"""Environment of a container: services, envFrom, env with all its sources. Pure once the sources are fetched.

Order and precedence as upstream's: service variables (or only the API server's), then envFrom in order, then env; a
later value replaces an earlier one.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.pods import envfiles
from agents.pods.containers import find_container, spec_of
from agents.pods.expansion import expand
from orca.api import objects
from orca.api.names import env_var_name
from orca.api.objects import Obj, meta, name, namespace
from orca.api.quantity import Quantity

_DEFAULTED = ("cpu", "memory", "ephemeral-storage")
"""Resources without a limit that are told as if the limit was what there is."""


class ConfigError(Exception):
    """The environment cannot be made: reason CreateContainerConfigError, text fit for its message."""


@dataclass(frozen=True, slots=True)
class Sources:
    """ConfigMaps and Secrets a container refers to, by name; a missing one is absent. Files by volume and path in it;
    one that cannot be read is absent."""

    config_maps: Mapping[str, Obj] = field(default_factory=dict)
    secrets: Mapping[str, Obj] = field(default_factory=dict)
    files: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pod is: what the downward API tells besides the object."""

    node_name: str
    host_ips: tuple[str, ...]
    pod_ips: tuple[str, ...]
    allocatable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Environment:
    """Values in order, and names that were left out because no shell could say them."""

    values: dict[str, str]
    skipped: dict[str, list[str]]
    """Source (``configMap ns/name``) -> invalid names."""


def wanted_sources(container: Obj) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and of the Secrets that a container's environment refers to."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for source in container.get("envFrom") or ():
        if source.get("configMapRef"):
            config_maps.add(source["configMapRef"]["name"])
        if source.get("secretRef"):
            secrets.add(source["secretRef"]["name"])
    for entry in container.get("env") or ():
        source = entry.get("valueFrom") or {}
        if source.get("configMapKeyRef"):
            config_maps.add(source["configMapKeyRef"]["name"])
        if source.get("secretKeyRef"):
            secrets.add(source["secretKeyRef"]["name"])
    return config_maps, secrets


def wanted_files(container: Obj) -> set[tuple[str, str]]:
    """Volume and path of the files that a container's environment refers to."""
    references = ((entry.get("valueFrom") or {}).get("fileKeyRef") for entry in container.get("env") or ())
    return {(reference["volumeName"], reference["path"]) for reference in references if reference}


def build_environment(pod: Obj, container: Obj, services: Iterable[Obj], sources: Sources, place: Place) -> Environment:
    """Raises ``ConfigError``."""
    values: dict[str, str] = {}
    skipped: dict[str, list[str]] = {}
    service_values = service_environment(pod, services)
    for source in container.get("envFrom") or ():
        _take_all(pod, source, sources, values, skipped)
    for entry in container.get("env") or ():
        # References see what is defined so far, and the services' variables last.
        found = _value(pod, container, entry, sources, place, values, service_values)
        if found is not None:
            values[entry["name"]] = found
    return Environment({**service_values, **values}, skipped)


def _take_all(pod: Obj, source: Obj, sources: Sources, values: dict[str, str], skipped: dict[str, list[str]]) -> None:
    prefix = source.get("prefix") or ""
    for kind, known, reference in (
        ("configmap", sources.config_maps, source.get("configMapRef")),
        ("secret", sources.secrets, source.get("secretRef")),
    ):
        if not reference:
            continue
        obj = known.get(reference["name"])
        if obj is None:
            if reference.get("optional"):
                continue
            raise ConfigError(f'{kind} "{reference["name"]}" not found')
        for key, value in _text_data(obj, secret=kind == "secret").items():
            variable = prefix + key
            if env_var_name(variable):
                skipped.setdefault(f"{kind} {namespace(pod)}/{reference['name']}", []).append(variable)
            else:
                values[variable] = value


def _text_data(obj: Obj, *, secret: bool) -> dict[str, str]:
    data = obj.get("data") or {}
    if not secret:
        return dict(data)
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}


def _value(
    pod: Obj,
    container: Obj,
    entry: Obj,
    sources: Sources,
    place: Place,
    values: Mapping[str, str],
    service_values: Mapping[str, str],
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value") or "", values, service_values)
    for kind, known in (("configMapKeyRef", sources.config_maps), ("secretKeyRef", sources.secrets)):
        reference = source.get(kind)
        if reference:
            return _key_value(pod, kind, reference, known)
    if source.get("fieldRef"):
        return field_value(pod, source["fieldRef"]["fieldPath"], place)
    if source.get("resourceFieldRef"):
        return resource_value(pod, container, source["resourceFieldRef"], place)
    if source.get("fileKeyRef"):
        return _file_value(source["fileKeyRef"], sources)
    raise ConfigError(f"environment variable {entry['name']}: source {', '.join(source)} is not supported")


def _key_value(pod: Obj, kind: str, reference: Obj, known: Mapping[str, Obj]) -> str | None:
    secret = kind == "secretKeyRef"
    obj = known.get(reference["name"])
    if obj is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{"secret" if secret else "configmap"} "{reference["name"]}" not found')
    data = _text_data(obj, secret=secret)
    if reference["key"] not in data:
        if reference.get("optional"):
            return None
        what = "Secret" if secret else "ConfigMap"
        raise ConfigError(f"couldn't find key {reference['key']} in {what} {namespace(pod)}/{reference['name']}")
    return data[reference["key"]]


def _file_value(reference: Obj, sources: Sources) -> str | None:
    volume, path, key = reference["volumeName"], reference["path"], reference["key"]
    text = sources.files.get((volume, path))
    try:
        value = envfiles.find(text, key) if text is not None else None
    except ValueError:
        value = None
    if value is None:
        # Not what is wrong with it: the file may hold what is secret.
        raise ConfigError("couldn't parse env file")
    if not value and not reference.get("optional"):
        raise ConfigError(f'environment variable key "{key}" not found in file "{path}" of volume "{volume}"')
    return value or None


def field_value(pod: Obj, path: str, place: Place) -> str:
    """A downward API field. Raises ``ConfigError`` for one that does not exist."""
    simple: dict[str, Any] = {
        "metadata.name": name(pod),
        "metadata.namespace": namespace(pod),
        "metadata.uid": meta(pod).get("uid", ""),
        "spec.nodeName": place.node_name,
        "spec.serviceAccountName": spec_of(pod).get("serviceAccountName", ""),
        "status.hostIP": place.host_ips[0] if place.host_ips else "",
        "status.hostIPs": ",".join(place.host_ips),
        "status.podIP": place.pod_ips[0] if place.pod_ips else "",
        "status.podIPs": ",".join(place.pod_ips),
    }
    if path in simple:
        return str(simple[path])
    for prefix, values in (
        ("metadata.labels", objects.labels(pod)),
        ("metadata.annotations", objects.annotations(pod)),
    ):
        if path.startswith(f"{prefix}['") and path.endswith("']"):
            return values.get(path[len(prefix) + 2 : -2], "")
    raise ConfigError(f"field path {path} is not supported")


def resource_value(pod: Obj, container: Obj, reference: Obj, place: Place) -> str:
    """``limits.cpu`` and the like in units of ``divisor``, rounded up; without a limit it is the pod's as a whole, or
    what the node hands out."""
    subject = container
    if reference.get("containerName"):
        found = find_container(pod, reference["containerName"])
        if found is None:
            raise ConfigError(f"container {reference['containerName']} not found")
        subject = found
    kind, _, resource = reference["resource"].partition(".")
    resources = subject.get("resources") or {}
    amount = (resources.get(kind) or {}).get(resource) or "0"
    if kind == "limits" and resource in _DEFAULTED and not Quantity.parse(amount):
        whole = (spec_of(pod).get("resources") or {}).get("limits") or {}
        amount = whole.get(resource) or place.allocatable.get(resource) or "0"
    divisor = reference.get("divisor") or "1"
    unit = Quantity.parse("1" if str(divisor) == "0" else divisor).milli
    return str(math.ceil(Quantity.parse(amount).milli / unit))


def service_environment(pod: Obj, services: Iterable[Obj]) -> dict[str, str]:
    """``REDIS_MASTER_SERVICE_HOST`` and the docker-link style variables of the pod's namespace, and always those of
    the API server's own service."""
    links = spec_of(pod).get("enableServiceLinks", True)
    space = namespace(pod)
    chosen: dict[str, Obj] = {}
    for service in services:
        spec = service.get("spec") or {}
        if spec.get("clusterIP") in (None, "", "None") or not spec.get("ports"):
            continue
        if links and namespace(service) == space:
            chosen[name(service)] = service
        elif namespace(service) == "default" and name(service) == "kubernetes":
            chosen.setdefault("kubernetes", service)
    values: dict[str, str] = {}
    for service_name in sorted(chosen):
        spec = chosen[service_name]["spec"]
        _service_values(service_name.upper().replace("-", "_"), spec["clusterIP"], spec["ports"], values)
    return values


def _service_values(prefix: str, address: str, ports: list[Obj], values: dict[str, str]) -> None:
    host = f"[{address}]" if ":" in address else address
    values[f"{prefix}_SERVICE_HOST"] = address
    values[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
    for port in ports:
        if port.get("name"):
            values[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = (port.get("protocol") or "TCP").lower()
        url = f"{protocol}://{host}:{port['port']}"
        if index == 0:
            values[f"{prefix}_PORT"] = url
        stem = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
        values[stem] = url
        values[f"{stem}_PROTO"] = protocol
        values[f"{stem}_PORT"] = str(port["port"])
        values[f"{stem}_ADDR"] = address
