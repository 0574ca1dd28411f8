"""Every row of the resource table × every verb, patch type, watch, dry run, Table and field validation."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orca.api.builtin import BUILTIN, COMPONENTSTATUSES
from orca.api.resources import Resource
from tests.api.server.api import Api
from tests.api.server.samples import BODIES, name_of, sample

STORED = [row for row in BUILTIN if not row.virtual]
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PARTIAL = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@pytest.fixture(scope="module")
def request_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sample")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


def collection(row: Resource, space: str) -> str:
    root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
    return f"{root}/namespaces/{space}/{row.plural}" if row.namespaced else f"{root}/{row.plural}"


@pytest.mark.parametrize("row", STORED, ids=lambda row: f"{row.group_resource}/{row.version}")
async def test_every_verb(api: Api, space: str, row: Resource, request_pem: str) -> None:
    path = collection(row, space)
    name = name_of(row)
    one = f"{path}/{name}"
    body = sample(row, space, request_pem)

    # dry run leaves nothing behind
    made = await api.post(f"{path}?dryRun=All", body)
    assert made.status == 201, made.raw
    assert (await api.get(one)).status == 404

    # unknown fields
    refused = await api.post(f"{path}?fieldValidation=Strict", {**body, "bogus": 1})
    assert refused.status == 400, refused.raw
    assert 'unknown field "bogus"' in refused.failure[2]
    warned = await api.post(f"{path}?dryRun=All", {**body, "bogus": 1})
    assert warned.status == 201
    assert 'unknown field \\"bogus\\"' in warned.headers["Warning"]

    # create, and again
    before = (await api.get(path)).json["metadata"]["resourceVersion"]
    made = await api.post(path, body)
    assert made.status == 201, made.raw
    created = made.json
    assert created["kind"] == row.kind
    assert created["apiVersion"] == row.api_version
    assert created["metadata"]["uid"]
    assert created["metadata"]["creationTimestamp"]
    again = await api.post(path, body)
    assert again.failure[:2] == (409, "AlreadyExists")

    # get and list, in all forms
    got = await api.get(one)
    assert got.json == created
    listed = (await api.get(f"{path}?labelSelector=sample%3Dyes")).json
    assert listed["kind"] == row.list_kind
    assert name in [item["metadata"]["name"] for item in listed["items"]]
    assert (await api.get(f"{path}?fieldSelector=metadata.name%3D{name}")).json["items"][0] == created
    table = (await api.get(one, Accept=TABLE)).json
    assert table["kind"] == "Table"
    assert table["rows"][0]["object"]["metadata"]["name"] == name
    assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])
    partial = (await api.get(path, Accept=PARTIAL)).json
    assert partial["kind"] == "PartialObjectMetadataList"
    assert b"kind: " in (await api.get(one, Accept="application/yaml")).raw

    # update with the version just read, then with the old one
    changed = {**created, "metadata": {**created["metadata"], "annotations": {"step": "update"}}}
    updated = await api.put(one, changed)
    assert updated.status == 200, updated.raw
    stale = await api.put(one, {**changed, "metadata": {**changed["metadata"], "annotations": {"step": "stale"}}})
    assert stale.failure[:2] == (409, "Conflict")

    # patches
    for kind, patch in (
        ("merge", {"metadata": {"annotations": {"step": "merge"}}}),
        ("strategic", {"metadata": {"annotations": {"step": "strategic"}}}),
        ("json", [{"op": "replace", "path": "/metadata/annotations/step", "value": "json"}]),
    ):
        patched = await api.patch(one, patch, kind)
        assert patched.status == 200, patched.raw
        assert patched.json["metadata"]["annotations"]["step"] == kind
    assert (await api.patch(one, b"{}", "text/plain")).failure[:2] == (415, "UnsupportedMediaType")

    # status, where there is one, leaves the rest alone
    if row.has("status"):
        current = (await api.get(f"{one}/status")).json
        through = await api.put(f"{one}/status", current)
        assert through.status == 200, through.raw

    # the watch tells it all, in order
    events = await api.events(f"{path}?watch=1&resourceVersion={before}&fieldSelector=metadata.name%3D{name}", 5)
    assert [event["type"] for event in events] == ["ADDED", *["MODIFIED"] * 4]
    assert events[0]["object"] == created
    shown = await api.events(f"{path}?watch=1&fieldSelector=metadata.name%3D{name}", 1, Accept=TABLE)
    assert shown[0]["object"]["rows"][0]["object"]["metadata"]["name"] == name

    # delete
    assert (await api.delete(f"{one}?dryRun=All")).status == 200
    wrong = await api.delete(one, {"preconditions": {"uid": "other"}})
    assert wrong.failure[:2] == (409, "Conflict")
    gone = await api.delete(one, {"gracePeriodSeconds": 0})
    assert gone.status == 200, gone.raw
    if row.group_resource != "namespaces":  # stays until its controller has emptied it
        assert (await api.get(one)).failure[:2] == (404, "NotFound")
    if "deletecollection" in row.verbs:
        assert (await api.post(path, sample(row, space, request_pem))).status == 201
        cleared = await api.delete(f"{path}?labelSelector=sample%3Dyes", {"gracePeriodSeconds": 0})
        assert cleared.status == 200, cleared.raw
        assert name in [item["metadata"]["name"] for item in cleared.json["items"]]
        assert (await api.get(one)).status == 404


@pytest.mark.parametrize("row", [row for row in BUILTIN if row.virtual], ids=lambda row: row.group_resource)
async def test_computed_kinds_answer(api: Api, space: str, row: Resource) -> None:
    path = collection(row, space)
    if row is COMPONENTSTATUSES:
        assert (await api.get(path)).json["kind"] == "ComponentStatusList"
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


async def test_every_stored_row_was_visited() -> None:
    """A new row without a sample of its own fails here rather than in the field."""
    plain = {"configmaps", "secrets", "serviceaccounts", "namespaces", "nodes", "endpoints"}
    missing = [row.group_resource for row in STORED if row.group_resource not in BODIES.keys() | plain]
    assert missing == []
