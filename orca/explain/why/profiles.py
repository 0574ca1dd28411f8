"""By which rules pods are scheduled, as the server tells at ``/configz``."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from orca.api.builtin import REPLICASETS, REPLICATIONCONTROLLERS, SERVICES, STATEFULSETS
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, controller_of, labels, namespace
from orca.api.selectors import Requirement, Selector, from_label_selector, from_map
from orca.client.http import HttpsClient
from orca.scheduler.config import ConfigurationInvalid, load
from orca.scheduler.filters import Task
from orca.scheduler.filters.pod_topology_spread import PodTopologySpread
from orca.scheduler.profile import Profile

_ANYTHING = from_map({"any": "thing"})


async def read_profiles(client: HttpsClient) -> Mapping[str, Profile] | None:
    """By schedulerName; None when that may not be read, or is not told by a server of this kind. Raises ApiError."""
    try:
        shown = orjson.loads(await client.raw("/configz"))
        loaded = load(orjson.dumps(shown["componentconfig"]).decode())
    except ApiError as error:
        if error.code not in (403, 404):
            raise
        return None
    except (orjson.JSONDecodeError, KeyError, TypeError, ConfigurationInvalid):
        return None  # another scheduler's, or of another version
    return {profile.name: profile for profile in loaded.profiles}


def asks_for_siblings(profile: Profile, pod: Obj) -> bool:
    """Whether a profile's own spread constraints hold for a pod: they count it and its like."""
    rules = [rule for rule in profile.filters if isinstance(rule, PodTopologySpread)]
    return not pod["spec"].get("topologySpreadConstraints") and any(
        rule.constraints(Task.of(pod, _ANYTHING)) for rule in rules
    )


async def siblings(client: HttpsClient, pod: Obj) -> Selector | None:
    """What selects a pod and those of its Services and its controller; None when it has neither. Raises ApiError."""
    requirements: set[Requirement] = set()
    for service in (await client.list(SERVICES, namespace(pod))).items:
        selector = from_map(service["spec"].get("selector"))
        if selector.matches(labels(pod)):
            requirements.update(selector.requirements)
    owner = controller_of(pod)
    rows = {row.kind: row for row in (REPLICASETS, STATEFULSETS, REPLICATIONCONTROLLERS)}
    if owner is not None and owner["kind"] in rows:
        row = rows[owner["kind"]]
        try:
            found = await client.get(row, owner["name"], namespace(pod))
        except ApiError as error:
            if not is_not_found(error):
                raise
            found = {}
        if wanted := (found.get("spec") or {}).get("selector"):
            plain = row is REPLICATIONCONTROLLERS
            requirements.update((from_map(wanted) if plain else from_label_selector(wanted)).requirements)
    if not requirements:
        return None
    return Selector(tuple(sorted(requirements, key=str)))
