"""Who may act as whom: the modes, what each asks for, and what is told when none allows it."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from orca.api.errors import ApiError
from orca.auth import Action, UserInfo
from orca.server.impersonation import MODES, impersonated, mode_of, wanted_user
from orca.server.refusals import refusal

LIST = Action("list", resource="pods", namespace="shop")
ANNA = UserInfo("anna", groups=("crew",))
AGENT = UserInfo(
    "system:serviceaccount:ops:agent", extra={"authentication.kubernetes.io/node-name": ("n1",)}, groups=("x",)
)
OWN, ANY, ACCOUNT, OTHER, LEGACY = range(len(MODES))


class Rights:
    """What a user may, as "verb group/resource name"; ``asked`` keeps the order of the questions."""

    def __init__(self, *granted: str) -> None:
        self.granted, self.asked = set(granted), list[str]()

    async def __call__(self, user: UserInfo, action: Action) -> object:
        one = f"{action.verb} {action.group}/{action.full_resource} {action.namespace}/{action.name}"
        self.asked.append(one)
        if one not in self.granted:
            raise refusal(user, action, "")
        return ""


def on(mode: str, verb: str = "list") -> str:
    return f"impersonate-on:{mode}:{verb} /pods shop/"


def of(mode: str, resource: str, name: str, space: str = "") -> str:
    return f"impersonate:{mode} authentication.k8s.io/{resource} {space}/{name}"


@pytest.mark.parametrize(
    ("user", "wanted", "rights", "constraint", "groups"),
    [
        (
            AGENT,
            UserInfo("system:node:n1"),
            (on("associated-node"), of("associated-node", "nodes", "*")),
            "impersonate:associated-node",
            ("system:nodes", "system:authenticated"),
        ),
        (
            ANNA,
            UserInfo("system:node:n1"),
            (on("arbitrary-node"), of("arbitrary-node", "nodes", "n1")),
            "impersonate:arbitrary-node",
            ("system:nodes", "system:authenticated"),
        ),
        (
            ANNA,
            UserInfo("system:serviceaccount:ops:agent"),
            (on("serviceaccount"), of("serviceaccount", "serviceaccounts", "agent", "ops")),
            "impersonate:serviceaccount",
            ("system:serviceaccounts", "system:serviceaccounts:ops", "system:authenticated"),
        ),
        (
            ANNA,
            UserInfo("bert", "7", ("a", "b"), {"acme.io/team": ("x",)}),
            (
                on("user-info"),
                of("user-info", "users", "bert"),
                of("user-info", "uids", "7"),
                of("user-info", "groups", "a"),
                of("user-info", "groups", "b"),
                of("user-info", "userextras/acme.io/team", "x"),
            ),
            "impersonate:user-info",
            ("a", "b", "system:authenticated"),
        ),
        # The old verb: for all of them, in the group of users and groups, and no mode is told.
        (ANNA, UserInfo("bert"), ("impersonate /users /bert",), "", ("system:authenticated",)),
        (ANNA, UserInfo("system:node:n1"), ("impersonate /users /system:node:n1",), "", ("system:authenticated",)),
        (
            ANNA,
            UserInfo("bert", groups=("system:masters",), extra={"scopes": ("x",)}),
            (
                on("user-info"),
                of("user-info", "users", "bert"),
                of("user-info", "groups", "system:masters"),
                of("user-info", "userextras/scopes", "x"),
                "impersonate /users /bert",
                "impersonate /groups /system:masters",
                "impersonate authentication.k8s.io/userextras/scopes /x",
            ),
            "",
            ("system:masters", "system:authenticated"),
        ),
        # What only looks like a service account is a user.
        (
            ANNA,
            UserInfo("system:serviceaccount:Ops:agent"),
            ("impersonate /users /system:serviceaccount:Ops:agent",),
            "",
            ("system:authenticated",),
        ),
        (
            ANNA,
            UserInfo("system:anonymous"),
            ("impersonate /users /system:anonymous",),
            "",
            ("system:unauthenticated",),
        ),
        (
            ANNA,
            UserInfo("bert", groups=("system:unauthenticated",)),
            ("impersonate /users /bert", "impersonate /groups /system:unauthenticated"),
            "",
            ("system:unauthenticated",),
        ),
    ],
)
async def test_whom_the_rights_allow(
    user: UserInfo, wanted: UserInfo, rights: tuple[str, ...], constraint: str, groups: tuple[str, ...]
) -> None:
    acting, _ = await impersonated(user, wanted, LIST, Rights(*rights))
    assert (acting.user.name, acting.user.uid, acting.constraint) == (wanted.name, wanted.uid, constraint)
    assert acting.user.groups == groups
    assert acting.user.extra == wanted.extra
    needed = [one for one in rights if constraint or one.startswith("impersonate ")]
    for missing in needed:
        with pytest.raises(ApiError) as caught:
            await impersonated(user, wanted, LIST, Rights(*(one for one in rights if one != missing)))
        assert caught.value.code == 403


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        (AGENT, UserInfo("system:node:n2")),  # another node than that of the token
        (ANNA, UserInfo("system:node:n1")),  # no service account
        (UserInfo("anna", extra=AGENT.extra), UserInfo("system:node:n1")),
        (UserInfo(AGENT.name), UserInfo("system:node:n1")),  # a token of no node
        (AGENT, UserInfo("system:node:n1", groups=("system:nodes",))),  # groups are not the client's to say
        (AGENT, UserInfo("system:node:N_1")),
    ],
)
async def test_who_is_not_on_the_node(user: UserInfo, wanted: UserInfo) -> None:
    with pytest.raises(ApiError):
        await impersonated(user, wanted, LIST, Rights(on("associated-node"), of("associated-node", "nodes", "*")))


async def test_what_was_allowed_the_last_time_is_asked_first_and_told_when_it_is_not() -> None:
    rights = Rights("impersonate /users /bert")
    _, mode = await impersonated(ANNA, UserInfo("bert"), LIST, rights)
    assert mode == LEGACY
    assert rights.asked == [on("user-info"), "impersonate /users /bert"]
    rights.asked.clear()
    await impersonated(ANNA, UserInfo("bert"), LIST, rights, mode)
    assert rights.asked == ["impersonate /users /bert"]
    with pytest.raises(ApiError, match='users "carl" is forbidden: User "anna" cannot impersonate resource "users"'):
        await impersonated(ANNA, UserInfo("carl"), LIST, rights, mode)
    with pytest.raises(ApiError, match='pods is forbidden: User "anna" cannot impersonate-on:user-info:list'):
        await impersonated(ANNA, UserInfo("carl"), LIST, rights)


async def test_many_groups_need_one_right() -> None:
    wanted = UserInfo("bert", groups=("a", "b", "c", "d"))
    rights = Rights(on("user-info"), of("user-info", "users", "bert"), of("user-info", "groups", "*"))
    _, mode = await impersonated(ANNA, wanted, LIST, rights)
    assert mode == OTHER
    assert len(rights.asked) == 3


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (UserInfo("bert", groups=("system:masters",)), "impersonating the system:masters group is not allowed"),
        (UserInfo("bert", groups=("",)), "impersonating the empty string group is not allowed"),
        (UserInfo("bert", extra={"": ("x",)}), "impersonating the empty string key in extra is not allowed"),
        (UserInfo("bert", extra={"scopes": ("x",)}), "impersonating an invalid key in extra is not allowed: "),
        (UserInfo("bert", extra={"a.io/B": ("x",)}), "impersonating a non-lowercase key in extra is not allowed"),
        (UserInfo("bert", extra={"a.io/b": ("",)}), "impersonating the empty string value in extra is not allowed"),
    ],
)
async def test_what_only_the_old_verb_allows(wanted: UserInfo, why: str) -> None:
    with pytest.raises(ApiError, match=why):
        await impersonated(ANNA, wanted, LIST, Rights(on("user-info"), of("user-info", "users", "bert")))


def test_headers() -> None:
    def read(*headers: tuple[str, str]) -> UserInfo | None:
        return wanted_user(CIMultiDictProxy(CIMultiDict(headers)))

    found = read(("impersonate-user", "bert"), ("Impersonate-Extra-Acme.io%2fTeam", "X"), ("Impersonate-Group", "a"))
    assert found is not None
    assert (found.name, found.groups, found.extra) == ("bert", ("a",), {"acme.io/team": ("X",)})
    assert read(("Accept", "*/*")) is None
    with pytest.raises(ApiError, match="without impersonating a user name"):
        read(("Impersonate-Group", "a"))


def test_verbs_and_constraints_tell_their_mode() -> None:
    assert mode_of("impersonate-on:user-info:list") == "user-info"
    assert mode_of("impersonate:associated-node") == "associated-node"
    assert mode_of("impersonate") == mode_of("") == "legacy"
