"""``kubectl apply --server-side`` and what belongs to it, with both kubectl."""

from __future__ import annotations

import json

import pytest

from tests.api.server.manifests import WEB_DEPLOYMENT
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl

MORE = WEB_DEPLOYMENT.replace("replicas: 2", "replicas: 3")


def managers(kubectl: Kubectl) -> list[tuple[str, str]]:
    """Read raw: kubectl hides managedFields in what it prints."""
    raw = json.loads(kubectl("get", "--raw", f"/apis/apps/v1/namespaces/{kubectl.namespace}/deployments/web"))
    return [(entry["manager"], entry["operation"]) for entry in raw["metadata"]["managedFields"]]


def is_old(kubectl: Kubectl) -> bool:
    return kubectl.binary == kubectls.debian()


def test_server_side_apply_from_the_start(kubectl: Kubectl) -> None:
    applied = ("apply", "--server-side", "-f", "-")
    assert kubectl(*applied, stdin=WEB_DEPLOYMENT).strip() == "deployment.apps/web serverside-applied"
    assert managers(kubectl) == [("kubectl", "Apply")]
    before = kubectl.json("get", "deployment", "web")["metadata"]["resourceVersion"]
    kubectl(*applied, stdin=WEB_DEPLOYMENT)
    assert kubectl.json("get", "deployment", "web")["metadata"]["resourceVersion"] == before
    kubectl(*applied, stdin=MORE)
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 3
    assert "serverside-applied" in kubectl(*applied, "--dry-run=server", stdin=WEB_DEPLOYMENT)
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 3


def test_conflicts_as_kubectl_tells_them(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=WEB_DEPLOYMENT)
    kubectl("scale", "deployment", "web", "--replicas=7")
    refused = kubectl.try_("apply", "--server-side", "-f", "-", stdin=WEB_DEPLOYMENT)
    assert refused.code == 1
    assert "Apply failed with 1 conflict" in refused.err
    assert ".spec.replicas" in refused.err
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=WEB_DEPLOYMENT)
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 2
    other = kubectl.try_("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=MORE)
    assert 'conflict with "kubectl"' in other.err


def test_from_client_side_to_server_side(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB_DEPLOYMENT)
    assert managers(kubectl) == [("kubectl-client-side-apply", "Update")]
    kubectl("apply", "--server-side", "-f", "-", stdin=MORE)
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 3
    if not is_old(kubectl):  # it hands over what the client side owned, so that removing works
        assert sorted(managers(kubectl)) == [("kubectl", "Apply"), ("kubectl-last-applied", "Apply")]
        kubectl("apply", "--server-side", "-f", "-", stdin=MORE.replace("  replicas: 3\n", ""))
        assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 1
    last = kubectl("apply", "view-last-applied", "deployment", "web", "-o", "json")
    assert json.loads(last)["spec"]["template"]["spec"]["containers"][0]["name"] == "nginx"
    kubectl("apply", "-f", "-", stdin=WEB_DEPLOYMENT)
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 2


def test_server_side_diff(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=WEB_DEPLOYMENT)
    assert kubectl.try_("diff", "--server-side", "-f", "-", stdin=WEB_DEPLOYMENT).code == 0
    differs = kubectl.try_("diff", "--server-side", "-f", "-", stdin=MORE)
    assert differs.code == 1
    assert "+  replicas: 3" in differs.out


def test_managed_fields_are_hidden_until_asked_for(kubectl: Kubectl) -> None:
    if is_old(kubectl):
        pytest.skip("kubectl hides them since 1.21")
    kubectl("apply", "--server-side", "-f", "-", stdin=WEB_DEPLOYMENT)
    assert "managedFields" not in kubectl("get", "deployment", "web", "-o", "yaml")
    shown = kubectl("get", "deployment", "web", "-o", "yaml", "--show-managed-fields")
    assert "f:replicas: {}" in shown
    assert "managedFields" not in kubectl("get", "deployment", "web", "-o", "wide")


def test_other_commands_have_managers_too(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=nginx:1")
    kubectl("label", "deployment", "web", "tier=front")
    kubectl("set", "image", "deployment/web", "nginx=nginx:2")
    found = {manager for manager, _ in managers(kubectl)}
    expected = "kubectl" if is_old(kubectl) else "kubectl-create"
    assert any(name.startswith(expected) for name in found), found
    assert "kubectl-label" in found, found
    assert "kubectl-set" in found, found


def test_lists_of_several_kinds(kubectl: Kubectl) -> None:
    both = WEB_DEPLOYMENT + "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
    assert kubectl("apply", "--server-side", "-f", "-", stdin=both).splitlines() == [
        "deployment.apps/web serverside-applied",
        "service/web serverside-applied",
    ]
    kubectl("delete", "-f", "-", stdin=both)
