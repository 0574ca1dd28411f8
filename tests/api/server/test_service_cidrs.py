"""A second ServiceCIDR extends the addresses of Services, as users of kubectl see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE

CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
SERVICES = "/api/v1/namespaces/default/services"


def service(name: str, **spec: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def ready(api: Api, name: str) -> tuple[str, str]:
    for one in ((await api.get(f"{CIDRS}/{name}")).json.get("status") or {}).get("conditions") or ():
        return one["status"], one["reason"]
    return "", ""


@pytest.mark.timeout(120)
async def test_a_second_range_is_used_and_kept_while_it_is(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--service-cluster-ip-range=10.96.0.0/29")
    await asyncio.to_thread(server.start)
    try:
        async with Api(server.kubeconfig) as api:
            made = 0
            while (await api.post(SERVICES, service(f"s-{made}"))).status == 201:
                made += 1
            assert made == 5  # of six usable addresses one is the kubernetes Service's
            outside = await api.post(SERVICES, service("chosen", clusterIP="10.97.0.9"))
            assert (
                "failed to allocate IP 10.97.0.9: the provided network does not match the current range"
                in (outside.json["message"])
            )
            assert (
                await api.post(CIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/24"]}})
            ).status == 201
            async with asyncio.timeout(PATIENCE):
                while await ready(api, "more") != ("True", ""):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            assert (await api.post(SERVICES, service("chosen", clusterIP="10.97.0.9"))).status == 201
            address = (await api.post(SERVICES, service("next"))).json["spec"]["clusterIP"]
            assert address.startswith("10.97.0.")
            shown = (await api.get(f"{CIDRS}/more", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
            assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", "CIDRs", "Age"]
            assert shown["rows"][0]["cells"][:2] == ["more", "10.97.0.0/24"]
            assert (await api.delete(f"{CIDRS}/more")).status == 200
            async with asyncio.timeout(PATIENCE):
                while await ready(api, "more") != ("False", "Terminating"):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            assert (await api.post(SERVICES, service("late"))).status == 500  # no new address of what is going
            for name in ("chosen", "next"):
                assert (await api.delete(f"{SERVICES}/{name}")).status == 200
            async with asyncio.timeout(PATIENCE):
                while (await api.get(f"{CIDRS}/more")).status != 404:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.2)
    finally:
        server.kill()
