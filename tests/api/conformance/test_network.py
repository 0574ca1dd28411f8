"""sig-network and sig-node: what of Services, Endpoints, Nodes and Pods needs no container."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conformance.cases import eventually, gone, ok, pod, put, watching, when
from tests.api.conformance.host import Host
from tests.api.server.api import Api


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80}]
    return {"metadata": {"name": name, "labels": {"e2e": name}}, "spec": {"ports": ports, **spec}}


async def test_the_status_lifecycle_of_a_service(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/services"
    async with watching(api, f"{path}?labelSelector=e2e=s") as seen:
        ok(await api.post(path, service("s", type="LoadBalancer")), 201)
        await seen.saw("ADDED")
        assert ok(await api.get(f"{path}/s/status"))["status"] == {"loadBalancer": {}}
        ingress = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
        body = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": ingress}
        patched = ok(await api.patch(f"{path}/s/status", body))
        assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
        assert patched["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1"
        await seen.saw("MODIFIED", lambda s: s["status"]["loadBalancer"].get("ingress"))
        condition = {
            "type": "StatusUpdate",
            "status": "True",
            "reason": "E2E",
            "message": "Set from e2e test",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        patched["status"]["conditions"] = [condition]
        ok(await api.put(f"{path}/s/status", patched))
        await seen.saw("MODIFIED", lambda s: (s["status"].get("conditions") or [{}])[0].get("reason") == "E2E")
        ok(await api.patch(f"{path}/s", {"metadata": {"labels": {"test-service": "patched"}}}, "strategic"))
        await seen.saw("MODIFIED", lambda s: s["metadata"]["labels"].get("test-service") == "patched")
        ok(await api.delete(f"{path}/s"))
        await seen.saw("DELETED")
    for name in ("a", "b", "c"):
        made = service(name)
        made["metadata"]["labels"]["deletable"] = "no" if name == "c" else "yes"
        ok(await api.post(path, made), 201)
    ok(await api.delete(f"{path}?labelSelector=deletable=yes"))
    left = ok(await api.get(path))["items"]
    assert [one["metadata"]["name"] for one in left] == ["c"]
    everywhere = ok(await api.get("/api/v1/services"))["items"]
    assert ("default", "kubernetes") in {(o["metadata"]["namespace"], o["metadata"]["name"]) for o in everywhere}


async def test_the_type_of_a_service_changes(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/services"
    ok(await api.post(path, service("s", type="NodePort")), 201)
    read = ok(await api.get(f"{path}/s"))
    address, port = read["spec"]["clusterIP"], read["spec"]["ports"][0]["nodePort"]
    read["spec"] |= {"type": "ExternalName", "externalName": "foo.example.com"}
    del read["spec"]["clusterIP"], read["spec"]["clusterIPs"]
    external = ok(await api.put(f"{path}/s", read))["spec"]
    assert "clusterIP" not in external
    assert "nodePort" not in external["ports"][0]
    ok(await api.post(path, service("other", type="NodePort", clusterIP=address)), 201)  # both are free again
    external_object = ok(await api.get(f"{path}/s"))
    external_object["spec"] |= {"type": "NodePort", "externalName": ""}
    again = ok(await api.put(f"{path}/s", external_object))["spec"]
    assert again["clusterIP"] not in ("", address)
    assert 30000 <= again["ports"][0]["nodePort"] <= 32767
    assert port
    # As Go clients send it: what is empty is left out, what they know nothing of stays.
    as_read = ok(await api.get(f"{path}/s"))
    as_read["spec"] |= {"type": "ExternalName", "externalName": "foo.example.com"}
    del as_read["spec"]["clusterIP"], as_read["spec"]["ports"][0]["nodePort"]
    external = ok(await api.put(f"{path}/s", as_read))["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"} & external.keys()
    ok(await api.patch(f"{path}/s", {"spec": {"type": "ClusterIP", "externalName": None}}))
    for affinity in ("ClientIP", "None"):
        changed = ok(await api.patch(f"{path}/s", {"spec": {"sessionAffinity": affinity}}))["spec"]
        assert changed["sessionAffinity"] == affinity
        assert ("sessionAffinityConfig" in changed) == (affinity == "ClientIP")


async def test_the_lifecycle_of_endpoints(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/endpoints"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices"
    subsets = [{"addresses": [{"ip": "198.51.100.1"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]
    body = {"metadata": {"name": "e", "labels": {"test-endpoint-static": "true"}}, "subsets": subsets}
    ok(await api.post(f"/api/v1/namespaces/{space}/services", service("e")), 201)
    async with watching(api, f"{path}?labelSelector=test-endpoint-static=true") as seen:
        made = ok(await api.post(path, body), 201)
        await seen.saw("ADDED")
        found = ok(await api.get("/api/v1/endpoints?labelSelector=test-endpoint-static=true"))["items"]
        assert len(found) == 1
        made["metadata"]["labels"]["foo"] = "bar"
        ok(await api.put(f"{path}/e", made))
        await seen.saw("MODIFIED", lambda e: e["metadata"]["labels"].get("foo") == "bar")

        async def mirrored() -> list[Any]:
            listed = ok(await api.get(f"{slices}?labelSelector=kubernetes.io/service-name=e"))["items"]
            return [one for each in listed for endpoint in each["endpoints"] for one in endpoint["addresses"]]

        await eventually(mirrored, lambda ips: ips == ["198.51.100.1"])
        changed = [{"addresses": [{"ip": "198.51.100.2"}], "ports": [{"name": "http-test", "port": 8080}]}]
        ok(await api.patch(f"{path}/e", {"metadata": {"labels": {"x": "patched"}}, "subsets": changed}))
        await seen.saw("MODIFIED", lambda e: e["metadata"]["labels"].get("x") == "patched")
        await eventually(mirrored, lambda ips: ips == ["198.51.100.2"])
        ok(await api.delete(f"{path}?labelSelector=test-endpoint-static=true"))
        await seen.saw("DELETED")
        await eventually(mirrored, lambda ips: ips == [])


async def test_endpoints_follow_pods_and_ports(api: Api, space: str, running: Host) -> None:
    services, pods = f"/api/v1/namespaces/{space}/services", f"/api/v1/namespaces/{space}/pods"
    ports = [{"name": f"p{n}", "port": n, "targetPort": f"t{n}"} for n in (80, 81)]
    ok(await api.post(services, service("multi", selector={"a": "b"}, ports=ports)), 201)
    await when(api, f"/api/v1/namespaces/{space}/endpoints/multi", lambda e: e and not e.get("subsets"))

    def shows(wanted: set[tuple[str, int]]) -> Any:
        def good(found: Any) -> bool:
            pairs = {
                (address["targetRef"]["name"], port["port"])
                for subset in found.get("subsets") or ()
                for address in subset.get("addresses") or ()
                for port in subset["ports"]
            }
            return pairs == wanted

        return good

    for name, port in (("one", 80), ("two", 81)):
        made = pod(name, metadata={"labels": {"a": "b"}})
        made["spec"]["containers"][0]["ports"] = [{"name": f"t{port}", "containerPort": port + 20}]
        ok(await api.post(pods, made), 201)
    path = f"/api/v1/namespaces/{space}/endpoints/multi"
    await when(api, path, shows({("one", 100), ("two", 101)}))
    found = ok(await api.get(f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices"))["items"]
    assert {s["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] for s in found} == {
        "endpointslice-controller.k8s.io"
    }
    ok(await api.delete(f"{pods}/one", {"gracePeriodSeconds": 0}))
    await when(api, path, shows({("two", 101)}))
    ok(await api.delete(f"{services}/multi"))
    await gone(api, path)
    await eventually(
        lambda: api.get(f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices"), lambda a: not a.json["items"]
    )


async def test_the_lifecycle_of_a_node(api: Api) -> None:
    path = "/api/v1/nodes"
    body = {"metadata": {"name": "e2e-fake-node", "labels": {"e2e": "fake"}}}
    ok(await api.post(path, body), 201)
    one = f"{path}/e2e-fake-node"
    ok(await api.patch(one, {"metadata": {"labels": {"e2e-patched": "true"}}}, "strategic"))
    assert len(ok(await api.get(f"{path}?labelSelector=e2e-patched=true"))["items"]) == 1

    async def update() -> bool:
        read = ok(await api.get(one))
        read["metadata"]["labels"]["e2e-updated"] = "true"
        return (await api.put(one, read)).status == 200

    await eventually(update, bool)
    ok(await api.delete(one))
    await gone(api, one)


# -- Pods


async def test_pods_are_submitted_updated_and_removed(api: Api, space: str, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    async with watching(api, f"{path}?labelSelector=time=now") as seen:
        made = ok(await api.post(path, pod("p", metadata={"labels": {"time": "now"}})), 201)
        assert made["status"]["phase"] == "Pending"
        assert made["status"]["qosClass"] == "BestEffort"
        await seen.saw("ADDED")
        await seen.saw("MODIFIED", lambda p: p["status"]["phase"] == "Running")
        ok(await api.patch(f"{path}/p", {"spec": {"activeDeadlineSeconds": 5000}}))
        refused = await api.patch(f"{path}/p", {"spec": {"activeDeadlineSeconds": 6000}})
        assert refused.failure[:2] == (422, "Invalid")
        ok(await api.patch(f"{path}/p", {"spec": {"activeDeadlineSeconds": 5}}))
        ok(await api.delete(f"{path}/p", {"gracePeriodSeconds": 30}))
        await seen.saw("MODIFIED", lambda p: p["metadata"].get("deletionGracePeriodSeconds") == 30)
        await seen.saw("DELETED")
    assert ok(await api.get(f"{path}?labelSelector=time=now"))["items"] == []
    for name in ("a", "b", "c"):
        ok(await api.post(path, pod(name, metadata={"labels": {"type": "Testing"}})), 201)
    ok(await api.delete(f"{path}?labelSelector=type=Testing", {"gracePeriodSeconds": 1}))
    await eventually(lambda: api.get(path), lambda a: not a.json["items"])


async def test_the_status_of_a_pod_is_patched(api: Api, space: str, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    ok(await api.post(path, pod("p")), 201)
    await when(api, f"{path}/p", lambda p: p["status"]["phase"] == "Running")
    condition = {"type": "StatusPatched", "status": "True", "message": "Patched by e2e test", "reason": "E2E"}
    body = {"metadata": {"annotations": {"a": "b"}, "labels": {"x": "y"}}, "status": {"conditions": [condition]}}
    patched = ok(await api.patch(f"{path}/p/status", body, "strategic"))
    assert patched["metadata"]["annotations"]["a"] == "b"
    kinds = {c["type"]: c for c in patched["status"]["conditions"]}
    assert kinds["StatusPatched"]["reason"] == "E2E"
    assert "Ready" in kinds
    assert ok(await api.get(f"{path}/p/status"))["status"]["phase"] == "Running"


async def test_ephemeral_containers_are_added_and_stay(api: Api, space: str, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    ok(await api.post(path, pod("p")), 201)
    await when(api, f"{path}/p", lambda p: p["status"]["phase"] == "Running")
    first = {"name": "debugger", "image": "busybox", "command": ["/bin/sh"], "stdin": True, "tty": True}
    body = {"spec": {"ephemeralContainers": [first]}}
    patched = ok(await api.patch(f"{path}/p/ephemeralcontainers", body, "strategic"))
    assert [one["name"] for one in patched["spec"]["ephemeralContainers"]] == ["debugger"]

    async def update() -> Any:
        read = ok(await api.get(f"{path}/p/ephemeralcontainers"))
        read["spec"]["ephemeralContainers"].append({**first, "name": "debugger2"})
        return await api.put(f"{path}/p/ephemeralcontainers", read)

    updated = await eventually(update, lambda answer: answer.status == 200)
    assert [one["name"] for one in updated.json["spec"]["ephemeralContainers"]] == ["debugger", "debugger2"]
    removed = ok(await api.get(f"{path}/p"))
    removed["spec"]["ephemeralContainers"] = []
    assert (await put(api, f"{path}/p/ephemeralcontainers", removed)).failure[:2] == (422, "Invalid")


@pytest.mark.parametrize(
    ("requests", "limits", "wanted"),
    [
        ({"cpu": "100m", "memory": "100Mi"}, {"cpu": "100m", "memory": "100Mi"}, "Guaranteed"),
        ({"cpu": "100m"}, {}, "Burstable"),
        ({}, {}, "BestEffort"),
    ],
)
async def test_the_qos_class_of_a_pod(api: Api, space: str, requests: Any, limits: Any, wanted: str) -> None:
    made = pod("p")
    made["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": limits}
    created = ok(await api.post(f"/api/v1/namespaces/{space}/pods", made), 201)
    assert created["status"]["qosClass"] == wanted


async def test_invalid_sysctls_are_rejected(api: Api, space: str) -> None:
    sysctls = [{"name": name, "value": "1"} for name in ("foo-", "kernel.shmmax", "safe-and-unsafe", "bar..", "42")]
    refused = await api.post(f"/api/v1/namespaces/{space}/pods", pod("p", securityContext={"sysctls": sysctls}))
    assert refused.failure[:2] == (422, "Invalid")
    text = refused.failure[2]
    for name in ("foo-", "bar.."):
        assert f'Invalid value: "{name}"' in text
    assert 'Invalid value: "safe-and-unsafe"' not in text
    assert 'Invalid value: "kernel.shmmax"' not in text
