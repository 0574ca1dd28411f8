"""Accept headers, as real clients send them."""

from __future__ import annotations

import pytest

from orca.api.errors import ApiError
from orca.server.negotiation import Form, negotiate, negotiate_discovery

KUBECTL_TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form()),
        ("*/*", Form()),
        ("application/json", Form()),
        ("application/vnd.kubernetes.protobuf,application/json", Form()),
        ("application/yaml", Form("application/yaml")),
        ("text/html,application/json;q=0.5,application/yaml;q=0.9", Form("application/yaml")),
        (KUBECTL_TABLE, Form(kind="Table")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Form(kind="Table", version="v1beta1")),
        ("application/json;as=Table;v=v7;g=meta.k8s.io,application/json", Form()),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", Form(kind="PartialObjectMetadataList")),
    ],
)
def test_what_is_served(accept: str, form: Form) -> None:
    assert negotiate(accept) == form


@pytest.mark.parametrize("accept", ["application/vnd.kubernetes.protobuf", "text/html", "application/json;q=0"])
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(ApiError) as caught:
        negotiate(accept)
    assert caught.value.code == 406


def test_aggregated_discovery() -> None:
    accept = (
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    )
    assert negotiate_discovery(accept) == "v2"
    assert negotiate_discovery("application/json, */*") == ""
