"""kubectl on every kind: describe, wide tables, explain; and the commands people type."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from orca.api.builtin import (
    BUILTIN,
    CUSTOMRESOURCEDEFINITIONS,
    EVENTS_V1,
    HORIZONTALPODAUTOSCALERS_V1,
    IPADDRESSES,
    NAMESPACES,
    SERVICECIDRS,
    VOLUMEATTRIBUTESCLASSES,
)
from tests.api.server.api import Api
from tests.api.server.samples import name_of, sample
from tests.api.server.story import collection
from tests.support.kubectl import Kubectl

_OTHERWISE = {EVENTS_V1, HORIZONTALPODAUTOSCALERS_V1}
"""Further versions of kinds that are there already."""
_BETA_IN_KUBECTL = {IPADDRESSES, SERVICECIDRS, VOLUMEATTRIBUTESCLASSES}
"""Kinds that kubectl 1.32 describes through beta versions, which v1.36 does not serve."""
_GONE = "the server could not find the requested resource"
_ROWS = [row for row in BUILTIN if not row.virtual and row not in _OTHERWISE]


def _old(kubectl: Kubectl) -> bool:
    return "1.20" in kubectl.binary


async def test_every_kind_is_described_and_listed(api: Api, space: str, kubectl: Kubectl, request_pem: str) -> None:
    made = []
    for row in _ROWS:
        answer = await api.post(collection(row, space), sample(row, space, request_pem))
        assert answer.status in (201, 409), answer.raw
        made.append((row, answer.json["metadata"]["name"] if answer.status == 201 else name_of(row)))
    try:
        for row, name in made:
            plural = f"{row.plural}.{row.version}.{row.group}" if row.group else row.plural
            told = kubectl.try_("describe", plural, name)
            if not (_GONE in told.err and (_old(kubectl) or row in _BETA_IN_KUBECTL)):
                assert told.code == 0, (row, told.err)
                assert name in told.out, (row, told.out)
                assert "error" not in told.err.lower(), (row, told.err)
            shown = kubectl.try_("get", plural, name, "-o", "wide")
            assert shown.code == 0, (row, shown.err)
            assert len(shown.out.splitlines()) == 2, (row, shown.out)
            if not _old(kubectl):
                explained = kubectl.try_("explain", row.plural, f"--api-version={row.api_version}")
                assert explained.code == 0, (row, explained.err)
                assert f"KIND:       {row.kind}" in explained.out
        everything = kubectl("get", "all", "-A", "-o", "wide")
        assert "deployment.apps/sample" in everything
    finally:
        for row, name in made:
            if row is not NAMESPACES:
                await api.delete(f"{collection(row, space)}/{name}", {"gracePeriodSeconds": 0})
            if row is CUSTOMRESOURCEDEFINITIONS:
                await api.patch(f"{collection(row, space)}/{name}", {"metadata": {"finalizers": None}})


COMMANDS = """
create configmap a --from-literal=k=v
create secret generic s --from-literal=k=v
create secret docker-registry r --docker-username=u --docker-password=p --docker-email=e@example.com
create deployment d --image=nginx:1 --replicas=2 --port=80
create job j --image=busybox:1
create cronjob c --image=busybox:1 --schedule=@hourly
create job j2 --from=cronjob/c
create role r1 --verb=get --resource=pods
create rolebinding rb1 --role=r1 --user=u
create serviceaccount sa1
create quota q1 --hard=pods=10
create poddisruptionbudget p1 --min-available=1 --selector=app=d
create service clusterip s1 --tcp=80
create service nodeport s2 --tcp=80
create service externalname s4 --external-name=example.com
create ingress i1 --rule=a.example.com/*=s1:80
expose deployment d
autoscale deployment d --max=3
run p --image=nginx:1
scale deployment d --replicas=3
set image deployment/d nginx=nginx:2
set env deployment/d A=b
set resources deployment d --limits=cpu=1
set serviceaccount deployment d sa1
set selector service s1 a=b
label pod p a=b
annotate pod p a=b
rollout restart deployment/d
rollout pause deployment/d
rollout resume deployment/d
get events
auth can-i --list
auth can-i create pods
api-resources -o wide
api-versions
patch deployment d --type=json -p [{"op":"replace","path":"/spec/replicas","value":4}]
get all
delete pod p --grace-period=0 --force
delete deployment,service,job,cronjob --all
"""


async def test_the_commands_people_type(kubectl: Kubectl) -> None:
    for line in COMMANDS.strip().splitlines():
        done = kubectl.try_(*(line.split(" ") if "[" in line else shlex.split(line)))
        if not (_old(kubectl) and (_GONE in done.err or "cronjob/c" in line or "no matches for kind" in done.err)):
            assert done.code == 0, (line, done.err)


async def test_subresources_and_waiting(kubectl: Kubectl) -> None:
    if _old(kubectl):
        pytest.skip("--subresource came with kubectl 1.24")
    kubectl("create", "deployment", "d", "--image=nginx:1", "--replicas=2")
    columns = kubectl("get", "deployment", "d", "--subresource=scale").splitlines()[0].split()
    assert columns == ["NAME", "DESIRED", "AVAILABLE", "AGE"]
    kubectl("patch", "deployment", "d", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":5}}')
    kubectl("wait", "--for=jsonpath={.spec.replicas}=5", "deployment/d", "--timeout=120s")
    kubectl("patch", "deployment", "d", "--subresource=status", "--type=merge", "-p", '{"status":{"replicas":5}}')
    assert kubectl("get", "deployment", "d", "-o", "jsonpath={.status.replicas}") == "5"


def editor(path: Path, expression: str) -> dict[str, str]:
    """An environment whose editor is sed."""
    path.write_text(f'#!/bin/sh\nsed -i "{expression}" "$1"\n')
    path.chmod(0o755)
    return {"KUBE_EDITOR": str(path)}


async def test_edit_replace_and_reconcile(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("create", "configmap", "a", "--from-literal=k=v")
    edited = kubectl("edit", "configmap", "a", env=editor(tmp_path / "editor", "s/k: v/k: w/"))
    assert edited.strip() == "configmap/a edited"
    assert kubectl("get", "configmap", "a", "-o", "jsonpath={.data.k}") == "w"
    refused = kubectl.try_("edit", "configmap", "a", env=editor(tmp_path / "editor", "s/name: a/name: b/"))
    assert refused.code != 0
    before = kubectl.json("get", "configmap", "a")
    text = json.dumps({**before, "data": {"k": "x"}, "metadata": {"name": "a"}})
    assert kubectl("replace", "--force", "-f", "-", stdin=text).splitlines()[-1] == "configmap/a replaced"
    after = kubectl.json("get", "configmap", "a")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader", "namespace": kubectl.namespace},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    }
    for _ in range(2):
        assert "reader reconciled" in kubectl("auth", "reconcile", "-f", "-", stdin=json.dumps(role))


async def test_certificates_are_approved_and_denied(kubectl: Kubectl, request_pem: str) -> None:
    for verdict, condition in (("approve", "Approved"), ("deny", "Denied")):
        name = f"{verdict}-{kubectl.namespace}"
        spec = {"signerName": "example.com/signer", "request": request_pem, "usages": ["client auth"]}
        request = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": spec,
        }
        kubectl("create", "-f", "-", stdin=json.dumps(request))
        kubectl("certificate", verdict, name)
        assert condition in kubectl("get", "csr", name)
        kubectl("delete", "csr", name)
