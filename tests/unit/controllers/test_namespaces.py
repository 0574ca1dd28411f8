"""Namespaces: defaults, emptying, finalizing; what each has from the start; pods nobody else removes."""

from dataclasses import replace
from pathlib import Path

from orca.api.builtin import CONFIGMAPS, DEPLOYMENTS, NAMESPACES, NODES, PODS, SECRETS, SERVICEACCOUNTS
from orca.api.errors import service_unavailable
from orca.api.objects import Obj, name, namespace
from orca.api.resources import Resource
from orca.controllers import ControllersConfig, conditions
from orca.controllers.namespaces import NamespaceController
from orca.controllers.podgc import PodGarbageCollector, plan
from tests.unit.controllers.support import Cluster, deployment, pod, running, running_one


def space(space_name: str, **metadata: object) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": space_name, **metadata},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


class Spaces(Cluster):
    """The fake API with the two rules of namespaces: deletion waits for spec.finalizers, and `finalize` writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.api.intercepts.append(self._finalized)

    def _finalized(self, verb: str, resource: object, key: str, subresource: str) -> None:
        if verb == "update" and resource == NAMESPACES and subresource == "finalize":
            self.finalized.add(key)

    finalized: set[str] = set()


async def test_default_namespaces_accounts_and_root_ca(tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    config = ControllersConfig(ca_cert_path=ca)
    async with running(config=config) as cluster:
        await cluster.settle(2)
        found = {name(one) for one in cluster.api.objects(NAMESPACES)}
        assert found == {"default", "kube-system", "kube-public", "kube-node-lease"}
        assert {namespace(one) for one in cluster.api.objects(SERVICEACCOUNTS)} == found
        assert {namespace(one) for one in cluster.api.objects(CONFIGMAPS)} == found
        await cluster.api.delete(SERVICEACCOUNTS, "default", "default")
        await cluster.api.patch(CONFIGMAPS, "kube-root-ca.crt", {"data": {"ca.crt": "forged"}}, "default")
        await cluster.settle(2)
        assert await cluster.api.get(SERVICEACCOUNTS, "default", "default")
        restored = await cluster.api.get(CONFIGMAPS, "kube-root-ca.crt", "default")
        assert restored["data"] == {"ca.crt": ca.read_text()}


async def test_a_namespace_is_emptied_and_then_let_go() -> None:
    cluster = Spaces()
    cluster.finalized = set()
    async with running(cluster=cluster):
        # The metadata finalizer stands for spec.finalizers, which the fake does not know.
        cluster.api.seed(NAMESPACES, space("doomed", finalizers=["test/hold"]))
        made = deployment(2)
        made["metadata"]["namespace"] = "doomed"
        cluster.api.seed(DEPLOYMENTS, made)
        cluster.api.seed(SECRETS, {"metadata": {"name": "s", "namespace": "doomed"}})
        cluster.api.seed(SECRETS, {"metadata": {"name": "s", "namespace": "default"}})
        await cluster.settle(5)
        assert len(cluster.pods()) == 2
        await cluster.api.delete(NAMESPACES, "doomed")
        await cluster.settle(20)
        assert "doomed" in cluster.finalized
        assert [namespace(one) for one in cluster.api.objects(SECRETS)] == ["default"]
        assert cluster.api.objects(DEPLOYMENTS) == []
        assert cluster.api.objects(PODS) == []
        assert {namespace(one) for one in cluster.api.objects(SERVICEACCOUNTS)}.isdisjoint({"doomed"})


class Elsewhere:
    """Kinds of another server: one deletable kind with one object, or nobody who can tell."""

    def __init__(self) -> None:
        self.down = True
        self.objects = [{"metadata": {"name": "one", "namespace": "doomed"}}]
        self.row = replace(CONFIGMAPS, group="example.com", version="v1", plural="things", storage="elsewhere/things")

    def failing(self) -> list[str]:
        return ["example.com/v1: stale GroupVersion discovery: example.com/v1"] if self.down else []

    def deletable(self) -> list[Resource]:
        return [] if self.down else [self.row]

    async def empty(self, resource: Resource, namespace: str) -> list[Obj]:
        assert (resource, namespace) == (self.row, "doomed")
        left, self.objects = self.objects, []
        return left


async def test_a_namespace_waits_for_servers_of_other_kinds() -> None:
    cluster, elsewhere = Spaces(), Elsewhere()
    cluster.finalized = set()
    async with running(cluster=cluster, config=ControllersConfig(remote=elsewhere)):
        cluster.api.seed(NAMESPACES, space("doomed", finalizers=["test/hold"]))
        await cluster.api.delete(NAMESPACES, "doomed")
        await cluster.settle(5)
        found = (await cluster.api.get(NAMESPACES, "doomed"))["status"]["conditions"]
        failure = conditions.find(found, "NamespaceDeletionDiscoveryFailure")
        assert failure is not None
        assert (failure["status"], failure["reason"]) == ("True", "DiscoveryFailed")
        assert failure["message"] == (
            "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
            "example.com/v1: stale GroupVersion discovery: example.com/v1"
        )
        assert "doomed" not in cluster.finalized
        elsewhere.down = False
        await cluster.settle(10)
        assert elsewhere.objects == []
        assert "doomed" in cluster.finalized


async def test_what_holds_a_namespace_is_told() -> None:
    cluster = Spaces()
    cluster.finalized = set()
    async with running_one(NamespaceController, cluster=cluster):
        cluster.api.seed(NAMESPACES, space("doomed", finalizers=["test/hold"]))
        held = {"metadata": {"name": "s", "namespace": "doomed", "finalizers": ["test/keep"]}}
        cluster.api.seed(SECRETS, held)
        await cluster.api.delete(NAMESPACES, "doomed")
        await cluster.settle(5)
        assert "doomed" not in cluster.finalized
        status = (await cluster.api.get(NAMESPACES, "doomed"))["status"]
        assert status["phase"] == "Terminating"
        remaining = conditions.find(status["conditions"], "NamespaceContentRemaining")
        assert remaining is not None
        assert remaining["message"] == "Some resources are remaining: secrets. has 1 resource instances"
        finalizers = conditions.find(status["conditions"], "NamespaceFinalizersRemaining")
        assert finalizers is not None
        assert "test/keep in 1 resource instances" in finalizers["message"]
        await cluster.api.patch(SECRETS, "s", {"metadata": {"finalizers": None}}, "doomed")
        await cluster.settle(5)
        assert "doomed" in cluster.finalized


async def test_a_failing_resource_holds_the_namespace_until_it_answers() -> None:
    cluster = Spaces()
    cluster.finalized = set()

    def refuse(verb: str, resource: object, *_: object) -> None:
        if verb == "list" and resource == SECRETS:
            raise service_unavailable("no")

    async with running_one(NamespaceController, cluster=cluster):
        cluster.api.seed(NAMESPACES, space("doomed", finalizers=["test/hold"]))
        cluster.api.intercepts.append(refuse)
        await cluster.api.delete(NAMESPACES, "doomed")
        await cluster.settle(5)
        assert "doomed" not in cluster.finalized
        cluster.api.intercepts.remove(refuse)
        await cluster.settle(5)
        assert "doomed" in cluster.finalized


def test_which_pods_the_collector_takes() -> None:
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    pods = [
        pod("fine", node="here"),
        pod("lost", node="gone"),
        pod("unscheduled", node="", **going),
        pod("leaving", node="here", **going),
        pod("given-up", node="broken", **going),
        *(
            pod(f"done-{i}", node="here", phase="Succeeded", creationTimestamp=f"2026-01-0{i}T00:00:00Z")
            for i in (1, 2, 3)
        ),
    ]
    doomed = plan(pods, {"gone"}, {"broken"}, 2)
    assert [name(one.pod) for one in doomed] == ["lost", "unscheduled", "given-up", "done-1"]
    assert plan(pods, set(), set(), 0) == plan(pods[2:3], set(), set(), 0)
    evicted = pod("evicted", phase="Failed", creationTimestamp="2026-01-09T00:00:00Z")
    evicted["status"]["reason"] = "Evicted"
    assert [name(one.pod) for one in plan([*pods, evicted], set(), set(), 3)] == ["unscheduled", "evicted"]


async def test_what_the_collector_writes_before_it_deletes() -> None:
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["test/hold"]}
    broken = {"metadata": {"name": "broken"}, "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service"}]}}
    async with running_one(PodGarbageCollector) as (cluster, _):
        cluster.api.seed(NODES, broken)
        cluster.api.seed(PODS, pod("given-up", node="broken", **going))
        cluster.api.seed(PODS, pod("unscheduled", node="", phase="Pending", **going))
        cluster.api.seed(PODS, pod("lost", node="gone", finalizers=["test/hold"]))
        await cluster.settle(65)
        found = {name(one): one["status"] for one in cluster.api.objects(PODS)}
        assert {one["phase"] for one in found.values()} == {"Failed"}
        targets = {who: conditions.find(one.get("conditions"), "DisruptionTarget") for who, one in found.items()}
        assert (targets["given-up"], targets["unscheduled"]) == (None, None)
        assert targets["lost"] is not None
        assert targets["lost"]["reason"] == "DeletionByPodGC"
        assert targets["lost"]["message"] == "PodGC: node no longer exists"


async def test_pods_of_a_deleted_node_go_after_the_quarantine() -> None:
    async with running_one(PodGarbageCollector) as (cluster, _):
        cluster.api.seed(NODES, {"metadata": {"name": "host-1"}})
        cluster.api.seed(PODS, pod("stays"))
        cluster.api.seed(PODS, pod("goes", node="host-2"))
        await cluster.settle(30)
        assert len(cluster.api.objects(PODS)) == 2
        # That somebody sets the clock does not make it longer ago.
        cluster.clock.set(3600)
        await cluster.settle(12)
        assert len(cluster.api.objects(PODS)) == 2
        await cluster.settle(60)
        assert [name(one) for one in cluster.api.objects(PODS)] == ["stays"]
