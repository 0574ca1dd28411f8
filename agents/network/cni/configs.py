"""Networks as files say: ``*.conflist`` with several plugins, ``*.conf`` and ``*.json`` with one. The first file by
name that can be read is the network, as with every runtime that uses libcni."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca.api.objects import Obj

SUFFIXES = (".conf", ".conflist", ".json")
OLDEST = "0.1.0"
"""The version of files that name none."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_MOST_BYTES = 1 << 20


class ConfigError(ValueError):
    """A file that describes no network; the text says why."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A network: its plugins in their order, each as the file has it."""

    name: str
    version: str
    plugins: tuple[Obj, ...]
    disable_check: bool = False

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> NetworkConfig:
        """From the JSON of a list. Raises ``ConfigError``."""
        name, version, plugins = record.get("name"), record.get("cniVersion", OLDEST), record.get("plugins")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError("error parsing configuration list: no name" if not name else f"invalid name {name!r}")
        if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+(\.\d+)?", version):
            raise ConfigError(f"error parsing configuration list: invalid cniVersion {version!r}")
        if not isinstance(plugins, list) or not plugins:
            raise ConfigError("error parsing configuration list: no 'plugins' key or no plugins in list")
        for plugin in plugins:
            kind = plugin.get("type") if isinstance(plugin, dict) else None
            if not isinstance(kind, str) or not kind or "/" in kind:
                raise ConfigError("error parsing configuration: missing 'type'")
        return cls(name, version, tuple(plugins), str(record.get("disableCheck", False)).lower() == "true")

    @property
    def record(self) -> Obj:
        """What ``of`` takes."""
        return {
            "name": self.name,
            "cniVersion": self.version,
            "disableCheck": self.disable_check,
            "plugins": list(self.plugins),
        }

    def at_least(self, version: str) -> bool:
        """Whether the network speaks this version of the specification."""
        return _numbers(self.version) >= _numbers(version)


def read_file(path: Path) -> NetworkConfig:
    """The network of one file. Raises ``ConfigError``."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        record = json.loads(raw)
    except (OSError, ValueError) as error:
        raise ConfigError(f"error parsing configuration: {error}") from error
    if not isinstance(record, dict):
        raise ConfigError("error parsing configuration: not an object")
    if path.suffix != ".conflist":
        if "type" not in record:
            raise ConfigError("error parsing configuration: missing 'type'")
        record = {**{key: record[key] for key in ("name", "cniVersion") if key in record}, "plugins": [record]}
    return NetworkConfig.of(record)


def first_network(directory: Path) -> tuple[NetworkConfig | None, dict[str, str]]:
    """(the network, why files that would have come first are none)"""
    problems: dict[str, str] = {}
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES and path.is_file())
    except OSError:
        return None, {}
    for path in files:
        try:
            return read_file(path), problems
        except ConfigError as error:
            problems[path.name] = str(error)
    return None, problems


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
