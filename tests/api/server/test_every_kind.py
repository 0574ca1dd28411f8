"""Every row of the resource table × every verb, patch type, watch, dry run, Table and field validation."""

from __future__ import annotations

import pytest

from orca.api.builtin import BUILTIN
from orca.api.resources import Resource
from orca.server import patch_media
from tests.api.server.api import Api
from tests.api.server.grid import PATCH_TYPES, required
from tests.api.server.samples import BODIES, STATUSES
from tests.api.server.story import Story, collection

STORED = [row for row in BUILTIN if not row.virtual]
_BARE = {"configmaps", "secrets", "serviceaccounts", "namespaces", "nodes", "endpoints"}
"""Kinds whose smallest valid object is metadata alone."""


@pytest.mark.parametrize("row", STORED, ids=lambda row: f"{row.group_resource}/{row.version}")
async def test_every_pair(api: Api, space: str, row: Resource, request_pem: str) -> None:
    story = Story(api, row, space, request_pem)
    await story.tell()
    assert required(row) - story.visited == set()


@pytest.mark.parametrize("row", [row for row in BUILTIN if row.virtual], ids=lambda row: row.group_resource)
async def test_computed_kinds_answer(api: Api, space: str, row: Resource) -> None:
    path = collection(row, space)
    if "list" in row.verbs:
        assert (await api.get(path)).json["kind"] == f"{row.kind}List"
        assert (await api.get(f"{path}/nobody")).failure[:2] == (404, "NotFound")
        assert (await api.post(path, {"metadata": {"name": "x"}})).status == 405
        return
    attributes = {"verb": "get", "resource": "pods", "namespace": space}
    spec = {
        "bindings": {},
        "tokenreviews.authentication.k8s.io": {"token": "nonsense"},
        "selfsubjectreviews.authentication.k8s.io": {},
        "selfsubjectrulesreviews.authorization.k8s.io": {"namespace": space},
        "selfsubjectaccessreviews.authorization.k8s.io": {"resourceAttributes": attributes},
    }.get(row.group_resource, {"resourceAttributes": attributes, "user": "bob"})
    body = {"kind": row.kind, "apiVersion": row.api_version, **({"spec": spec} if spec else {})}
    answer = await api.post(path, body)
    if row.plural == "bindings":
        assert answer.status in (400, 422)
        return
    assert answer.status == 201, answer.raw
    assert "status" in answer.json


def test_every_row_has_its_samples() -> None:
    """A new row without a sample of its own fails here rather than in the field."""
    assert [row.group_resource for row in STORED if row.group_resource not in BODIES.keys() | _BARE] == []
    with_status = {row.group_resource for row in STORED if row.has("status")}
    assert with_status == STATUSES.keys()


def test_every_patch_type_has_its_word() -> None:
    assert set(patch_media.ACCEPTED) <= PATCH_TYPES.keys()
