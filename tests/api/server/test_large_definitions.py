"""Definitions as large as those of well-known operators, and an operator's loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from tests.api.server.api import Api
from tests.api.server.definitions import establish, remove
from tests.support.structural import written_out


def application(group: str) -> dict[str, Any]:
    """A kind with a whole pod template, unions, rules and conditions in two versions that differ."""
    condition = {
        "type": "object",
        "required": ["type", "status"],
        "properties": {
            "type": {"type": "string", "maxLength": 316, "pattern": "^[A-Za-z]+$"},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        },
    }
    conditions = {
        "type": "array",
        "items": condition,
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    issuer = {
        "type": "object",
        "properties": {
            "ca": {"type": "object", "required": ["secretName"], "properties": {"secretName": {"type": "string"}}},
            "selfSigned": {"type": "object", "properties": {}},
        },
        "oneOf": [{"required": ["ca"]}, {"required": ["selfSigned"]}],
    }
    spec = {
        "type": "object",
        "required": ["template"],
        "properties": {
            "template": written_out("io.k8s.api.core.v1.PodTemplateSpec"),
            "issuer": issuer,
            "hosts": {
                "type": "array",
                "maxItems": 16,
                "x-kubernetes-list-type": "set",
                "items": {"type": "string", "format": "hostname", "maxLength": 253},
            },
            "minReplicas": {"type": "integer", "default": 1},
            "maxReplicas": {"type": "integer", "default": 3},
            "config": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.minReplicas <= self.maxReplicas",
                "messageExpression": "'at most %d, but at least %d'.format([self.maxReplicas, self.minReplicas])",
                "fieldPath": ".minReplicas",
            },
            {"rule": "!has(self.hosts) || self.hosts.all(h, h.endsWith('.example.com'))", "message": "foreign host"},
        ],
    }
    schema = {
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": spec, "status": {"type": "object", "properties": {"conditions": conditions}}},
    }
    older = orjson.loads(orjson.dumps(schema))
    del older["properties"]["spec"]["properties"]["config"]
    ready = '.status.conditions[?(@.type=="Ready")].status'
    columns = [{"name": "Ready", "type": "string", "jsonPath": ready}]
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == "v1",
            "schema": {"openAPIV3Schema": shown},
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns,
        }
        for name, shown in (("v1", schema), ("v1alpha1", older))
    ]
    return {
        "metadata": {"name": f"applications.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "applications", "kind": "Application"},
            "versions": versions,
        },
    }


def app(group: str, name: str, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "nginx",
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
        "livenessProbe": {"httpGet": {"port": "http", "path": "/"}},
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    said = {"apiVersion": f"{group}/v1", "kind": "Application"}
    return {**said, "metadata": {"name": name}, "spec": {"template": template, **spec}}


async def test_a_definition_with_a_whole_pod_template(api: Api, space: str) -> None:
    group = "apps.large.example.com"
    definition = application(group)
    assert len(orjson.dumps(definition)) > 500_000
    await establish(api, definition)
    path = f"/apis/{group}/v1/namespaces/{space}/applications"
    try:
        made = await api.post(
            path, app(group, "a", hosts=["a.example.com"], config={"free": {"form": [1]}}, issuer={"selfSigned": {}})
        )
        assert made.status == 201, made.raw
        spec = made.json["spec"]
        assert (spec["minReplicas"], spec["config"]) == (1, {"free": {"form": [1]}})
        assert spec["template"]["spec"]["containers"][0]["ports"][0]["protocol"] == "TCP"
        began = time.monotonic()
        for number in range(20):
            assert (await api.post(path, app(group, f"n{number}"))).status == 201
        assert time.monotonic() - began < 40, "it was compiled once"
        bad = app(group, "bad", hosts=["a.example.com", "a.example.com", "-"], minReplicas=5, issuer={})
        bad["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"
        refused = (await api.post(path, bad)).json
        told = [(cause["field"], cause["message"]) for cause in refused["details"]["causes"]]
        port = "spec.template.spec.containers[0].ports[0].containerPort"
        text = f'Invalid value: "string": {port} in body must be of type integer: "string"'
        assert (port, text) in told
        assert any("must validate one and only one schema (oneOf)" in message for _, message in told)
        assert ("spec.hosts[1]", 'Duplicate value: "a.example.com"') in told
        ruled = await api.post(path, app(group, "ruled", minReplicas=5))
        assert ruled.json["details"]["causes"] == [
            {
                "reason": "FieldValueInvalid",
                "message": 'Invalid value: "object": at most 3, but at least 5',
                "field": "spec.minReplicas",
            }
        ]
        older = (await api.get(f"/apis/{group}/v1alpha1/namespaces/{space}/applications/a")).json
        assert "config" not in older["spec"], "pruned by the version's own schema"
        assert (await api.get(f"{path}/a")).json["spec"]["config"] == {"free": {"form": [1]}}
    finally:
        await remove(api, f"applications.{group}")


async def test_an_operator_keeps_children_and_status(api: Api, space: str) -> None:
    """Watches its kind, makes a ConfigMap for each object and tells the generation it has seen."""
    group = "operated.example.com"
    await establish(api, application(group))
    path = f"/apis/{group}/v1/namespaces/{space}/applications"
    since = (await api.get(path)).json["metadata"]["resourceVersion"]

    async def operate(count: int) -> None:
        # Three objects, each of which is added, and then modified by what is told of it.
        for event in await api.events(f"{path}?watch=1&resourceVersion={since}", count):
            obj = event["object"]
            name, fields = obj["metadata"]["name"], obj["metadata"]
            if event["type"] != "ADDED":
                continue
            owner = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": name, "uid": fields["uid"]}
            child = {"metadata": {"name": name, "ownerReferences": [{**owner, "controller": True}]}}
            assert (await api.post(f"/api/v1/namespaces/{space}/configmaps", child)).status == 201
            ready = {"type": "Ready", "status": "True", "observedGeneration": fields["generation"]}
            assert (await api.patch(f"{path}/{name}/status", {"status": {"conditions": [ready]}})).status == 200

    try:
        operator = asyncio.create_task(operate(3))
        for number in range(3):
            assert (await api.post(path, app(group, f"o{number}"))).status == 201
        await operator
        table = (await api.get(path, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
        assert table["rows"][0]["cells"] == ["o0", "True"]
        assert len((await api.get(f"/api/v1/namespaces/{space}/configmaps")).json["items"]) >= 3
    finally:
        await remove(api, f"applications.{group}")
