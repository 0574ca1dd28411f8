"""Which files ConfigMaps, Secrets and the downward API give a volume. Pure.

Modes: an item's own, else `defaultMode`, else 0644. Binary and text data of a ConfigMap share one name space.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agents.pods.containers import find_container
from agents.pods.environment import ConfigError, Place, field_value, resource_value
from agents.volumes.errors import VolumeError
from orca.api import objects
from orca.api.objects import Obj

DEFAULT_MODE = 0o644


@dataclass(frozen=True, slots=True)
class File:
    """Content and permission bits; `owner` is a user id, None for root."""

    content: bytes
    mode: int = DEFAULT_MODE
    owner: int | None = None


Files = Mapping[str, File]
"""Relative path -> file."""


def data_files(
    data: Mapping[str, bytes], items: Iterable[Obj] | None, *, default_mode: int, missing: str, optional: bool
) -> dict[str, File]:
    """All keys, or the keys of `items` at their paths. Raises VolumeError, in the words of `missing`, for a key that is
    not there."""
    if not items:
        return {_checked(key): File(content, default_mode) for key, content in data.items()}
    files = {}
    for item in items:
        if item["key"] not in data:
            if optional:
                continue
            raise VolumeError(f"{missing} key: {item['key']}")
        mode = item.get("mode")
        files[_checked(item["path"])] = File(data[item["key"]], default_mode if mode is None else mode)
    return files


def config_map_data(config_map: Obj) -> dict[str, bytes]:
    return {key: value.encode() for key, value in (config_map.get("data") or {}).items()} | {
        key: base64.b64decode(value) for key, value in (config_map.get("binaryData") or {}).items()
    }


def secret_data(secret: Obj) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def downward_files(pod: Obj, items: Iterable[Obj], place: Place, *, default_mode: int) -> dict[str, File]:
    """Files of the downward API. Raises VolumeError for a field that does not exist."""
    files = {}
    for item in items:
        try:
            text = _downward_value(pod, item, place)
        except ConfigError as error:
            raise VolumeError(str(error)) from error
        mode = item.get("mode")
        files[_checked(item["path"])] = File(text.encode(), default_mode if mode is None else mode)
    return files


def _downward_value(pod: Obj, item: Obj, place: Place) -> str:
    if item.get("resourceFieldRef"):
        reference = item["resourceFieldRef"]
        container = find_container(pod, reference.get("containerName") or "")
        if container is None:
            raise VolumeError(f"container {reference.get('containerName')!r} not found")
        return resource_value(pod, container, reference, place)
    path = (item.get("fieldRef") or {}).get("fieldPath", "")
    if path == "metadata.labels":
        return format_map(objects.labels(pod))
    if path == "metadata.annotations":
        return format_map(objects.annotations(pod))
    return field_value(pod, path, place)


def format_map(values: Mapping[str, str]) -> str:
    """Sorted `key="value"` lines, the value quoted as Go's %q does for what labels and annotations hold."""
    return "\n".join(f"{key}={_quoted(values[key])}" for key in sorted(values))


def _quoted(text: str) -> str:
    named = {
        '"': '\\"',
        "\\": "\\\\",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
    }
    return '"' + "".join(named.get(c, c if c.isprintable() else f"\\x{ord(c):02x}") for c in text) + '"'


def _checked(path: str) -> str:
    """A path that stays in the volume and does not clash with the writer's own names. The API refuses others."""
    parts = path.split("/")
    if path.startswith(("/", "..")) or ".." in parts or not all(parts):
        raise VolumeError(f"invalid path {path!r}")
    return path
