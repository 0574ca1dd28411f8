"""Plugins with ``kinds`` are asked about these only, and the others about everything."""

from __future__ import annotations

from dataclasses import replace

from orca.admission import Attributes, Chain
from orca.api.builtin import CONFIGMAPS, PODS
from orca.api.resources import Resource
from orca.auth import UserInfo


class _Notes:
    def __init__(self, kinds: frozenset[Resource] | None) -> None:
        if kinds is not None:
            self.kinds = kinds
        self.seen: list[str] = []

    async def admit(self, attrs: Attributes) -> None:
        self.seen.append(f"admit {attrs.resource.plural}")

    async def validate(self, attrs: Attributes) -> None:
        self.seen.append(f"validate {attrs.resource.plural}")


def _create(resource: Resource) -> Attributes:
    return Attributes("CREATE", resource, "default", "one", {}, None, UserInfo("somebody"))


async def test_a_plugin_is_asked_about_its_kinds_only() -> None:
    pods, everything = _Notes(frozenset({PODS})), _Notes(None)
    chain = Chain([pods, everything])
    custom = replace(CONFIGMAPS, group="example.com", plural="widgets", custom=True)
    for resource in (PODS, CONFIGMAPS, custom, PODS):
        await chain.admit(_create(resource))
        await chain.validate(_create(resource))
    assert pods.seen == ["admit pods", "validate pods"] * 2
    assert everything.seen == [
        f"{step} {plural}" for plural in ("pods", "configmaps", "widgets", "pods") for step in ("admit", "validate")
    ]
