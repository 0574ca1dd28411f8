"""Rights to act as another in some requests only (KEP-5284), as an agent on each node has them for its own node."""

from __future__ import annotations

from tests.api.security.conftest import Connect, as_user, grant, token_of
from tests.api.server.api import Api

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
AUTHENTICATION = "authentication.k8s.io"


async def role(api: Api, name: str, *rules: tuple[str, str, str]) -> None:
    """A ClusterRole of rules (verb, group, resource)."""
    listed = [{"verbs": [verb], "apiGroups": [group], "resources": [resource]} for verb, group, resource in rules]
    made = await api.post(ROLES, {"metadata": {"name": name}, "rules": listed})
    assert made.status == 201, made.raw


async def test_an_agent_acts_as_the_node_where_it_runs(api: Api, connect: Connect, space: str) -> None:
    node, other = f"n1-{space}", f"n2-{space}"
    for name in (node, other):
        assert (await api.post("/api/v1/nodes", {"metadata": {"name": name}})).status == 201
    pod = {"metadata": {"name": "agent"}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}}
    assert (await api.post(f"/api/v1/namespaces/{space}/pods", pod)).status == 201
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "agent"}
    agent = await connect(token=await token_of(api, space, boundObjectRef=bound))
    pods = f"/api/v1/namespaces/{space}/pods?fieldSelector=spec.nodeName%3D"
    assert (await agent.get(pods + node, Impersonate_User=f"system:node:{node}")).status == 403
    name = f"as-my-node-{space}"
    rights = (
        ("impersonate:associated-node", AUTHENTICATION, "nodes"),
        ("impersonate-on:associated-node:list", "", "pods"),
    )
    await role(api, name, *rights)
    await grant(api, name, {"kind": "ServiceAccount", "name": "default", "namespace": space})
    seen = await agent.get(pods + node, Impersonate_User=f"system:node:{node}")
    assert [one["metadata"]["name"] for one in seen.json["items"]] == ["agent"]
    assert (await agent.get(pods + node)).status == 403
    assert (await agent.get(pods + other, Impersonate_User=f"system:node:{other}")).status == 403
    refused = await agent.get(f"{pods}{node}&watch=1", Impersonate_User=f"system:node:{node}")
    assert refused.failure[2].startswith(
        f'pods is forbidden: User "system:serviceaccount:{space}:default" cannot impersonate-on:associated-node:watch '
        f'resource "pods" in API group "" in the namespace "{space}"'
    )
    for more in ({"Impersonate_Group": "system:nodes"}, {"Impersonate_Uid": "7"}):
        assert (await agent.get(pods + node, Impersonate_User=f"system:node:{node}", **more)).status == 403
    assert (await agent.post(SELF, {}, Impersonate_User=f"system:node:{node}")).status == 403


async def test_another_user_in_some_requests(api: Api, connect: Connect, space: str) -> None:
    name = f"as-anna-{space}"
    on = "impersonate-on:user-info"
    await role(
        api,
        name,
        ("impersonate:user-info", AUTHENTICATION, "users"),
        ("impersonate:user-info", AUTHENTICATION, "groups"),
        (f"{on}:create", AUTHENTICATION, "selfsubjectreviews"),
        (f"{on}:list", "", "configmaps"),
    )
    helper = await connect(f"helper-{space}")
    await grant(api, name, as_user(f"helper-{space}"))
    me = await helper.post(SELF, {}, Impersonate_User="anna", Impersonate_Group="crew")
    assert me.json["status"]["userInfo"] == {"username": "anna", "groups": ["crew", "system:authenticated"]}
    # What the helper may in her name she has to be allowed herself.
    maps = f"/api/v1/namespaces/{space}/configmaps"
    denied = await helper.get(maps, Impersonate_User="anna")
    assert denied.failure[2].startswith('configmaps is forbidden: User "anna" cannot list resource "configmaps"')
    await grant(api, "view", as_user("anna"), space)
    assert (await helper.get(maps, Impersonate_User="anna")).status == 200
    assert (await helper.get(f"{maps}/a", Impersonate_User="anna")).status == 403
    assert (await helper.get(f"/api/v1/namespaces/{space}/pods", Impersonate_User="anna")).status == 403
    assert (await helper.get("/version", Impersonate_User="anna")).status == 403
    for who in ("system:node:x", f"system:serviceaccount:{space}:default"):
        assert (await helper.post(SELF, {}, Impersonate_User=who)).status == 403
    assert (await helper.post(SELF, {}, Impersonate_User="anna", Impersonate_Group="system:masters")).status == 403
