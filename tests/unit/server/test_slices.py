"""Lists made in slices are the same bytes as those made at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from orca.api.builtin import PODS
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.server import slices
from orca.server.fairness.turns import Lane, Turns
from orca.server.negotiation import YAML, Form
from orca.server.representation import transform_list
from orca.server.responses import encode
from orca.store import Entry
from orca.store.entries import encode as stored
from orca.store.entries import place

NOW = datetime(2026, 1, 1, tzinfo=UTC)
METADATA = {"resourceVersion": "7", "continue": "x"}
FORMS = [
    Form(kind="Table"),
    Form(kind="PartialObjectMetadataList"),
    Form(YAML),
    Form(YAML, "Table"),
    Form(YAML, "PartialObjectMetadataList"),
    Form(),
]


def hurried() -> Lane:
    """Of turns that are used up by whatever is done in them."""
    return Turns(budget=0.0).lane("")


def pods(count: int, size: int = 0) -> list[Entry]:
    made = []
    for number in range(count):
        metadata: Obj = {"name": f"pod-{number}", "namespace": "n", "labels": {"text": "a: |\n  b - [c]"}}
        if size:
            metadata["annotations"] = {"text": "x" * size}
        obj = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}
        made.append(Entry("n", f"pod-{number}", 5, None, place(stored(obj), 5)))
    return made


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("count", [0, 1, 40])
async def test_the_same_as_at_once(form: Form, pretty: bool, count: int) -> None:
    entries = pods(count)
    made = await slices.encoded_list(PODS, entries, form, "Object", NOW, METADATA, hurried(), pretty=pretty)
    objs = [entry.obj for entry in entries]
    wanted = encode(transform_list(PODS, objs, form, "Object", NOW, METADATA), form, pretty=pretty)
    assert made.whole() == b"".join(made.pieces()) == wanted
    assert made.size == len(wanted)


@pytest.mark.parametrize("form", [Form(kind="Table"), Form(kind="PartialObjectMetadataList"), Form(YAML)], ids=str)
async def test_others_get_their_turn(form: Form) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    await slices.encoded_list(PODS, pods(160), form, "None", NOW, {}, hurried())
    running.cancel()
    assert turns >= 10


@pytest.mark.parametrize(
    ("form", "pretty"),
    [
        (Form(kind="PartialObjectMetadataList"), False),
        (Form(YAML), False),
        (Form(), True),
        (Form(kind="Table"), True),
        (Form(kind="PartialObjectMetadataList"), True),
    ],
    ids=str,
)
async def test_a_long_list_is_never_made_at_once(form: Form, pretty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def spy(resource: Resource, objs: Sequence[Obj], *others: Any) -> Obj:
        made.append(len(objs))
        return transform_list(resource, objs, *others)

    monkeypatch.setattr(slices, "transform_list", spy)
    await slices.encoded_list(PODS, pods(160), form, "", NOW, {}, hurried(), pretty=pretty)
    assert max(made) <= 16
    made.clear()
    await slices.encoded_list(PODS, pods(20, 40_000), form, "", NOW, {}, hurried(), pretty=pretty)
    assert max(made) <= 1
