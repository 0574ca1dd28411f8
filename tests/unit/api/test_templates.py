"""Equal specs are judged once, and only equal ones."""

from __future__ import annotations

from typing import Any

from orca.api.builtin import PODS
from orca.api.strategy import apply_defaults, validate_create
from orca.api.templates import Faultless, encoding
from orca.api.warnings import on_write


def pod(token: str = "abcde", name: str = "a", **changes: Any) -> dict[str, Any]:
    volume = f"kube-api-access-{token}"
    mount = {"name": volume, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    container = {"name": "main", "image": "app", "volumeMounts": [mount]}
    projected = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
    spec = {
        "serviceAccountName": "default",
        "containers": [container],
        "volumes": [{"name": volume, "projected": projected}],
        **changes,
    }
    metadata = {"name": name, "namespace": "default"}
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    apply_defaults(PODS, obj)
    return obj


def fields(obj: dict[str, Any]) -> list[str]:
    return [problem.field for problem in validate_create(PODS, obj)]


def test_the_random_name_of_the_token_volume_makes_no_difference() -> None:
    assert encoding(pod("abcde")["spec"]) == encoding(pod("vwxyz")["spec"])
    assert encoding(pod()["spec"]) != encoding(pod(hostname="b")["spec"])


def test_a_mount_of_another_token_volume_does_make_one() -> None:
    assert fields(pod("abcde")) == []
    other = pod("vwxyz")
    other["spec"]["containers"][0]["volumeMounts"][0]["name"] = "kube-api-access-abcde"
    assert fields(other) == ["spec.containers[0].volumeMounts[0].name"]


def test_a_faulty_spec_is_told_each_time() -> None:
    assert fields(pod(hostname="b")) == []
    for _ in range(2):
        assert fields(pod(hostname="B_")) == ["spec.hostname"]


def test_what_depends_on_the_name_is_looked_at_for_each_name() -> None:
    claim = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    volumes = [{"name": "data", "ephemeral": {"volumeClaimTemplate": claim}}]
    short, long = pod(volumes=volumes), pod(name="a" * 250, volumes=volumes)
    for obj in (short, long):
        obj["spec"]["containers"][0]["volumeMounts"] = []
    assert fields(short) == []
    assert fields(long) == ["spec.volumes[0].name"]


def test_warnings_are_given_each_time() -> None:
    twice = [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]
    obj = pod()
    assert on_write(PODS, obj, None) == []
    obj["spec"]["containers"][0]["env"] = twice
    assert on_write(PODS, obj, None) == on_write(PODS, obj, None) != []


def test_what_cannot_be_encoded_or_is_long_is_not_remembered() -> None:
    assert encoding({"a": 2**70}) is None
    assert encoding({"a": "x" * 9000}) is None


def test_it_forgets_when_it_is_full() -> None:
    known = Faultless(2)
    for key in "abc":
        known.add(key)
    assert "a" not in known
    assert "c" in known
