"""Each plugin on its own, against a cluster in memory."""

import pytest

from orca.admission import Attributes, Chain, default_chain
from orca.api.builtin import (
    DEPLOYMENTS,
    INGRESSES,
    LIMITRANGES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    PRIORITYCLASSES,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
    STORAGECLASSES,
)
from orca.api.errors import ApiError
from orca.auth import UserInfo
from tests.unit.auth.fakes import FixedClock, Reader, made

ANNA = UserInfo("anna")
NODE = UserInfo("system:node:n1", groups=("system:nodes",))


class Patient(FixedClock):
    """Lets time pass at once, and somebody act meanwhile."""

    def __init__(self, then=lambda: None):
        super().__init__()
        self.then = then
        self.slept = 0.0

    async def sleep(self, seconds):
        self.slept += seconds
        self.then()


@pytest.fixture
def cluster():
    reader = Reader()
    reader.put(NAMESPACES, made("v1", "Namespace", "d"))
    reader.put(SERVICEACCOUNTS, made("v1", "ServiceAccount", "default", "d"))
    return reader


def pod(**spec):
    return made("v1", "Pod", "p", "d", spec={"containers": [{"name": "c", "image": "i"}], **spec})


async def run(cluster, resource, obj, *, operation="CREATE", old=None, user=ANNA, sub="", clock=None, space="d"):
    attrs = Attributes(operation, resource, space, (obj or old)["metadata"]["name"], obj, old, user, sub)
    chain = default_chain(cluster, clock=clock or FixedClock())
    await chain.admit(attrs)
    await chain.validate(attrs)
    return attrs.obj


async def refused(code, *args, **kwargs):
    with pytest.raises(ApiError) as caught:
        await run(*args, **kwargs)
    assert caught.value.code == code
    return caught.value


async def test_an_empty_chain_does_nothing():
    attrs = Attributes("CREATE", PODS, "d", "p", pod(), None, ANNA)
    await Chain().admit(attrs)
    await Chain().validate(attrs)


async def test_a_missing_namespace_is_not_found(cluster):
    error = await refused(404, cluster, DEPLOYMENTS, made("apps/v1", "Deployment", "x", "e"), space="e")
    assert error.message == 'namespaces "e" not found'


async def test_nothing_new_in_a_namespace_that_is_going(cluster):
    going = made("v1", "Namespace", "d", status={"phase": "Terminating"})
    cluster.put(NAMESPACES, going)
    error = await refused(403, cluster, PODS, pod())
    assert "unable to create new content in namespace d because it is being terminated" in error.message
    assert error.details["causes"][0]["reason"] == "NamespaceTerminating"


async def test_a_deletion_counts_before_the_cache_shows_it(cluster, monkeypatch):
    """The cache follows a moment behind; after a deletion was asked for it is waited for."""
    going = made("v1", "Namespace", "d", status={"phase": "Terminating"})

    async def fresh():
        cluster.put(NAMESPACES, going)

    monkeypatch.setattr(cluster, "fresh", fresh, raising=False)
    chain = default_chain(cluster, clock=FixedClock())
    await chain.admit(Attributes("CREATE", PODS, "d", "p", pod(), None, ANNA))
    await chain.admit(Attributes("DELETE", NAMESPACES, "", "d", None, made("v1", "Namespace", "d"), ANNA))
    with pytest.raises(ApiError) as caught:
        await chain.admit(Attributes("CREATE", PODS, "d", "p", pod(), None, ANNA))
    assert caught.value.details["causes"][0]["reason"] == "NamespaceTerminating"


async def test_system_namespaces_stay(cluster):
    error = await refused(
        403, cluster, NAMESPACES, None, operation="DELETE", old=made("v1", "Namespace", "default"), space=""
    )
    assert error.message == 'namespaces "default" is forbidden: this namespace may not be deleted'


async def test_pods_get_account_token_tolerations_and_priority(cluster):
    spec = (await run(cluster, PODS, pod()))["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert [next(iter(s)) for s in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert {t["key"].partition("/")[2]: t["tolerationSeconds"] for t in spec["tolerations"]} == {
        "not-ready": 300,
        "unreachable": 300,
    }
    assert spec["priority"] == 0


async def test_own_tolerations_stay(cluster):
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    spec = (await run(cluster, PODS, pod(tolerations=[own])))["spec"]
    assert spec["tolerations"][0] == own
    assert len(spec["tolerations"]) == 2
    everything = [{"operator": "Exists"}]
    assert (await run(cluster, PODS, pod(tolerations=everything)))["spec"]["tolerations"] == everything


async def test_no_token_where_none_is_wanted(cluster):
    assert "volumes" not in (await run(cluster, PODS, pod(automountServiceAccountToken=False)))["spec"]
    account = made("v1", "ServiceAccount", "default", "d", automountServiceAccountToken=False)
    account["imagePullSecrets"] = [{"name": "pull"}]
    cluster.put(SERVICEACCOUNTS, account)
    spec = (await run(cluster, PODS, pod()))["spec"]
    assert "volumes" not in spec
    assert spec["imagePullSecrets"] == [{"name": "pull"}]


async def test_a_missing_account_is_refused(cluster):
    error = await refused(403, cluster, PODS, pod(serviceAccountName="app"))
    assert error.message.endswith('error looking up service account d/app: serviceaccount "app" not found')


async def test_the_default_account_is_waited_for(cluster):
    cluster.drop(SERVICEACCOUNTS, "d", "default")
    late = Patient(lambda: cluster.put(SERVICEACCOUNTS, made("v1", "ServiceAccount", "default", "d")))
    await run(cluster, PODS, pod(), clock=late)
    assert 0.1 <= late.slept <= 0.2


async def test_priority_classes(cluster):
    cluster.put(PRIORITYCLASSES, made("v1", "PriorityClass", "high", value=1000, preemptionPolicy="Never"))
    spec = (await run(cluster, PODS, pod(priorityClassName="high")))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")
    assert "no PriorityClass with name low" in (await refused(403, cluster, PODS, pod(priorityClassName="low"))).message
    await refused(403, cluster, PODS, pod(priorityClassName="high", priority=5))
    cluster.put(PRIORITYCLASSES, made("v1", "PriorityClass", "usual", value=7, globalDefault=True))
    assert (await run(cluster, PODS, pod()))["spec"]["priorityClassName"] == "usual"
    second = made("v1", "PriorityClass", "other", value=8, globalDefault=True)
    await refused(403, cluster, PRIORITYCLASSES, second, space="")


async def test_default_storage_class_is_the_youngest(cluster):
    mark = {"storageclass.kubernetes.io/is-default-class": "true"}
    for who, when in (("a", "2026-01-01T00:00:00Z"), ("b", "2026-02-01T00:00:00Z")):
        one = made("storage.k8s.io/v1", "StorageClass", who)
        one["metadata"] |= {"annotations": mark, "creationTimestamp": when}
        cluster.put(STORAGECLASSES, one)
    claim = made("v1", "PersistentVolumeClaim", "c", "d", spec={})
    assert (await run(cluster, PERSISTENTVOLUMECLAIMS, claim))["spec"]["storageClassName"] == "b"
    none = made("v1", "PersistentVolumeClaim", "c", "d", spec={"storageClassName": ""})
    assert (await run(cluster, PERSISTENTVOLUMECLAIMS, none))["spec"]["storageClassName"] == ""


async def test_ingresses_without_any_class_stay_without(cluster):
    ingress = made("networking.k8s.io/v1", "Ingress", "i", "d", spec={})
    assert (await run(cluster, INGRESSES, ingress))["spec"] == {}


async def test_nodes_are_born_tainted(cluster):
    node = await run(cluster, NODES, made("v1", "Node", "n1", spec={}), space="", user=NODE)
    assert node["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


def limited(cluster, **limit):
    spec = {"limits": [{"type": "Container", **limit}]}
    cluster.put(LIMITRANGES, made("v1", "LimitRange", "l", "d", spec=spec))


async def test_limit_ranges_fill_and_bound(cluster):
    limited(cluster, default={"cpu": "500m"}, defaultRequest={"cpu": "100m"}, max={"cpu": "1"})
    spec = (await run(cluster, PODS, pod()))["spec"]
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}
    big = [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]
    error = await refused(403, cluster, PODS, pod(containers=big))
    assert "maximum cpu usage per Container is 1, but limit is 2" in error.message


async def test_a_request_follows_its_own_limit(cluster):
    limited(cluster, default={"cpu": "500m"}, defaultRequest={"cpu": "400m"})
    own = [{"name": "c", "resources": {"limits": {"cpu": "200m"}}}]
    resources = (await run(cluster, PODS, pod(containers=own)))["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"cpu": "200m"}, "requests": {"cpu": "200m"}}


async def test_limit_ranges_tell_what_they_set(cluster):
    limited(cluster, default={"memory": "1Gi", "cpu": "500m"}, defaultRequest={"cpu": "100m"})
    own = [{"name": "c"}, {"name": "d", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]
    told = (await run(cluster, PODS, pod(containers=own)))["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert told == "LimitRanger plugin set: cpu request for container c; cpu, memory limit for container c"


async def test_a_second_round_mounts_the_token_volume_of_the_first(cluster):
    first = await run(cluster, PODS, pod())
    first["spec"]["containers"].append({"name": "sidecar"})
    spec = (await run(cluster, PODS, first))["spec"]
    (volume,) = spec["volumes"]
    assert {c["volumeMounts"][0]["name"] for c in spec["containers"]} == {volume["name"]}


async def test_accounts_may_limit_what_their_pods_mount(cluster):
    account = made("v1", "ServiceAccount", "default", "d")
    account["metadata"]["annotations"] = {"kubernetes.io/enforce-mountable-secrets": "true"}
    account |= {"secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]}
    cluster.put(SERVICEACCOUNTS, account)
    await run(cluster, PODS, pod(volumes=[{"name": "v", "secret": {"secretName": "mine"}}]))
    error = await refused(403, cluster, PODS, pod(volumes=[{"name": "v", "secret": {"secretName": "other"}}]))
    assert 'volume with secret.secretName="other" is not allowed because service account default' in error.message
    env = [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]
    error = await refused(403, cluster, PODS, pod(containers=[{"name": "c", "env": env}]))
    assert 'container c with envVar E referencing secret.secretName="other" is not allowed' in error.message
    error = await refused(403, cluster, PODS, pod(imagePullSecrets=[{"name": "other"}]))
    assert 'imagePullSecrets[0].name="other" is not allowed' in error.message


async def test_mirror_pods_refer_to_nothing_secret(cluster):
    mirror = pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}])
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    error = await refused(403, cluster, PODS, mirror)
    assert "a mirror pod may not reference secrets" in error.message


async def test_bindings_carry_the_zone_of_the_node(cluster):
    node = made("v1", "Node", "n1")
    node["metadata"]["labels"] = {"topology.kubernetes.io/zone": "z", "other": "x"}
    cluster.put(NODES, node)
    binding = made("v1", "Binding", "p", "d", target={"kind": "Node", "name": "n1"})
    bound = await run(cluster, PODS, binding, sub="binding")
    assert bound["metadata"]["labels"] == {"topology.kubernetes.io/zone": "z"}
    placed = await run(cluster, PODS, pod(nodeName="n1"))
    assert placed["metadata"]["labels"]["topology.kubernetes.io/zone"] == "z"


async def test_nodes_touch_only_their_own(cluster):
    await refused(403, cluster, NODES, made("v1", "Node", "n2", spec={}), space="", user=NODE)
    old = made("v1", "Node", "n1", spec={"taints": [{"key": "a", "effect": "NoSchedule"}]})
    new = made("v1", "Node", "n1", spec={})
    await refused(403, cluster, NODES, new, operation="UPDATE", old=old, space="", user=NODE)
    bare = made("v1", "Node", "n1", spec={})
    bare["metadata"]["labels"] = {"node-restriction.kubernetes.io/secure": "yes"}
    await refused(403, cluster, NODES, bare, space="", user=NODE)
    bare["metadata"]["labels"] = {"kubernetes.io/hostname": "n1", "mine": "x", "node.kubernetes.io/x": "y"}
    await run(cluster, NODES, bare, space="", user=NODE)


async def test_nodes_create_mirror_pods_only(cluster):
    await refused(403, cluster, PODS, pod(nodeName="n1"), user=NODE)
    mirror = pod(nodeName="n1")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "uid-n1", "controller": True}
    mirror["metadata"]["ownerReferences"] = [owner]
    await refused(404, cluster, PODS, mirror, user=NODE)
    cluster.put(NODES, made("v1", "Node", "n1"))
    assert "volumes" not in (await run(cluster, PODS, mirror, user=NODE))["spec"]
    for owners, said in (
        ([], "can only create pods with an owner reference set to itself"),
        ([owner, owner], "can only create pods with a single owner reference set to itself"),
        ([{**owner, "name": "n2"}], "can only create pods with an owner reference set to itself"),
        ([{**owner, "apiVersion": "v2"}], "can only create pods with an owner reference set to itself"),
        ([{**owner, "controller": False}], "can only create pods with a controller owner reference set to itself"),
        ([{**owner, "blockOwnerDeletion": True}], "must not set blockOwnerDeletion on an owner reference"),
        ([{**owner, "uid": "other"}], "UID mismatch: expected other got uid-n1"),
    ):
        mirror["metadata"]["ownerReferences"] = owners
        assert said in (await refused(403, cluster, PODS, mirror, user=NODE)).message


async def test_nodes_ask_for_tokens_of_their_pods(cluster):
    cluster.put(PODS, pod(nodeName="n1"))
    body = made("authentication.k8s.io/v1", "TokenRequest", "default", "d")
    body["spec"] = {"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "uid-p"}}
    await run(cluster, SERVICEACCOUNTS, body, user=NODE, sub="token")
    del body["spec"]["boundObjectRef"]
    await refused(403, cluster, SERVICEACCOUNTS, body, user=NODE, sub="token")
    other = UserInfo("system:node:n2", groups=("system:nodes",))
    body["spec"] = {"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "uid-p"}}
    await refused(403, cluster, SERVICEACCOUNTS, body, user=other, sub="token")


async def test_a_node_names_its_role_only_when_it_joins(cluster):
    node = made("v1", "Node", "n1", spec={})
    node["metadata"]["labels"] = {"node-role.kubernetes.io/control-plane": ""}
    await run(cluster, NODES, node, space="", user=NODE)
    plain = made("v1", "Node", "n1", spec=node["spec"])
    await refused(403, cluster, NODES, node, operation="UPDATE", old=plain, space="", user=NODE)


async def test_runtime_classes_add_overhead_and_nodes_and_must_exist(cluster):
    error = await refused(403, cluster, PODS, pod(runtimeClassName="kata"))
    assert error.message == 'pods "p" is forbidden: pod rejected: RuntimeClass "kata" not found'
    scheduling = {"nodeSelector": {"kata": "yes"}, "tolerations": [{"key": "kata", "operator": "Exists"}]}
    kata = made("node.k8s.io/v1", "RuntimeClass", "kata", handler="kata", scheduling=scheduling)
    cluster.put(RUNTIMECLASSES, {**kata, "overhead": {"podFixed": {"cpu": "100m"}}})
    spec = (await run(cluster, PODS, pod(runtimeClassName="kata")))["spec"]
    assert spec["overhead"] == {"cpu": "100m"}
    assert spec["nodeSelector"] == {"kata": "yes"}
    assert scheduling["tolerations"][0] in spec["tolerations"]
    error = await refused(403, cluster, PODS, pod(runtimeClassName="kata", nodeSelector={"kata": "no"}))
    assert "conflict: runtimeClass.scheduling.nodeSelector[kata] = yes" in error.message
    error = await refused(403, cluster, PODS, pod(overhead={"cpu": "1"}))
    assert "Pod Overhead set without corresponding RuntimeClass" in error.message
