"""A cluster of one address family that becomes one of two, as people see it with their Services."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess

SERVICES = "/api/v1/namespaces/default/services"
PORTS = [{"port": 80}]
IPV4, IPV6 = "10.96.0.0/16", "fd00:96::/108"


async def _make(api: Api, name: str, **spec: object) -> dict[str, object]:
    made = await api.post(SERVICES, {"metadata": {"name": name}, "spec": {"ports": PORTS, **spec}})
    assert made.status == 201, made.raw
    return made.json["spec"]  # type: ignore[no-any-return]


async def test_a_cluster_gets_its_second_family(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, f"--service-cluster-ip-range={IPV4}")
    await asyncio.to_thread(server.start)
    try:
        async with Api(server.kubeconfig) as api:
            await _make(api, "preferred", ipFamilyPolicy="PreferDualStack")
            refused = await api.post(
                SERVICES, {"metadata": {"name": "no"}, "spec": {"ports": PORTS, "ipFamilyPolicy": "RequireDualStack"}}
            )
            assert refused.status == 422
    finally:
        server.kill()
    server = ServerProcess(tmp_path, f"--service-cluster-ip-range={IPV4},{IPV6}")
    await asyncio.to_thread(server.start)
    try:
        async with Api(server.kubeconfig) as api:
            cidr = (await api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes")).json
            assert cidr["spec"]["cidrs"] == [IPV4, IPV6]
            assert (await api.get(f"{SERVICES}/preferred")).json["spec"]["ipFamilies"] == ["IPv4"]
            both = await api.patch(f"{SERVICES}/preferred", {"spec": {"ipFamilyPolicy": "RequireDualStack"}})
            assert both.status == 200, both.raw
            first, second = both.json["spec"]["clusterIPs"]
            held = (await api.get(f"/apis/networking.k8s.io/v1/ipaddresses/{second}")).json
            assert held["spec"]["parentRef"]["name"] == "preferred"
            assert held["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] == "IPv6"
            single = await api.patch(f"{SERVICES}/preferred", {"spec": {"ipFamilyPolicy": "SingleStack"}})
            assert single.json["spec"]["clusterIPs"] == [first]
            assert (await api.get(f"/apis/networking.k8s.io/v1/ipaddresses/{second}")).status == 404
            # A range of its own for one family, used as soon as it is ready.
            more = {"metadata": {"name": "more"}, "spec": {"cidrs": ["fd00:97::/112"]}}
            assert (await api.post("/apis/networking.k8s.io/v1/servicecidrs", more)).status == 201
            await api.patch(
                "/apis/networking.k8s.io/v1/servicecidrs/more/status",
                {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "",
                                            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}},
            )  # fmt: skip
            spec = await _make(api, "there", clusterIP="fd00:97::99")
            assert spec["ipFamilies"] == ["IPv6"]
    finally:
        server.kill()
