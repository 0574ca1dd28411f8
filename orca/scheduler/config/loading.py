"""The file as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from orca.scheduler.config.args import Arguments, take
from orca.scheduler.config.plugins import PLUGINS, enabled, profile
from orca.scheduler.config.reading import ConfigurationInvalid, items, mapping, number, text
from orca.scheduler.profile import DEFAULT_NAME, Profile
from orca.scheduler.queue import FIRST_BACKOFF, LAST_BACKOFF

API_VERSION, KIND = "kubescheduler.config.k8s.io/v1", "KubeSchedulerConfiguration"
_PROCESS = frozenset(
    (
        "clientConnection",
        "leaderElection",
        "enableProfiling",
        "enableContentionProfiling",
        "parallelism",
        "delayCacheUntilActive",
    )
)
"""How kube-scheduler runs as a process of its own."""
_KNOWN = _PROCESS | {
    "apiVersion",
    "kind",
    "profiles",
    "percentageOfNodesToScore",
    "podInitialBackoffSeconds",
    "podMaxBackoffSeconds",
    "extenders",
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """Backoffs in seconds. `unused`: fields that were given and concern kube-scheduler's process only."""

    profiles: tuple[Profile, ...]
    first_backoff: float
    last_backoff: float
    unused: tuple[str, ...]


def load(content: str) -> Configuration:
    """Reads YAML or JSON. Raises ConfigurationInvalid."""
    try:
        loaded = yaml.load(content, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ConfigurationInvalid(f"not YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigurationInvalid(f"must be an object of kind {KIND}")
    for part, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if loaded.get(part) != wanted:
            raise ConfigurationInvalid(f"{part}: {loaded.get(part)!r} is not {wanted}")
    given = mapping(loaded, KIND, _KNOWN)
    if given.get("extenders"):
        raise ConfigurationInvalid("extenders: not supported; the scheduler asks nobody else")
    percentage = _percentage(given, "percentageOfNodesToScore", 0)
    first = number(given.get("podInitialBackoffSeconds", int(FIRST_BACKOFF)), "podInitialBackoffSeconds", 1, 2**31 - 1)
    last = number(given.get("podMaxBackoffSeconds", int(LAST_BACKOFF)), "podMaxBackoffSeconds", 1, 2**31 - 1)
    if last < first:
        raise ConfigurationInvalid("podMaxBackoffSeconds: must not be less than podInitialBackoffSeconds")
    listed = items(given.get("profiles"), "profiles") or [{}]
    profiles = tuple(_profile(one, f"profiles[{at}]", percentage) for at, one in enumerate(listed))
    names = [one.name for one in profiles]
    for at, named in enumerate(names):
        if named in names[:at]:
            raise ConfigurationInvalid(f'profiles[{at}].schedulerName: "{named}" is there twice')
    return Configuration(profiles, float(first), float(last), tuple(sorted(set(given) & _PROCESS)))


def _percentage(given: dict[str, Any], field: str, otherwise: int) -> int:
    value = given.get(field)
    return otherwise if value is None else number(value, field, 0, 100)


def _profile(value: Any, path: str, percentage: int) -> Profile:
    given = mapping(value, path, {"schedulerName", "percentageOfNodesToScore", "plugins", "pluginConfig"})
    name = text(given.get("schedulerName", DEFAULT_NAME), f"{path}.schedulerName")
    args = Arguments()
    seen = set()
    for at, one in enumerate(items(given.get("pluginConfig"), f"{path}.pluginConfig")):
        where = f"{path}.pluginConfig[{at}]"
        plugin = text(mapping(one, where, {"name", "args"}).get("name"), f"{where}.name")
        if plugin not in PLUGINS:
            raise ConfigurationInvalid(f'{where}: plugin "{plugin}" does not exist; there are {", ".join(PLUGINS)}')
        if plugin in seen:
            raise ConfigurationInvalid(f'{where}: plugin "{plugin}" is there twice')
        seen.add(plugin)
        take(args, plugin, one.get("args"), f"{where}.args")
    share = _percentage(given, "percentageOfNodesToScore", percentage)
    return profile(name, enabled(given.get("plugins"), f"{path}.plugins"), args, share)
