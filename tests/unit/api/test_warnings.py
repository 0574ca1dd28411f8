"""Warnings about valid objects: input → texts."""

from __future__ import annotations

from typing import Any

import pytest

from orca.api import builtin
from orca.api.resources import Resource
from orca.api.warnings import on_write
from tests.support.growth import grows_with_its_size

_C = {"name": "c", "image": "i"}


def pod(meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", **(meta or {})}, "spec": {"containers": [_C], **spec}}


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{**_C, **fields}])


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", **spec}}


_TERM = {"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "Exists"}]}
_TOKEN = {"serviceAccountToken": {"path": "token"}}
PODS: list[tuple[dict[str, Any], list[str]]] = [
    (pod(), []),
    (
        pod({"name": "a.b"}),
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
            "a DNS label is recommended: [must not contain dots]"
        ],
    ),
    (
        pod(nodeSelector={"beta.kubernetes.io/arch": "amd64"}),
        ['spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use "kubernetes.io/arch" instead'],
    ),
    (
        pod(
            affinity={
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}, _TERM]}}
            }
        ),
        [
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[1]."
            "matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; "
            'use "kubernetes.io/os" instead'
        ],
    ),
    (
        pod(topologySpreadConstraints=[{"topologyKey": "zone"}]),
        ["spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"],
    ),
    (
        pod({"annotations": {"security.alpha.kubernetes.io/sysctls": "x"}}),
        [
            "metadata.annotations[security.alpha.kubernetes.io/sysctls]: non-functional in v1.11+; "
            'use the "sysctls" field instead'
        ],
    ),
    (
        pod({"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}),
        [
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; "
            'use the "appArmorProfile" field instead'
        ],
    ),
    (
        pod(volumes=[{"name": "v", "gitRepo": {"repository": "r"}}]),
        ["spec.volumes[0].gitRepo: deprecated in v1.11"],
    ),
    (
        pod(
            volumes=[
                {"name": "v", "projected": {"sources": [_TOKEN, {"configMap": {"items": [{"path": "token"}]}}]}},
            ]
        ),
        ['spec.volumes[0].projected.sources.configMap[0]: has duplicated path with ServiceAccountToken "token"'],
    ),
    (
        pod(hostAliases=[{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]),
        ['spec.hostAliases[1].ip: duplicate ip "1.1.1.1"'],
    ),
    (
        pod(imagePullSecrets=[{"name": "a"}, {"name": "a"}, {}]),
        ['spec.imagePullSecrets[1].name: duplicate name "a"', 'spec.imagePullSecrets[2].name: invalid empty name ""'],
    ),
    (
        container(resources={"limits": {"memory": "100m", "cpu": "100m"}}),
        ['spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer'],
    ),
    (
        container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}]),
        ['spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'],
    ),
    (
        container(ports=[{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}]),
        ["spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"],
    ),
    (
        container(
            ports=[{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP", "hostPort": 1}]
        ),
        ["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]"],
    ),
    (
        pod(terminationGracePeriodSeconds=-1),
        [
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ],
    ),
    (
        pod(affinity={"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}),
        [
            "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm."
            "labelSelector: a null labelSelector results in matching no pod"
        ],
    ),
]


@pytest.mark.parametrize(("obj", "texts"), PODS)
def test_pods(obj: dict[str, Any], texts: list[str]) -> None:
    assert on_write(builtin.PODS, obj, None) == texts
    assert on_write(builtin.PODS, obj, obj) == []


def test_many_ports_take_no_longer_each() -> None:
    """Each was compared with all others of its number: a quarter of an hour for what fits into a body."""

    def apart(size: int) -> None:
        ports = [{"containerPort": 80, "protocol": "TCP", "hostPort": number} for number in range(1, size)]
        assert on_write(builtin.PODS, container(ports=ports), None) == []

    def alike(size: int) -> None:
        ports = [{"containerPort": 80, "protocol": "TCP"}] * size
        assert len(on_write(builtin.PODS, container(ports=ports), None)) == 1000

    assert grows_with_its_size(apart, 1500)
    assert grows_with_its_size(alike, 1500)
    mixed = [{"containerPort": 80, "hostPort": number, "hostIP": address} for number, address in
             ((1, ""), (2, ""), (0, ""), (1, "127.0.0.1"), (1, ""))]  # fmt: skip
    assert [text.partition(": ")[2].partition(" ")[0] + text[-2] for text in on_write(
        builtin.PODS, container(ports=mixed), None)] == [
        "overlapping0", "overlapping1", "dangerously0", "overlapping2", "duplicate0", "overlapping2", "dangerously3"
    ]  # fmt: skip


def test_templates_are_looked_at_when_the_desired_state_changes() -> None:
    template = {"metadata": {}, "spec": pod(nodeSelector={"beta.kubernetes.io/os": "linux"})["spec"]}
    obj = {"metadata": {"name": "d", "generation": 2}, "spec": {"template": template}}
    text = (
        'spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'
    )
    assert on_write(builtin.DEPLOYMENTS, obj, None) == [text]
    assert on_write(builtin.DEPLOYMENTS, obj, obj) == []
    assert on_write(builtin.DEPLOYMENTS, obj, {**obj, "metadata": {"name": "d", "generation": 1}}) == [text]
    cron = {"metadata": {"name": "d"}, "spec": {"jobTemplate": {"spec": {"template": template}}}}
    assert on_write(builtin.CRONJOBS, cron, None) == [text.replace("spec.", "spec.jobTemplate.spec.", 1)]


OTHERS: list[tuple[Resource, dict[str, Any], list[str]]] = [
    (
        builtin.SERVICES,
        service(clusterIP="None", externalIPs=["192.0.2.1"], sessionAffinity="ClientIP", loadBalancerIP="192.0.2.2"),
        [
            "spec.loadBalancerIP is ignored for headless services",
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
        ],
    ),
    (
        builtin.SERVICES,
        service(externalIPs=["2001:DB8::1"], sessionAffinity="None"),
        [
            'spec.externalIPs[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")',
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
        ],
    ),
    (
        builtin.SERVICES,
        service(externalName="x.example.com", trafficDistribution="PreferClose"),
        [
            'spec.externalName is ignored when spec.type is not "ExternalName"',
            'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
        ],
    ),
    (
        builtin.SERVICES,
        service(type="LoadBalancer", loadBalancerSourceRanges=["192.0.2.5/24"]),
        [
            'spec.loadBalancerSourceRanges[0]: CIDR value "192.0.2.5/24" is ambiguous in this context '
            '(should be "192.0.2.0/24" or "192.0.2.5/32"?)'
        ],
    ),
    (
        builtin.PERSISTENTVOLUMES,
        {"metadata": {}, "spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {}}},
        [
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended "
            "approach is to use dynamic provisioning.",
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
        ],
    ),
    (
        builtin.PERSISTENTVOLUMECLAIMS,
        {
            "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "x"}},
            "spec": {"resources": {"requests": {"storage": "1500m"}}},
        },
        [
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; "
            'use "storageClassName" attribute instead',
            'spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer',
        ],
    ),
    (
        builtin.INGRESSES,
        {"metadata": {"annotations": {"kubernetes.io/ingress.class": "nginx"}}},
        ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"],
    ),
    (builtin.ENDPOINTSLICES, {"addressType": "FQDN"}, ["addressType: FQDN endpoints are deprecated"]),
    (builtin.CONFIGMAPS, {"metadata": {"name": "any"}}, []),
]


@pytest.mark.parametrize(("row", "obj", "texts"), OTHERS, ids=lambda value: getattr(value, "plural", ""))
def test_other_kinds(row: Resource, obj: dict[str, Any], texts: list[str]) -> None:
    assert on_write(row, obj, None) == texts


def test_an_account_is_told_of_its_annotation_when_it_gets_it() -> None:
    plain: dict[str, Any] = {"metadata": {"name": "a"}}
    strict = {"metadata": {"name": "a", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}
    said = (
        "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; "
        "prefer separate namespaces to isolate access to mounted secrets"
    )
    assert list(on_write(builtin.SERVICEACCOUNTS, strict, None)) == [said]
    assert list(on_write(builtin.SERVICEACCOUNTS, strict, plain)) == [said]
    assert list(on_write(builtin.SERVICEACCOUNTS, strict, strict)) == []
