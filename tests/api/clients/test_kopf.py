"""kopf runs an operator for a custom resource, as a process of its own with rights of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, eventually

OPERATOR = Path(__file__).with_name("shop.py")
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "shops.test.orca.dev"},
    "spec": {
        "group": "test.orca.dev",
        "scope": "Namespaced",
        "names": {"plural": "shops", "singular": "shop", "kind": "Shop", "shortNames": ["sh"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.replicas"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["image"],
                                "properties": {
                                    "image": {"type": "string"},
                                    "replicas": {"type": "integer", "minimum": 0, "maximum": 9, "default": 1},
                                },
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


def shop(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "test.orca.dev/v1", "kind": "Shop", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def shops(admin: Kubectl) -> None:
    """The kind is served."""
    admin("apply", "-f", "-", stdin=json.dumps(DEFINITION))
    admin("wait", "--for=condition=Established", "crd/shops.test.orca.dev", "--timeout=120s")


@pytest.fixture
def operator(shops: None, kubeconfig: Path, space: str, tmp_path: Path) -> Iterator[Path]:
    """``kopf run`` in the test's namespace; its log."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "kopf", "run", "--standalone", f"--namespace={space}", str(OPERATOR)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "KUBECONFIG": str(kubeconfig)})
    yield log
    process.terminate()
    process.wait(timeout=120)


def test_an_operator(operator: Path, admin: Kubectl, space: str) -> None:
    kubectl = admin.within(space)
    refused = kubectl.try_("create", "-f", "-", stdin=json.dumps(shop("bad", replicas=99, image="nginx")))
    assert refused.code != 0
    assert "spec.replicas" in refused.err
    kubectl("apply", "-f", "-", stdin=json.dumps(shop("corner", image="nginx:1.25")))

    def field(what: str, path: str) -> str:
        return kubectl.try_("get", *what.split(), f"-o=jsonpath={path}").out

    try:
        eventually(lambda: field("deployment corner", "{.spec.replicas}") == "1", what="its Deployment")
        eventually(lambda: field("shop corner", "{.status.open_shop.deployment}") == "corner", what="its status")
        uid = field("shop corner", "{.metadata.uid}")
        assert field("deployment corner", "{.metadata.ownerReferences[0].uid}") == uid
        assert "kopf.zalando.org/KopfFinalizerMarker" in field("shop corner", "{.metadata.finalizers}")
        kubectl("patch", "shop/corner", "--type=merge", '-p={"spec":{"replicas":3}}')
        eventually(lambda: field("deployment corner", "{.spec.replicas}") == "3", what="three of them")
        eventually(
            lambda: "Resized" in kubectl("get", "events", "--field-selector=involvedObject.name=corner"),
            what="the event",
        )
        assert "3" in kubectl("get", "sh", "corner", "--no-headers").split()
        kubectl("delete", "shop/corner", "--timeout=120s")
        assert kubectl("get", "configmap/corner-closed", "-o=name").strip() == "configmap/corner-closed"
        eventually(lambda: kubectl.try_("get", "deployment/corner").code != 0, what="the end of what it owned")
    except Exception as error:
        raise AssertionError(f"{error}\n--- operator:\n{operator.read_text()[-3000:]}") from error
