"""Addresses of Services: what a cluster of one IPv4 range can give, and what it refuses."""

import pytest

from orca.api.errors import ApiError
from orca.server.allocation import ServiceAllocator
from tests.unit.auth.fakes import Reader, made


def assigned(**spec):
    service = made("v1", "Service", "s", "d", spec=spec)
    ServiceAllocator(Reader(), "10.96.0.0/16", (30000, 32767)).assign(service, None)
    return service["spec"]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack '
            "services",
        ),
        ({"ipFamilies": ["IPv6"]}, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        ({"ipFamilies": ["IPv4", "IPv6"]}, 'spec.ipFamilies[1]: Invalid value: "IPv6": not configured on this cluster'),
    ],
)
def test_a_family_the_cluster_does_not_have_is_refused(spec, text):
    with pytest.raises(ApiError) as caught:
        assigned(**spec)
    assert caught.value.code == 422
    assert text in caught.value.message


def test_dual_stack_by_preference_gets_what_there_is():
    assert assigned(ipFamilyPolicy="PreferDualStack")["ipFamilies"] == ["IPv4"]
    assert assigned(clusterIP="None", ipFamilyPolicy="RequireDualStack")["clusterIPs"] == ["None"]
