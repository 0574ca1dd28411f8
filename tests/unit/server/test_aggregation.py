"""Aggregation without servers: conditions, merged discovery and OpenAPI, what is registered, whom a proxy names."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from multidict import CIMultiDict

from orca.api.builtin import APISERVICES, BUILTIN
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.auth.front_proxy import FrontProxy, named_user
from orca.auth.identity import UserInfo
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.server.aggregation.apiservices import PRIORITIES, version_order
from orca.server.aggregation.availability import Availability
from orca.server.aggregation.backend import Backends, Reply, Unreachable, identity_headers
from orca.server.aggregation.conditions import LOCAL, Verdict, check_service, with_condition
from orca.server.aggregation.merging import RemoteVersion, aggregated_resources, merged_groups
from orca.server.aggregation.openapi import merge_swagger
from orca.server.aggregation.registration import MANAGED, wanted
from tests.support.tls import Authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WHERE = {"namespace": "d", "name": "s", "port": 443}
SERVICE = {"spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443}]}}


def piece(*, ready: bool = True, port: str = "https") -> Obj:
    return {"ports": [{"name": port, "port": 1}], "endpoints": [{"addresses": ["a"], "conditions": {"ready": ready}}]}


@pytest.mark.parametrize(
    ("service", "slices", "reason"),
    [
        (None, [], "ServiceNotFound"),
        ({"spec": {"ports": [{"port": 1}]}}, [piece()], "ServicePortError"),
        (SERVICE, [], "EndpointsNotFound"),
        (SERVICE, [piece(ready=False)], "MissingEndpoints"),
        (SERVICE, [piece(port="other")], "MissingEndpoints"),
        (SERVICE, [piece(ready=False), piece()], None),
        ({"spec": {"type": "ExternalName", "externalName": "x"}}, [], None),
    ],
)
def test_what_a_service_lacks(service: Obj | None, slices: list[Obj], reason: str | None) -> None:
    found = check_service(WHERE, service, slices)
    assert (found.reason if found else None) == reason


class OneBackend:
    """Stands for all servers of aggregated APIs: each answers when it is let."""

    def __init__(self) -> None:
        self.resolver = self
        self.let = asyncio.Event()

    def service(self, _space: str, _name: str) -> Obj:
        return SERVICE

    def slices(self, _space: str, _name: str) -> list[Obj]:
        return [piece()]

    async def get(self, service: Obj, path: str, _seconds: float) -> Reply:
        await self.let.wait()
        if "broken" in path:
            raise Unreachable("nobody there")
        return Reply(200, b'{"kind": "APIResourceList", "groupVersion": "x/v1", "resources": []}')


async def test_discovery_is_complete_once_every_server_was_asked() -> None:
    clock = VirtualClock()
    client, backend = FakeClient(clock=clock), OneBackend()
    for group in ("broken", "x"):
        spec = {"group": group, "version": "v1", "service": WHERE}
        await client.create(APISERVICES, {"metadata": {"name": f"v1.{group}"}, "spec": spec})
    await client.create(APISERVICES, {"metadata": {"name": "v1.apps"}, "spec": {"group": "apps", "version": "v1"}})
    one = Availability(client, cast(Backends, backend), clock, lambda: None)
    assert not one.complete
    running = asyncio.create_task(one.run())
    await clock.settle()
    assert not one.complete
    backend.let.set()
    await clock.settle()
    assert one.complete
    # Who comes later finds a server that is ready.
    backend.let.clear()
    late = {"group": "late", "version": "v1", "service": WHERE}
    await client.create(APISERVICES, {"metadata": {"name": "v1.late"}, "spec": late})
    await clock.settle()
    assert one.complete
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_condition_changes_its_time_only_with_its_status() -> None:
    first = with_condition({"spec": {}}, Verdict(False, "A", "a"), NOW)
    assert first is not None
    later = datetime(2026, 1, 2, tzinfo=UTC)
    assert with_condition(first, Verdict(False, "A", "a"), later) is None
    second = with_condition(first, Verdict(False, "B", "b"), later)
    assert second is not None
    assert second["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    third = with_condition(second, LOCAL, later)
    assert third is not None
    assert third["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-02T00:00:00Z"


def test_versions_are_preferred_as_in_kubernetes() -> None:
    given = ["foo", "v1alpha1", "v1beta1", "v10", "v2", "v1", "v2beta10", "v2beta2", "v11alpha2"]
    expected = ["v10", "v2", "v1", "v2beta10", "v2beta2", "v1beta1", "v11alpha2", "v1alpha1", "foo"]
    assert sorted(given, key=version_order) == expected


def test_groups_are_merged_by_priority() -> None:
    local = {"": ["v1"], "apps": ["v1"], "example.com": ["v1"]}
    remote = [
        RemoteVersion("first.io", "v1", 19000, 10),
        RemoteVersion("metrics.k8s.io", "v1beta1", 100, 100),
        RemoteVersion("example.com", "v2", 50, 200),
    ]
    merged = merged_groups(local, remote)
    assert list(merged) == ["first.io", "", "apps", "example.com", "metrics.k8s.io"]
    assert merged["example.com"] == ["v2", "v1"]


def test_every_built_in_group_version_has_its_priority() -> None:
    served = {(row.group, row.version) for row in BUILTIN}
    served -= {("apiregistration.k8s.io", "v1"), ("metrics.k8s.io", "v1beta1")}  # these have no APIService
    assert served <= set(PRIORITIES)
    made = wanted(BUILTIN)
    assert made["v1."]["spec"]["groupPriorityMinimum"] == 18000
    assert {one["metadata"]["labels"][MANAGED] for one in made.values()} == {"onstart"}
    assert len(made) == len(served)


def test_legacy_discovery_becomes_aggregated() -> None:
    listed = {
        "kind": "APIResourceList",
        "resources": [
            {"name": "things/scale", "namespaced": True, "kind": "Scale", "group": "autoscaling", "version": "v1"},
            {"name": "things", "singularName": "thing", "namespaced": True, "kind": "Thing", "shortNames": ["th"]},
        ],
    }
    (found,) = aggregated_resources("g", "v1", listed)
    assert found["responseKind"] == {"group": "g", "version": "v1", "kind": "Thing"}
    assert found["shortNames"] == ["th"]
    assert found["subresources"][0]["responseKind"]["group"] == "autoscaling"
    assert aggregated_resources("g", "v1", {"kind": "APIResourceList", "resources": None}) == ()
    for wrong in ({}, [], {"kind": "Status"}, "text"):
        with pytest.raises(ValueError, match="not an APIResourceList"):
            aggregated_resources("g", "v1", wrong)


def test_definitions_of_one_name_and_another_content_are_renamed() -> None:
    document: Obj = {"paths": {}, "definitions": {"Same": {"type": "object"}, "Other": {"type": "object"}}}
    theirs: Obj = {
        "paths": {
            "/apis/g/v1/things": {"get": {"schema": {"$ref": "#/definitions/Thing"}}},
            "/apis/g/v10/things": {},
        },
        "definitions": {
            "Thing": {"properties": {"a": {"$ref": "#/definitions/Other"}, "b": {"$ref": "#/definitions/Same"}}},
            "Other": {"type": "string"},
            "Same": {"type": "object"},
            "Unused": {},
        },
    }
    merge_swagger(document, [("/apis/g/v1", theirs)])
    assert set(document["paths"]) == {"/apis/g/v1/things"}
    assert set(document["definitions"]) == {"Same", "Other", "Other_v2", "Thing"}
    assert document["definitions"]["Other"] == {"type": "object"}
    properties = document["definitions"]["Thing"]["properties"]
    assert properties == {"a": {"$ref": "#/definitions/Other_v2"}, "b": {"$ref": "#/definitions/Same"}}


def test_identities_survive_the_way_through_headers() -> None:
    user = UserInfo("über", "7", ("a", "b"), {"acme.org/Scope Ö": ("x", "y")})
    headers = CIMultiDict(identity_headers(user))
    found = named_user(headers)
    assert found is not None
    assert (found.name, found.uid) == ("über", "7")
    assert found.groups == ("a", "b", "system:authenticated")
    assert found.extra == {"acme.org/scope ö": ("x", "y")}
    assert named_user(CIMultiDict({"X-Remote-Group": "system:masters"})) is None
    with pytest.raises(ApiError):
        list(identity_headers(UserInfo("a\r\nX-Remote-Group: system:masters")))


def test_only_certificates_of_the_proxys_authority_with_an_allowed_name_name_users(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path, "front-proxy-ca"), Authority(tmp_path, "ca")
    proxy = FrontProxy(ours.pair.cert.read_bytes(), ["front-proxy-client"])
    headers: Any = CIMultiDict({"X-Remote-User": "alice"})

    def certificate(authority: Authority, name: str) -> bytes:
        read = x509.load_pem_x509_certificate(authority.files(name, client=True).cert.read_bytes())
        return read.public_bytes(serialization.Encoding.DER)

    good = certificate(ours, "front-proxy-client")
    assert proxy.issued(good)
    assert proxy.user(good, headers) is not None
    assert proxy.user(good, CIMultiDict()) is None
    misnamed = certificate(ours, "somebody")
    assert proxy.issued(misnamed)
    assert proxy.user(misnamed, headers) is None
    foreign = certificate(other, "front-proxy-client")
    assert not proxy.issued(foreign)
    assert proxy.user(foreign, headers) is None
