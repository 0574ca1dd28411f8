"""A configuration file and its drop-ins: read strictly, merged, defaulted, validated.

As with the kubelet, drop-ins are the files of a directory (and of those below it) whose name ends in ``.conf``, taken
in the order of their paths, each a KubeletConfiguration of its own that is laid over what came before as a JSON merge
patch: objects are merged, lists and values replaced.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agents.config import kinds
from agents.config.errors import ConfigurationError
from agents.config.model import DEFAULT_EVICTION_HARD, Configuration
from agents.config.support import refusals
from agents.config.validation import problems_of

GROUP_VERSION = "kubelet.config.k8s.io/v1beta1"
KIND = "KubeletConfiguration"


def load(path: Path | None, drop_ins: Path | None = None) -> Configuration:
    """What the file and the drop-ins say, with defaults for the rest. Raises ConfigurationError, naming the fields.

    None stands for no such file; a directory of drop-ins that does not exist is an error, as is a file that cannot be
    read.
    """
    if path is None and drop_ins is None:
        return Configuration()
    merged: dict[str, Any] = {}
    origin = str(path or drop_ins)
    if path is not None:
        merged = _document(path)
    for patch in _patches(drop_ins):
        merged = _merge(merged, _document(patch))
    return parse(merged, origin)


def parse(document: Mapping[str, Any], origin: str) -> Configuration:
    """A document without apiVersion and kind. Raises ConfigurationError."""
    problems: list[str] = []
    configuration = _dependent_defaults(kinds.decode(Configuration, document, "", problems), document)
    if not problems:
        problems = [*problems_of(configuration), *refusals(configuration)]
    if problems:
        raise ConfigurationError(f"{origin}: invalid configuration: {'; '.join(problems)}")
    return configuration


def override(configuration: Configuration, **changes: Any) -> Configuration:
    """The configuration with fields as flags say. Raises ConfigurationError."""
    changed = dataclasses.replace(configuration, **changes)
    if problems := problems_of(changed):
        raise ConfigurationError(f"invalid flags: {'; '.join(problems)}")
    return changed


def encode(configuration: Configuration) -> dict[str, Any]:
    """The configuration in force as a KubeletConfiguration document, every field written out."""
    return {"kind": KIND, "apiVersion": GROUP_VERSION, **kinds.encode(configuration)}


def _dependent_defaults(configuration: Configuration, document: Mapping[str, Any]) -> Configuration:
    """Defaults that hang on whether another field was set."""
    changes: dict[str, Any] = {}

    def is_set(field: str) -> bool:
        return document.get(field) not in (None, "", "0s", "0")

    if is_set("nodeStatusUpdateFrequency") and not is_set("nodeStatusReportFrequency"):
        changes["node_status_report_frequency"] = configuration.node_status_update_frequency
    if document.get("serializeImagePulls") is None:
        changes["serialize_image_pulls"] = (configuration.max_parallel_image_pulls or 1) < 2
    if configuration.merge_default_eviction_settings:
        changes["eviction_hard"] = {**DEFAULT_EVICTION_HARD, **configuration.eviction_hard}
    if configuration.pod_pids_limit < 0:
        changes["pod_pids_limit"] = -1
    return dataclasses.replace(configuration, **changes)


def _patches(directory: Path | None) -> list[Path]:
    if directory is None:
        return []
    if not directory.is_dir():
        raise ConfigurationError(f"{directory}: no such directory")
    return sorted(path for path in directory.rglob("*.conf") if path.is_file())


def _merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.copy(dict(base))
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _document(path: Path) -> dict[str, Any]:
    """The file without its apiVersion and kind, which are checked."""
    try:
        document = yaml.load(path.read_bytes(), Loader=_StrictLoader)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: not an object")
    version, kind = document.pop("apiVersion", None), document.pop("kind", None)
    if not kind:
        raise ConfigurationError(f"{path}: Object 'Kind' is missing")
    if not version:
        raise ConfigurationError(f"{path}: Object 'apiVersion' is missing")
    if (version, kind) != (GROUP_VERSION, KIND):
        raise ConfigurationError(
            f'{path}: no kind "{kind}" is registered for version "{version}"; want kind {KIND} of {GROUP_VERSION}'
        )
    return document


class _StrictLoader(yaml.SafeLoader):
    """No key twice, and no value turned into a date."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused(f"key {key!r} is not a string", key_node)
            if key in seen:
                raise _refused(f'key "{key}" already set in map', key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refused(what: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
