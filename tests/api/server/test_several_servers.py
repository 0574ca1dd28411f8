"""Several servers on one etcd: one cluster, whichever is asked, and also when one of them dies."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orca.auth.pki import ensure_pki
from orca.server.peers import CLUSTERS, SERVERS, WrongCluster, agree
from orca.store import Store
from orca.store.answers import key_of
from orca.store.etcd import Etcd
from tests.api.server.api import Api
from tests.api.server.definitions import CRDS, crontab, establish
from tests.api.server.process import ServerProcess
from tests.api.server.test_custom_resources import one as custom
from tests.support.etcd import PrivateEtcd, private_etcd
from tests.support.patience import PATIENCE
from tests.support.servers import give_keys, servers_on

MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
ADDRESSES = "/apis/networking.k8s.io/v1/ipaddresses"


@pytest.fixture(scope="module")
async def etcd() -> AsyncIterator[PrivateEtcd]:
    async with private_etcd() as running:
        yield running


@pytest.fixture(scope="module")
async def pair(etcd: PrivateEtcd) -> AsyncIterator[list[ServerProcess]]:
    narrow = ["--no-controllers", "--service-cluster-ip-range=10.96.0.0/24", "--service-node-port-range=30000-30099"]
    async with servers_on(etcd.endpoint, 2, *narrow) as servers:
        async with Api(servers[0].kubeconfig) as one:
            await one.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        yield servers


@pytest.fixture
async def apis(pair: list[ServerProcess]) -> AsyncIterator[tuple[Api, Api]]:
    async with Api(pair[0].kubeconfig) as one, Api(pair[1].kubeconfig) as other:
        yield one, other


async def test_a_token_counts_at_once_elsewhere(pair: list[ServerProcess], apis: tuple[Api, Api]) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    myself = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    for number in range(10):
        name = f"caller-{number}"
        assert (await apis[0].post(accounts, {"metadata": {"name": name}})).status == 201
        made = await apis[0].post(f"{accounts}/{name}/token", {"spec": {}})
        headers = {"Authorization": f"Bearer {made.json['status']['token']}"}
        async with Api(pair[1].kubeconfig, anonymous=True) as caller:
            assert (await caller.post(myself, {}, **headers)).status == 201


async def test_a_read_right_after_a_write_elsewhere_sees_it(apis: tuple[Api, Api]) -> None:
    for number in range(100):
        writer, reader = apis[number % 2], apis[1 - number % 2]
        name = f"seen-{number}"
        assert (await writer.post(MAPS, {"metadata": {"name": name}})).status == 201
        assert (await reader.get(f"{MAPS}/{name}")).status == 200
        assert (await writer.patch(f"{MAPS}/{name}", {"data": {"n": str(number)}})).status == 200
        listed = (await reader.get(f"{MAPS}?fieldSelector=metadata.namespace=default")).json["items"]
        assert {item["metadata"]["name"]: item.get("data") for item in listed}[name] == {"n": str(number)}
        assert (await writer.delete(f"{MAPS}/{name}")).status == 200
        assert (await reader.get(f"{MAPS}/{name}")).status == 404


async def test_a_kind_defined_through_one_is_served_by_both_at_once(apis: tuple[Api, Api]) -> None:
    for number in range(6):
        writer, reader = apis[number % 2], apis[1 - number % 2]
        group = f"g{number}.several.example.com"
        definition = crontab(group)
        await establish(writer, definition)
        path = f"/apis/{group}/v1/namespaces/default/crontabs"
        assert (await reader.post(path, custom(group))).status == 201
        assert (await writer.get(f"{path}/a")).json["spec"]["replicas"] == 1
        assert (await reader.delete(f"{CRDS}/crontabs.{group}")).status == 200
        async with asyncio.timeout(PATIENCE):
            while (await writer.get(f"{CRDS}/crontabs.{group}")).status != 404:  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.02)
        assert [(await api.get(path)).status for api in apis] == [404, 404]


async def test_watches_on_both_deliver_the_same_bytes_in_the_same_order(apis: tuple[Api, Api]) -> None:
    since = (await apis[0].get(MAPS)).json["metadata"]["resourceVersion"]
    path = f"{MAPS}?watch=1&resourceVersion={since}&labelSelector=kept=yes"
    count = 8 * 10 * 3
    following = [asyncio.create_task(api.events(path, count)) for api in apis]

    async def write(number: int) -> None:
        api, name = apis[number % 2], f"same-{number}"
        for _ in range(10):
            body = {"metadata": {"name": name, "labels": {"kept": "yes"}}}
            assert (await api.post(MAPS, body)).status == 201
            assert (await api.patch(f"{MAPS}/{name}", {"data": {"a": "b"}})).status == 200
            assert (await api.delete(f"{MAPS}/{name}")).status == 200

    await asyncio.gather(*(write(number) for number in range(8)))
    first, second = await asyncio.gather(*following)
    assert first == second
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in first]
    assert versions == sorted(set(versions))


async def test_fifty_writers_through_both_lose_no_update(apis: tuple[Api, Api]) -> None:
    assert (await apis[0].post(MAPS, {"metadata": {"name": "counter"}, "data": {"n": "0"}})).status == 201

    async def increment(api: Api) -> None:
        while True:
            held = (await api.get(f"{MAPS}/counter")).json
            held["data"]["n"] = str(int(held["data"]["n"]) + 1)
            answer = await api.put(f"{MAPS}/counter", held)
            if answer.status == 200:
                return
            assert answer.failure[:2] == (409, "Conflict")

    await asyncio.gather(*(increment(apis[number % 2]) for number in range(50)))
    for api in apis:
        assert (await api.get(f"{MAPS}/counter")).json["data"]["n"] == "50"


async def test_addresses_and_ports_are_handed_out_once(apis: tuple[Api, Api]) -> None:
    async def make(number: int) -> tuple[str, str, int]:
        spec = {"type": "NodePort", "ports": [{"port": 80}]}
        made = await apis[number % 2].post(SERVICES, {"metadata": {"name": f"s{number}"}, "spec": spec})
        assert made.status == 201, made.raw
        spec = made.json["spec"]
        return made.json["metadata"]["name"], spec["clusterIP"], spec["ports"][0]["nodePort"]

    made = await asyncio.gather(*(make(number) for number in range(90)))  # of 100 node ports
    assert len({address for _, address, _ in made}) == 90
    assert len({port for _, _, port in made}) == 90
    for name, address, _ in made:
        held = (await apis[0].get(f"{ADDRESSES}/{address}")).json
        assert held["spec"]["parentRef"] == {
            "group": "",
            "resource": "services",
            "namespace": "default",
            "name": name,
        }
        assert held["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"] == "ipallocator.k8s.io"

    # Eight ask for the same free address and port through both: one gets them.
    name, address, port = made[0]
    assert (await apis[0].delete(f"{SERVICES}/{name}")).status == 200
    assert (await apis[1].get(f"{ADDRESSES}/{address}")).status == 404
    wanted = {"type": "NodePort", "clusterIP": address, "ports": [{"port": 80, "nodePort": port}]}
    answers = await asyncio.gather(
        *(apis[n % 2].post(SERVICES, {"metadata": {"name": f"w{n}"}, "spec": wanted}) for n in range(8))
    )
    assert sorted(answer.status for answer in answers) == [201] + [422] * 7
    assert all(
        "provided IP is already allocated" in answer.json["message"] for answer in answers if answer.status > 201
    )

    # What a Service gives up is free at once, on the other server too.
    winner = next(answer.json["metadata"]["name"] for answer in answers if answer.status == 201)
    gone = await apis[0].patch(f"{SERVICES}/{winner}", {"spec": {"type": "ClusterIP"}})
    assert "nodePort" not in gone.json["spec"]["ports"][0]
    spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}
    assert (await apis[1].post(SERVICES, {"metadata": {"name": "next"}, "spec": spec})).status == 201
    for item in (await apis[0].get(SERVICES)).json["items"]:
        if item["metadata"]["name"] != "kubernetes":
            await apis[1].delete(f"{SERVICES}/{item['metadata']['name']}")
    left = [one["metadata"]["name"] for one in (await apis[0].get(ADDRESSES)).json["items"]]
    assert left == ["10.96.0.1"]


async def test_eight_writers_never_exceed_a_quota(apis: tuple[Api, Api]) -> None:
    quotas = "/api/v1/namespaces/default/resourcequotas"
    assert (
        await apis[0].post(
            quotas, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "20", "requests.cpu": "1500m"}}}
        )
    ).status == 201
    pods = "/api/v1/namespaces/default/pods"
    refused = 0

    async def write(number: int) -> None:
        nonlocal refused
        resources = {"requests": {"cpu": "100m"}}
        for attempt in range(10):
            body = {
                "metadata": {"name": f"p-{number}-{attempt}"},
                "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]},
            }
            answer = await apis[(number + attempt) % 2].post(pods, body)
            if answer.status != 201:
                assert answer.failure[0] == 403
                assert (
                    "exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=1500m"
                    in answer.json["message"]
                )
                refused += 1

    await asyncio.gather(*(write(number) for number in range(8)))
    listed = (await apis[1].get(pods)).json["items"]
    assert (len(listed), refused) == (15, 65)  # all that fits, and not one more
    status = (await apis[0].get(f"{quotas}/q")).json["status"]
    assert status == {"hard": {"pods": "20", "requests.cpu": "1500m"}, "used": {"pods": "15", "requests.cpu": "1500m"}}
    # A place that becomes free is taken once.
    await apis[0].delete(f"{pods}/{listed[0]['metadata']['name']}?gracePeriodSeconds=0")
    again = [{"metadata": {"name": f"again-{n}"}, "spec": listed[0]["spec"]} for n in range(8)]
    answers = await asyncio.gather(*(apis[n % 2].post(pods, again[n]) for n in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [403] * 7
    await apis[0].delete(f"{quotas}/q")


async def test_a_disruption_budget_is_spent_once(apis: tuple[Api, Api]) -> None:
    root = "/api/v1/namespaces/default/pods"
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    for number in range(8):
        metadata = {"name": f"guarded-{number}", "labels": {"app": "guarded"}}
        body = {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        assert (await apis[0].post(root, body)).status == 201
        ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        assert (await apis[0].patch(f"{root}/guarded-{number}/status", ready)).status == 200
    spec = {"minAvailable": 6, "selector": {"matchLabels": {"app": "guarded"}}}
    made = await apis[0].post(budgets, {"metadata": {"name": "guard"}, "spec": spec})
    assert made.status == 201, made.raw
    status = {"observedGeneration": 1, "disruptionsAllowed": 2, "currentHealthy": 8, "desiredHealthy": 6}
    told = await apis[0].patch(f"{budgets}/guard/status", {"status": {**status, "expectedPods": 8}})
    assert told.status == 200, told.raw
    evictions = [
        apis[number % 2].post(f"{root}/guarded-{number}/eviction", {"metadata": {"name": f"guarded-{number}"}})
        for number in range(8)
    ]
    answers = await asyncio.gather(*evictions)
    assert sorted(answer.status for answer in answers) == [201, 201] + [429] * 6
    left = (await apis[1].get(f"{budgets}/guard")).json["status"]
    assert (left["disruptionsAllowed"], len(left["disruptedPods"])) == (0, 2)


def test_a_server_of_another_cluster_is_refused(pair: list[ServerProcess], etcd: PrivateEtcd, tmp_path: Path) -> None:
    def refused(*flags: str) -> str:
        command = ServerProcess(tmp_path, f"--etcd-servers={etcd.endpoint}", *flags).command()
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert ended.returncode == 1
        return ended.stderr.splitlines()[-1]

    said = refused()
    assert "has keys and certificates already" in said
    assert "copy ca.crt, ca.key, front-proxy-ca.crt, front-proxy-ca.key, sa.key, sa.pub" in said
    assert not (tmp_path / "data" / "pki" / "ca.key").exists()
    give_keys(pair[0].directory, tmp_path)
    said = refused("--service-cluster-ip-range=10.97.0.0/16")
    assert "--service-cluster-ip-range is 10.97.0.0/16, but 10.96.0.0/24 on the other servers" in said
    for name in ("sa.key", "sa.pub"):
        (tmp_path / "data" / "pki" / name).unlink()
    assert "lacks sa.key" in refused()
    (tmp_path / "data" / "pki" / "sa.key").write_bytes((pair[0].directory / "data/pki/ca.key").read_bytes())


async def test_servers_that_add_the_second_family_at_the_same_moment(tmp_path: Path) -> None:
    both = "10.96.0.0/16,fd00:96::/108"
    pki = ensure_pki(tmp_path, ("127.0.0.1",))
    async with private_etcd() as own:
        stores = [Store(own.endpoint, shared=True) for _ in range(4)]
        try:
            for store in stores:
                await store.start()
            await asyncio.gather(*(agree(store, pki, "10.96.0.0/16") for store in stores))
            await asyncio.gather(*(agree(store, pki, both) for store in stores))
            held = (await stores[0].get(CLUSTERS, "", "identity")).obj
            assert held["spec"]["serviceCIDR"] == both
            with pytest.raises(WrongCluster, match=r"10\.96\.0\.0/16,fd00:96::/108 on the other servers"):
                await agree(stores[0], pki, "10.96.0.0/16")
        finally:
            for store in stores:
                await store.close()


async def test_the_kubernetes_service_leads_to_the_living(etcd: PrivateEtcd, tmp_path: Path) -> None:
    """Addresses from the range for documentation: nothing is ever sent there."""
    async with private_etcd() as own:
        port = 0
        made: list[ServerProcess] = []
        try:
            for number in range(3):
                home = tmp_path / f"s{number}"
                home.mkdir()
                if made:
                    give_keys(made[0].directory, home)
                advertised = [f"--advertise-address=192.0.2.{number + 1}", f"--bind-address=127.0.0.{number + 1}"]
                flags = [f"--etcd-servers={own.endpoint}", "--no-controllers", *advertised]
                made.append(ServerProcess(home, *flags, port=port, host=f"127.0.0.{number + 1}"))
                port = made[0].port
                await asyncio.to_thread(made[-1].start)
            async with Api(made[1].kubeconfig, url=f"https://127.0.0.2:{port}") as api:

                async def leads_to() -> tuple[list[str], list[str]]:
                    old = (await api.get("/api/v1/namespaces/default/endpoints/kubernetes")).json
                    new = await api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
                    return (
                        [one["ip"] for one in old["subsets"][0]["addresses"]],
                        [one["addresses"][0] for one in new.json["endpoints"]],
                    )

                async def until(*addresses: str) -> None:
                    async with asyncio.timeout(PATIENCE):
                        while await leads_to() != (list(addresses), list(addresses)):  # noqa: ASYNC110
                            await asyncio.sleep(0.1)

                await until("192.0.2.1", "192.0.2.2", "192.0.2.3")
                made[0].kill()
                await until("192.0.2.2", "192.0.2.3")
                said = key_of(SERVERS, "", f"192.0.2.3:{port}")
                connection = Etcd(own.endpoint)
                connection.open()
                assert (await connection.get(said))[0] is not None
                await asyncio.to_thread(made[2].stop)
                assert (await connection.get(said))[0] is None, "it takes back what it said: nothing has to run out"
                await connection.close()
                await until("192.0.2.2")
        finally:
            for server in made:
                if server.process is not None:
                    server.kill()


async def test_another_leads_when_the_leader_dies(tmp_path: Path) -> None:
    async with (
        private_etcd() as own,
        servers_on(own.endpoint, 2) as servers,
        Api(servers[0].kubeconfig) as one,
        Api(servers[1].kubeconfig) as another,
    ):
        lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/orca-controllers"
        other = another

        async def leader() -> str:
            answer = await other.get(lease)
            return answer.json["spec"]["holderIdentity"] if answer.status == 200 else ""

        async with asyncio.timeout(PATIENCE):
            while not (first := await leader()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        known = [(server.directory / "data" / "identity").read_text().strip() for server in servers]
        leading = known.index(first)
        other = (another, one)[leading]
        servers[leading].kill()
        async with asyncio.timeout(PATIENCE):
            while await leader() == first:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        # And it works: the new leader's controllers make the ServiceAccount of a namespace.
        await other.post("/api/v1/namespaces", {"metadata": {"name": "late"}})
        async with asyncio.timeout(PATIENCE):
            while (await other.get("/api/v1/namespaces/late/serviceaccounts/default")).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_what_etcd_has_forgotten(tmp_path: Path) -> None:
    async with private_etcd() as own, servers_on(own.endpoint, 1, "--no-controllers") as [server]:
        async with Api(server.kubeconfig) as api:
            for number in range(5):
                assert (await api.post(MAPS, {"metadata": {"name": f"old-{number}"}})).status == 201
            page = (await api.get(f"{MAPS}?limit=2")).json["metadata"]
            since = page["resourceVersion"]
            assert (await api.delete(f"{MAPS}/old-3")).status == 200
        etcd = Etcd(own.endpoint)
        etcd.open()
        await etcd.compact(await etcd.revision(b"/"))
        await etcd.close()
        server.kill()
        await asyncio.to_thread(server.start)
        async with Api(server.kubeconfig) as api:
            [event] = await api.events(f"{MAPS}?watch=1&resourceVersion={since}", 1)
            assert event["type"] == "ERROR"
            assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
            exact = await api.get(f"{MAPS}?resourceVersion={since}&resourceVersionMatch=Exact")
            assert exact.failure[:2] == (410, "Expired")
            expired = await api.get(f"{MAPS}?limit=2&continue={page['continue']}")
            assert expired.failure[:2] == (410, "Expired")
            assert "inconsistent" in expired.json["message"]
            rest = await api.get(f"{MAPS}?limit=2&continue={expired.json['metadata']['continue']}")
            assert [one["metadata"]["name"] for one in rest.json["items"]] == ["old-2", "old-4"]
