"""What is unknown or said twice, in each kind of body: the words, their order, and where they go."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.server.api import PATCH, Answer, Api
from tests.api.server.story import ok

BODY = b"""{
 "metadata": {"name": "no", "name": "web", "unknownMeta": "x"},
 "spec": {
  "unknownTwice": 1, "unknownTwice": {"a": 1, "a": 2}, "paused": true, "paused": false,
  "selector": {"matchLabels": {"app": "web"}},
  "template": {
   "metadata": {"labels": {"app": "web"}},
   "spec": {"containers": [{"name": "web", "image": "i", "unknownInside": 1, "tty": true, "tty": false}]}
  }
 }
}"""
YAML = b"""metadata: {name: web, unknownMeta: x}
spec:
  unknownField: 1
  paused: true
  paused: false
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: i
        unknownInside: 1
        tty: true
        tty: false
"""
MERGE = b"""{"spec": {"unknownTwice": 1, "unknownTwice": 2, "paused": true, "paused": false, "template": {"spec": {
 "containers": [{"name": "web", "image": "i", "unknownInside": 1, "tty": true, "tty": false}]}}}}"""
OPERATIONS = b"""[{"op": "add", "path": "/spec/unknownOne", "value": 1, "foo": "bar"},
 {"op": "add", "path": "/spec/unknownTwo", "path": "/spec/unknownThree", "value": 1}]"""
APPLIED = b"""{"apiVersion": "apps/v1", "kind": "Deployment",
 "spec": {"paused": true,
  "paused": false}}"""

INSIDE = "spec.template.spec.containers[0]"
TEXTS = {
    "json": [
        'duplicate field "metadata.name"',
        'unknown field "metadata.unknownMeta"',
        'unknown field "spec.unknownTwice"',
        'duplicate field "spec.paused"',
        f'unknown field "{INSIDE}.unknownInside"',
        f'duplicate field "{INSIDE}.tty"',
    ],
    "yaml": [
        'line 5: key "paused" already set in map',
        'line 15: key "tty" already set in map',
        'unknown field "metadata.unknownMeta"',
        f'unknown field "{INSIDE}.unknownInside"',
        'unknown field "spec.unknownField"',
    ],
    "merge": [
        'duplicate field "spec.unknownTwice"',
        'duplicate field "spec.paused"',
        f'duplicate field "{INSIDE}.tty"',
        f'unknown field "{INSIDE}.unknownInside"',
        'unknown field "spec.unknownTwice"',
    ],
    "operations": [
        'json patch unknown field "[0].foo"',
        'json patch duplicate field "[1].path"',
        'unknown field "spec.unknownOne"',
        'unknown field "spec.unknownThree"',
    ],
    "applied": ['line 3: key "paused" already set in map'],
}
CASES = [
    ("POST", "application/json", BODY, "json"),
    ("PUT", "application/json", BODY, "json"),
    ("POST", "application/yaml", YAML, "yaml"),
    ("PUT", "application/yaml", YAML, "yaml"),
    ("PATCH", PATCH["merge"], MERGE, "merge"),
    ("PATCH", PATCH["strategic"], MERGE, "merge"),
    ("PATCH", PATCH["json"], OPERATIONS, "operations"),
    ("PATCH", "application/apply-patch+yaml", APPLIED, "applied"),
]


def warnings(answer: Answer) -> list[str]:
    found = [
        text for header in answer.headers.getall("Warning", []) for text in re.findall(r'299 - "(.*?[^\\])"', header)
    ]
    return [text.replace('\\"', '"') for text in found]


@pytest.mark.parametrize(("method", "media", "body", "texts"), CASES, ids=[f"{one[0]} {one[1]}" for one in CASES])
async def test_what_is_unknown_or_said_twice(
    api: Api, space: str, method: str, media: str, body: bytes, texts: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    if method != "POST":
        template: dict[str, Any] = {"metadata": {"labels": {"app": "web"}}}
        template["spec"] = {"containers": [{"name": "web", "image": "i"}]}
        spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
        ok(await api.post(path, {"metadata": {"name": "web"}, "spec": spec}), 201)
        path += "/web"
    query = "?fieldManager=me&force=true" if texts == "applied" else "?fieldManager=me"

    async def told(validation: str) -> Answer:
        return await api.call(method, f"{path}{query}&dryRun=All&fieldValidation={validation}", body, media=media)

    assert warnings(await told("Warn")) == warnings(await told("")) == TEXTS[texts]
    ignored = await told("Ignore")
    assert (ignored.status in (200, 201), warnings(ignored)) == (True, [])
    refused = (await told("Strict")).failure
    plain = method == "PATCH" and texts != "applied"
    assert refused[:2] == ((422, "Invalid") if plain else (400, "BadRequest"))
    lines = [text for text in TEXTS[texts] if text.startswith("line")]
    rest = [text for text in TEXTS[texts] if not text.startswith("line")]
    whole = ["\n  ".join(["yaml: unmarshal errors:", *lines]), *rest] if lines else rest
    assert refused[2].endswith(": " + ", ".join(whole))


async def test_patches_that_make_no_object_of_the_kind(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    ok(await api.post(path, {"metadata": {"name": "c"}, "data": {"a": "1"}}), 201)
    why = "json: cannot unmarshal number into Go struct field ConfigMap.data"
    for kind, patch, shown in (
        ("merge", {"data": {"b": 1}}, '\\"b\\":1'),
        ("json", [{"op": "add", "path": "/data/b", "value": 1}], '\\"b\\":1'),
        ("strategic", {"data": {"b": 1, "a": None}}, "map[data:map[a:<nil> b:1]]"),
    ):
        refused = await api.patch(f"{path}/c", patch, kind)
        code, reason, message = refused.failure
        assert (code, reason) == (422, "Invalid")
        assert message.startswith(' "" is invalid: patch: Invalid value: "')
        assert shown in message
        assert (why if kind != "strategic" else ": cannot convert int64 to string") in message
        assert "kind" not in refused.json["details"]
    assert (
        'Invalid value: "map[data:map[a:[true 1 x]]]"'
        in (await api.patch(f"{path}/c", {"data": {"a": [True, 1, "x"]}}, "strategic")).failure[2]
    )


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ({"metadata": {"labels": "invalid"}}, "cannot restore map from string"),
        ({"metadata": {"finalizers": {"a": "b"}}}, "cannot restore slice from map"),
        ({"data": ["a"]}, "cannot restore map from slice"),
        ({"metadata": {"labels": {"a": {"b": "c"}}}}, "unrecognized type: string"),
        ({"immutable": "yes"}, "unrecognized type: bool"),
    ],
)
async def test_strategic_patches_of_other_types(api: Api, space: str, patch: Any, why: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    ok(await api.post(path, {"metadata": {"name": "c"}}), 201)
    assert (await api.patch(f"{path}/c", patch, "strategic")).failure[2].endswith(f": {why}")
