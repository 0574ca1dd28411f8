"""The "should support … API operations" and lifecycle cases of many kinds, told by their watches."""

from __future__ import annotations

import pytest

from orca.api import builtin
from orca.api.resources import Resource
from tests.api.conformance.cases import eventually, gone, ok, pod, put, template, watching
from tests.api.server.api import Api
from tests.api.server.samples import sample
from tests.api.server.story import collection

KINDS = [
    builtin.CONFIGMAPS,
    builtin.SECRETS,
    builtin.PODTEMPLATES,
    builtin.SERVICEACCOUNTS,
    builtin.LIMITRANGES,
    builtin.EVENTS,
    builtin.EVENTS_V1,
    builtin.ENDPOINTS,
    builtin.SERVICES,
    builtin.PERSISTENTVOLUMES,
    builtin.PERSISTENTVOLUMECLAIMS,
    builtin.LEASES,
    builtin.RUNTIMECLASSES,
    builtin.PRIORITYCLASSES,
    builtin.ENDPOINTSLICES,
    builtin.INGRESSCLASSES,
    builtin.INGRESSES,
    builtin.NETWORKPOLICIES,
    builtin.IPADDRESSES,
    builtin.CSIDRIVERS,
    builtin.CSINODES,
    builtin.CSISTORAGECAPACITIES,
    builtin.STORAGECLASSES,
    builtin.VOLUMEATTACHMENTS,
    builtin.VOLUMEATTRIBUTESCLASSES,
    builtin.FLOWSCHEMAS,
    builtin.PRIORITYLEVELCONFIGURATIONS,
    builtin.VALIDATINGADMISSIONPOLICIES,
    builtin.VALIDATINGADMISSIONPOLICYBINDINGS,
    builtin.MUTATINGADMISSIONPOLICIES,
    builtin.MUTATINGADMISSIONPOLICYBINDINGS,
    builtin.MUTATINGWEBHOOKCONFIGURATIONS,
    builtin.VALIDATINGWEBHOOKCONFIGURATIONS,
    builtin.RESOURCECLAIMS,
    builtin.RESOURCECLAIMTEMPLATES,
    builtin.DEVICECLASSES,
    builtin.RESOURCESLICES,
    builtin.CERTIFICATESIGNINGREQUESTS,
    builtin.ROLES,
    builtin.CLUSTERROLES,
]


@pytest.mark.parametrize("row", KINDS, ids=lambda row: f"{row.plural}.{row.group or 'core'}")
async def test_api_operations(api: Api, space: str, row: Resource, request_pem: str) -> None:
    """Create, get, list here and everywhere, watch, patch, update, delete and deletecollection, controllers running."""
    path = collection(row, space)
    everywhere = collection(row, "").replace("/namespaces//", "/") if row.namespaced else path
    body = sample(row, space, request_pem)
    name, uid = body["metadata"]["name"], ""
    body["metadata"]["labels"] = {**(body["metadata"].get("labels") or {}), "special-label": space}
    selected = f"{path}?labelSelector=special-label={space}"
    one = f"{path}/{name}"
    async with watching(api, selected) as seen:
        made = ok(await api.post(path, body), 201)
        uid = made["metadata"]["uid"]
        assert ok(await api.get(one))["metadata"]["uid"] == uid
        for each in (selected, f"{everywhere}?labelSelector=special-label={space}"):
            assert [item["metadata"]["uid"] for item in ok(await api.get(each))["items"]] == [uid]
        await seen.saw("ADDED")
        patched = ok(await api.patch(one, {"metadata": {"annotations": {"patched": "true"}}}))
        assert patched["metadata"]["annotations"]["patched"] == "true"
        await seen.saw("MODIFIED", lambda o: (o["metadata"].get("annotations") or {}).get("patched") == "true")
        for _ in range(5):
            read = ok(await api.get(one))
            read["metadata"]["annotations"]["updated"] = "true"
            answer = await api.put(one, read)
            if answer.status != 409:  # a controller was faster
                break
        assert ok(answer)["metadata"]["annotations"]["updated"] == "true"
        await seen.saw("MODIFIED", lambda o: (o["metadata"].get("annotations") or {}).get("updated") == "true")
        if row.has("status"):
            read = ok(await api.get(f"{one}/status"))
            assert read["kind"] == row.kind
            assert "status" in read
        ok(await api.delete(one))
        await seen.saw("DELETED", lambda o: o["metadata"]["uid"] == uid)
        await gone(api, one)
        again = ok(await api.post(path, body), 201)["metadata"]["uid"]
        ok(await api.delete(selected))
        await seen.saw("DELETED", lambda o: o["metadata"]["uid"] == again)
    assert ok(await api.get(selected))["items"] == []


# -- what only one kind has


@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
async def test_immutable_data(api: Api, space: str, plural: str) -> None:
    path = f"/api/v1/namespaces/{space}/{plural}"
    value = "dmFsdWU=" if plural == "secrets" else "value"
    ok(await api.post(path, {"metadata": {"name": "im"}, "data": {"data-1": value}}), 201)
    ok(await api.patch(f"{path}/im", {"data": {"data-4": value}}))
    ok(await api.patch(f"{path}/im", {"immutable": True}))
    for change in ({"data": {"data-5": value}}, {"immutable": False}, {"immutable": None}):
        refused = await api.patch(f"{path}/im", change)
        assert refused.failure[:2] == (422, "Invalid")
        assert "field is immutable when `immutable` is set" in refused.failure[2]
    ok(await api.patch(f"{path}/im", {"metadata": {"labels": {"a": "b"}}}))
    ok(await api.delete(f"{path}/im"))
    for name in ("", " "):
        refused = await api.post(path, {"metadata": {"name": "empty"}, "data": {name: value}})
        assert refused.failure[:2] == (422, "Invalid")


async def test_events_of_both_apis_are_patched_updated_and_listed(api: Api, space: str) -> None:
    new, core = f"/apis/events.k8s.io/v1/namespaces/{space}/events", f"/api/v1/namespaces/{space}/events"
    regarding = {"namespace": space, "kind": "Pod", "name": "p", "apiVersion": "v1"}
    event = {
        "metadata": {"name": "event-test", "labels": {"testevent": space}},
        "regarding": regarding,
        "note": "This is a test event",
        "type": "Normal",
        "action": "Do",
        "reason": "Test",
        "eventTime": "2017-09-19T13:49:16.000000Z",
        "reportingController": "test-controller",
        "reportingInstance": "test-node",
    }
    ok(await api.post(new, event), 201)
    selected = "?fieldSelector=reportingController%3Dtest-controller"
    assert len(ok(await api.get(f"{new}{selected}"))["items"]) == 1
    assert len(ok(await api.get(f"/apis/events.k8s.io/v1/events?labelSelector=testevent={space}"))["items"]) == 1
    other = ok(await api.get(f"{core}/event-test"))
    assert (other["message"], other["involvedObject"]["name"]) == ("This is a test event", "p")
    series = {"count": 2, "lastObservedTime": "2014-09-19T13:49:16.000000Z"}
    patched = ok(await api.patch(f"{new}/event-test", {"series": series}, "strategic"))
    assert patched["series"] == series
    patched["series"] = {"count": 100, "lastObservedTime": "2014-09-19T13:50:16.000000Z"}
    assert ok(await api.put(f"{new}/event-test", patched))["series"]["count"] == 100
    message = {"message": "This is a test event - patched"}
    assert ok(await api.patch(f"{core}/event-test", message, "strategic"))["message"] == message["message"]
    assert ok(await api.get(f"{new}/event-test"))["note"] == message["message"]
    ok(await api.delete(f"{core}?labelSelector=testevent={space}"))
    assert ok(await api.get(new))["items"] == []


async def test_runtime_classes_reject_and_set_overhead(api: Api, space: str) -> None:
    path, pods = "/apis/node.k8s.io/v1/runtimeclasses", f"/api/v1/namespaces/{space}/pods"
    refused = await api.post(pods, pod("p", runtimeClassName="nope"))
    assert refused.failure[0] == 403
    overhead = {"podFixed": {"cpu": "10m", "memory": "1Mi"}}
    ok(await api.post(path, {"metadata": {"name": space}, "handler": "runc", "overhead": overhead}), 201)
    made = ok(await api.post(pods, pod("p", runtimeClassName=space)), 201)
    assert made["spec"]["overhead"] == overhead["podFixed"]
    ok(await api.delete(f"{path}/{space}"))
    assert (await api.post(pods, pod("q", runtimeClassName=space))).failure[0] == 403


async def test_priority_classes_keep_their_value(api: Api) -> None:
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    ok(await api.post(path, {"metadata": {"name": "p1"}, "value": 1}), 201)
    ok(await api.patch(f"{path}/p1", {"description": "updated"}))
    refused = await api.patch(f"{path}/p1", {"value": 2})
    assert refused.failure[:2] == (422, "Invalid")
    assert "may not be changed in an update." in refused.failure[2]
    assert ok(await api.get(f"{path}/p1"))["value"] == 1
    ok(await api.delete(f"{path}/p1"))


async def test_limit_ranges_default_and_bound_pods(api: Api, space: str) -> None:
    path, pods = f"/api/v1/namespaces/{space}/limitranges", f"/api/v1/namespaces/{space}/pods"
    limit = {
        "type": "Container",
        "min": {"cpu": "50m", "memory": "100Mi", "ephemeral-storage": "100Gi"},
        "max": {"cpu": "500m", "memory": "500Mi", "ephemeral-storage": "500Gi"},
        "default": {"cpu": "500m", "memory": "500Mi", "ephemeral-storage": "500Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi", "ephemeral-storage": "200Gi"},
    }
    ok(await api.post(path, {"metadata": {"name": "limits"}, "spec": {"limits": [limit]}}), 201)
    # Admission goes by what the server has heard of, as upstream's does; a read waits for all that was written before.
    assert ok(await api.get(f"{path}/limits"))["spec"]["limits"] == [limit]
    made = ok(await api.post(pods, pod("pod-no-resources")), 201)["spec"]["containers"][0]["resources"]
    assert made == {"requests": limit["defaultRequest"], "limits": limit["default"]}
    partial = pod("pod-partial")
    partial["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "150m"}, "limits": {"cpu": "300m"}}
    made = ok(await api.post(pods, partial), 201)["spec"]["containers"][0]["resources"]
    assert made["requests"]["cpu"] == "150m"
    assert made["limits"] == {**limit["default"], "cpu": "300m"}
    for requests in ({"cpu": "10m"}, {"cpu": "600m"}):
        refused = pod("refused")
        refused["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": requests}
        assert (await api.post(pods, refused)).failure[0] == 403
    ok(await api.patch(f"{path}/limits", {"spec": {"limits": [{**limit, "min": {"cpu": "9m"}}]}}))
    assert ok(await api.get(f"{path}/limits"))["spec"]["limits"][0]["min"] == {"cpu": "9m"}
    allowed = pod("allowed")
    allowed["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "10m"}}
    ok(await api.post(pods, allowed), 201)
    ok(await api.delete(f"{path}/limits"))
    await gone(api, f"{path}/limits")
    assert ok(await api.post(pods, pod("free")), 201)["spec"]["containers"][0]["resources"] == {}


async def test_status_of_claims_volumes_and_attachments(api: Api, space: str) -> None:
    claims = f"/api/v1/namespaces/{space}/persistentvolumeclaims"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = ok(await api.post(claims, {"metadata": {"name": "c"}, "spec": spec}), 201)
    assert made["status"]["phase"] == "Pending"
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    condition = {"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
    body = {"metadata": {"annotations": {"x": "y"}}, "status": {"conditions": [condition]}}
    patched = ok(await api.patch(f"{claims}/c/status", body))
    assert patched["status"]["conditions"][0]["reason"] == "E2E"
    patched["status"]["conditions"].append({**condition, "type": "StatusUpdated"})
    assert len(ok(await put(api, f"{claims}/c/status", patched))["status"]["conditions"]) == 2
    ok(await api.delete(f"{claims}/c"))
    await gone(api, f"{claims}/c")

    source = {"driver": "e2e.example.com", "volumeHandle": "e2e-conformance"}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": source}
    volume = f"/api/v1/persistentvolumes/pv-{space}"
    made = ok(await api.post("/api/v1/persistentvolumes", {"metadata": {"name": f"pv-{space}"}, "spec": spec}), 201)
    assert made["status"]["phase"] == "Pending"
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    # Whoever binds volumes has seen it, and writes no more.
    await eventually(lambda: api.get(volume), lambda answer: answer.json["status"]["phase"] == "Available")
    body = {"status": {"message": "StatusPatched", "reason": "E2E patchStatus"}}
    patched = ok(await api.patch(f"{volume}/status", body))
    assert (patched["status"]["message"], patched["status"]["reason"]) == ("StatusPatched", "E2E patchStatus")
    patched["status"]["message"] = "StatusUpdated"
    assert ok(await put(api, f"{volume}/status", patched))["status"]["message"] == "StatusUpdated"
    ok(await api.delete(volume))
    await gone(api, volume)

    path = "/apis/storage.k8s.io/v1/volumeattachments"
    spec = {"attacher": "e2e.example.com", "nodeName": "n", "source": {"persistentVolumeName": f"pv-{space}"}}
    made = ok(await api.post(path, {"metadata": {"name": space}, "spec": spec}), 201)
    assert made["status"] == {"attached": False}
    assert ok(await api.patch(f"{path}/{space}/status", {"status": {"attached": True}}))["status"]["attached"] is True
    read = ok(await api.get(f"{path}/{space}/status"))
    read["status"]["attached"] = False
    assert ok(await put(api, f"{path}/{space}/status", read))["status"] == {"attached": False}
    ok(await api.delete(f"{path}/{space}"))


async def test_approval_and_status_of_certificate_requests(api: Api, request_pem: str) -> None:
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    spec = {"request": request_pem, "signerName": "example.com/e2e", "usages": ["digital signature"]}
    made = ok(await api.post(path, {"metadata": {"generateName": "e2e-"}, "spec": spec}), 201)
    one = f"{path}/{made['metadata']['name']}"
    condition = {"type": "ApprovalPatch", "status": "True", "reason": "ApprovalPatch", "message": "x"}
    body = {"metadata": {"annotations": {"patchedapproval": "true"}}, "status": {"conditions": [condition]}}
    patched = ok(await api.patch(f"{one}/approval", body))
    assert [c["type"] for c in patched["status"]["conditions"]] == ["ApprovalPatch"]
    read = ok(await api.get(f"{one}/approval"))
    read["status"]["conditions"].append({**condition, "type": "Approved", "reason": "E2E"})
    approved = ok(await put(api, f"{one}/approval", read))
    assert [c["type"] for c in approved["status"]["conditions"]] == ["ApprovalPatch", "Approved"]
    body = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"certificate": None}}
    patched = ok(await api.patch(f"{one}/status", body))
    patched["status"]["conditions"].append({**condition, "type": "StatusUpdate"})
    updated = ok(await put(api, f"{one}/status", patched))
    assert [c["type"] for c in updated["status"]["conditions"]][-1] == "StatusUpdate"
    ok(await api.delete(one))


async def test_pod_templates_in_a_collection(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/podtemplates"
    for i in (1, 2, 3):
        body = {"metadata": {"name": f"t{i}", "labels": {"podtemplate-set": "true"}}, "template": template({})}
        ok(await api.post(path, body), 201)
    ok(await api.patch(f"{path}/t1", {"metadata": {"labels": {"podtemplate": "patched"}}}, "strategic"))
    assert len(ok(await api.get(f"{path}?labelSelector=podtemplate-set=true"))["items"]) == 3
    ok(await api.delete(f"{path}?labelSelector=podtemplate-set=true"))
    assert ok(await api.get(path))["items"] == []
