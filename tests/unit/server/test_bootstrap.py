"""What every cluster has is repaired, and what people added stays."""

from datetime import UTC, datetime

import orjson
import pytest
import yaml

from orca.api.builtin import CLUSTERROLES, CONFIGMAPS, PRIORITYCLASSES, SERVICECIDRS
from orca.auth.default_roles import cluster_roles
from orca.auth.pki import ensure_pki, merged_bundle
from orca.client.fake import FakeClient
from orca.server.bootstrap import bootstrap, reconciled
from orca.server.initial_objects import ClusterFacts, cluster_info, extension_authentication, priority_classes
from tests.unit.auth.fakes import FixedClock


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    """Three CAs in PEM."""
    found = []
    for i in range(3):
        pki = ensure_pki(tmp_path_factory.mktemp(f"pki{i}"), ("127.0.0.1",))
        found.append(pki.ca.cert.read_text())
    return found


def facts(ca, proxy, **more):
    return ClusterFacts("192.0.2.1", 6443, "10.96.0.1", "10.96.0.0/16", ca, proxy, **more)


def test_default_roles_regain_what_they_lost_and_keep_what_they_gained():
    wanted = next(role for role in cluster_roles() if role["metadata"]["name"] == "system:basic-user")
    extra = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": []}
    current = {**wanted, "rules": [wanted["rules"][0], extra]}
    merged = reconciled(CLUSTERROLES, current, wanted)
    assert merged["rules"] == [wanted["rules"][0], extra, wanted["rules"][1]]
    assert reconciled(CLUSTERROLES, merged, wanted) is None
    bare = {**wanted, "metadata": {"name": "system:basic-user", "labels": {"mine": "1"}}}
    labels = reconciled(CLUSTERROLES, bare, wanted)["metadata"]["labels"]
    assert labels == {"mine": "1", "kubernetes.io/bootstrapping": "rbac-defaults"}
    left = {**bare, "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}}
    assert reconciled(CLUSTERROLES, left, wanted) is None


def test_priority_classes_are_only_created():
    (node, _) = priority_classes()
    assert reconciled(PRIORITYCLASSES, {**node, "description": "other"}, node) is None


def test_extensions_learn_of_a_new_authority_and_trust_the_old_one_until_it_ends(authorities):
    old, new, proxy = authorities
    held = extension_authentication(facts(old, proxy))
    wanted = extension_authentication(facts(new, proxy))
    merged = reconciled(CONFIGMAPS, held, wanted)
    assert merged["data"]["client-ca-file"] == old + new
    assert merged["data"]["requestheader-client-ca-file"] == proxy
    assert reconciled(CONFIGMAPS, merged, wanted) is None
    later = FixedClock()
    later.time = datetime(2999, 1, 1, tzinfo=UTC)
    assert merged_bundle(old, new, clock=later) == ""
    assert merged_bundle("no certificate", new) == new


def test_headers_of_others_stay(authorities):
    ca, _, proxy = authorities
    wanted = extension_authentication(facts(ca, proxy))
    held = {**wanted, "data": {**wanted["data"], "requestheader-username-headers": '["X-User"]'}}
    merged = reconciled(CONFIGMAPS, held, wanted)
    assert orjson.loads(merged["data"]["requestheader-username-headers"]) == ["X-User", "X-Remote-User"]
    assert wanted["data"]["client-ca-file"] == ca
    more = extension_authentication(facts(ca, proxy, client_ca_pem=proxy))
    assert more["data"]["client-ca-file"] == ca + proxy


def test_hosts_that_join_find_the_authority_of_today(authorities):
    old, new, _ = authorities
    held = cluster_info(facts(old, ""))
    elsewhere = ClusterFacts("192.0.2.9", 6443, "10.96.0.1", "10.96.0.0/16", old)
    assert reconciled(CONFIGMAPS, held, cluster_info(elsewhere)) is None
    wanted = cluster_info(facts(new, ""))
    assert reconciled(CONFIGMAPS, held, wanted)["data"] == wanted["data"]
    assert reconciled(CONFIGMAPS, {**held, "data": {"kubeconfig": "{"}}, wanted)["data"] == wanted["data"]
    assert yaml.safe_load(wanted["data"]["kubeconfig"])["clusters"][0]["cluster"]["server"] == "https://192.0.2.1:6443"


class _Overtaken(FakeClient):
    """Somebody writes the range right before its first update here."""

    overtaken = False

    async def update(self, resource, obj, *, subresource=""):
        if resource is SERVICECIDRS and not self.overtaken:
            self.overtaken = True
            held = await self.get(resource, obj["metadata"]["name"])
            await super().update(resource, {**held, "metadata": {**held["metadata"], "labels": {"theirs": "1"}}})
        return await super().update(resource, obj, subresource=subresource)


async def test_a_second_family_is_added_though_somebody_writes_the_range_in_that_moment():
    client = _Overtaken()
    await bootstrap(client, facts("ca", ""))
    grown = ClusterFacts("192.0.2.1", 6443, "10.96.0.1", "10.96.0.0/16,fd00:96::/108", "ca")
    assert await bootstrap(client, grown)
    (held,) = client.objects(SERVICECIDRS)
    assert held["spec"]["cidrs"] == ["10.96.0.0/16", "fd00:96::/108"]
    assert held["metadata"]["labels"] == {"theirs": "1"}
