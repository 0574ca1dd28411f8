"""What has no effect is said; Pod Security Standards and runtime classes are enforced."""

import pytest

from orca.admission import Attributes, default_chain
from orca.admission.no_effect import KINDS, warnings_for
from orca.admission.pod_standards import check
from orca.api.builtin import (
    DEPLOYMENTS,
    NAMESPACES,
    NETWORKPOLICIES,
    PODS,
    RESOURCECLAIMS,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
)
from orca.api.errors import ApiError
from orca.auth import UserInfo
from orca.controllers.manager import CONTROLLERS
from tests.unit.auth.fakes import FixedClock, Reader, made

SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture
def cluster():
    reader = Reader()
    reader.put(SERVICEACCOUNTS, made("v1", "ServiceAccount", "default", "d"))
    return reader


def space(cluster, **levels):
    obj = made("v1", "Namespace", "d")
    obj["metadata"]["labels"] = {f"pod-security.kubernetes.io/{mode}": level for mode, level in levels.items()}
    return cluster.put(NAMESPACES, obj)


def pod(context=None, **spec):
    container = {"name": "c", "image": "i", "securityContext": context or {}}
    return made("v1", "Pod", "p", "d", spec={"containers": [container], **spec})


async def admitted(cluster, resource, obj, *, old=None, sub=""):
    operation = "CREATE" if old is None else "UPDATE"
    attrs = Attributes(operation, resource, "d", obj["metadata"]["name"], obj, old, UserInfo("anna"), sub)
    chain = default_chain(cluster, clock=FixedClock())
    await chain.admit(attrs)
    await chain.validate(attrs)
    return attrs.warnings


async def refusal(*args, **kwargs):
    with pytest.raises(ApiError) as caught:
        await admitted(*args, **kwargs)
    return caught.value


async def test_a_claim_of_devices_says_that_nothing_allocates_them(cluster):
    space(cluster)
    claim = made("resource.k8s.io/v1", "ResourceClaim", "n", "d", spec={"devices": {}})
    told = await admitted(cluster, RESOURCECLAIMS, claim)
    assert told == ["ResourceClaim has no effect: nothing allocates devices in this version"]
    labelled = {**claim, "metadata": {**claim["metadata"], "labels": {"a": "b"}}}
    assert await admitted(cluster, RESOURCECLAIMS, labelled, old=claim) == []
    changed = {**claim, "spec": {"devices": {"requests": [{"name": "a"}]}}}
    assert await admitted(cluster, RESOURCECLAIMS, changed, old=claim) == told


async def test_a_network_policy_is_enforced_and_warns_of_nothing(cluster):
    space(cluster)
    policy = made("networking.k8s.io/v1", "NetworkPolicy", "n", "d", spec={"podSelector": {}})
    assert await admitted(cluster, NETWORKPOLICIES, policy) == []


@pytest.mark.parametrize("resource", KINDS, ids=lambda resource: resource.kind)
def test_kinds_without_effect_are_named(resource):
    assert list(warnings_for(resource)) == [f"{resource.kind} has no effect: {KINDS[resource]}"]


def test_no_kind_with_a_controller_is_said_to_have_none():
    run = {controller.__name__ for controller in CONTROLLERS}
    assert [resource.kind for resource in KINDS if f"{resource.kind}Controller" in run] == []


async def test_baseline_refuses_a_privileged_pod(cluster):
    space(cluster, enforce="baseline")
    error = await refusal(cluster, PODS, pod({"privileged": True}, hostPID=True))
    assert error.code == 403
    assert error.message == (
        'pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true), '
        'privileged (container "c" must not set securityContext.privileged=true)'
    )
    assert await admitted(cluster, PODS, pod()) == []


async def test_restricted_asks_for_a_safe_pod(cluster):
    space(cluster, enforce="restricted")
    error = await refusal(cluster, PODS, pod())
    assert error.message == (
        'pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
        '(container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities '
        '(container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container '
        '"c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set '
        'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    )
    assert await admitted(cluster, PODS, pod(SAFE)) == []


async def test_warn_only_warns_also_for_templates(cluster):
    space(cluster, warn="baseline")
    told = await admitted(cluster, PODS, pod(hostNetwork=True))
    assert told == ['would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)']
    template = {"metadata": {}, "spec": pod(hostNetwork=True)["spec"]}
    deployment = made("apps/v1", "Deployment", "w", "d", spec={"template": template})
    assert await admitted(cluster, DEPLOYMENTS, deployment) == told


async def test_templates_are_not_enforced(cluster):
    space(cluster, enforce="baseline")
    template = {"metadata": {}, "spec": pod(hostNetwork=True)["spec"]}
    deployment = made("apps/v1", "Deployment", "w", "d", spec={"template": template})
    assert await admitted(cluster, DEPLOYMENTS, deployment) == []


async def test_labels_must_be_levels(cluster):
    wrong = made("v1", "Namespace", "e")
    wrong["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "strict"}
    error = await refusal(cluster, NAMESPACES, wrong)
    assert error.code == 422
    assert "must be one of privileged, baseline, restricted" in error.message


async def test_a_stricter_namespace_names_pods_that_violate_it(cluster):
    old = space(cluster)
    cluster.put(PODS, pod(hostNetwork=True))
    new = {**old, "metadata": {**old["metadata"], "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    assert await admitted(cluster, NAMESPACES, new, old=old) == [
        'existing pods in namespace "d" violate the new PodSecurity enforce level "baseline:latest"',
        "p: host namespaces",
    ]


@pytest.mark.parametrize(
    ("level", "spec", "reasons"),
    [
        ("privileged", {"hostNetwork": True}, []),
        ("baseline", {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, ["hostPath volumes"]),
        ("baseline", {"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, ["forbidden sysctls"]),
        ("baseline", {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, ["seccompProfile"]),
        ("baseline", {"securityContext": {"seLinuxOptions": {"user": "u"}}}, ["seLinuxOptions"]),
        (
            "baseline",
            {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            ["forbidden AppArmor profile"],
        ),
        ("baseline", {"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}, ["hostPort"]),
        (
            "baseline",
            {"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["NET_RAW"]}}}]},
            ["non-default capabilities"],
        ),
        (
            "baseline",
            {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]},
            ["probe or lifecycle host"],
        ),
        ("baseline", {"containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}, ["procMount"]),
        ("restricted", {"volumes": [{"name": "v", "nfs": {}}]}, ["restricted volume types"]),
        ("restricted", {"securityContext": {"runAsUser": 0}}, ["runAsUser=0"]),
    ],
)
def test_each_rule_of_the_standards(level, spec, reasons):
    assert [reason for reason, _ in check(level, {}, spec)] == reasons


async def test_a_runtime_class_must_exist(cluster):
    space(cluster)
    error = await refusal(cluster, PODS, pod(runtimeClassName="gvisor"))
    assert (error.code, error.message) == (403, 'pods "p" is forbidden: pod rejected: RuntimeClass "gvisor" not found')
    found = made("node.k8s.io/v1", "RuntimeClass", "gvisor", handler="runsc", overhead={"podFixed": {"cpu": "10m"}})
    cluster.put(RUNTIMECLASSES, found)
    wanted = pod(runtimeClassName="gvisor")
    assert await admitted(cluster, PODS, wanted) == []
    assert wanted["spec"]["overhead"] == {"cpu": "10m"}
    error = await refusal(cluster, PODS, pod(overhead={"cpu": "10m"}))
    assert "Pod Overhead set without corresponding RuntimeClass defined Overhead" in error.message
