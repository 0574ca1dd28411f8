"""Names of images, and our specs as the engine's JSON."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.runtime.accounts import parse
from agents.runtime.engine import translate
from agents.runtime.errors import InvalidReference, NameTaken, NoSuchContainer, NoSuchImage, RefusedByEngine
from agents.runtime.model import ContainerSpec, HostAbilities, Resources, SandboxSpec, Security
from agents.runtime.references import parse_reference
from agents.runtime.translate import container_body, container_info, sandbox_body

FULL = HostAbilities(("CHOWN", "SYS_RESOURCE"), True, "20.10.24", "1.41", "1", "/d")
POOR = replace(FULL, capabilities=("CHOWN",), full_privileges=False)


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "repository"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", "nginx"),
        ("nginx:1.25", "docker.io", "library/nginx", "1.25", "nginx"),
        ("a/b", "docker.io", "a/b", "latest", "a/b"),
        ("reg.example:5000/a/b:x", "reg.example:5000", "a/b", "x", "reg.example:5000/a/b"),
        ("localhost/a", "localhost", "a", "latest", "localhost/a"),
        ("a@sha256:" + "0" * 64, "docker.io", "library/a", "", "a"),
    ],
)
def test_references(text: str, domain: str, path: str, tag: str, repository: str) -> None:
    parsed = parse_reference(text)
    assert (parsed.domain, parsed.path, parsed.tag, parsed.repository) == (domain, path, tag, repository)


@pytest.mark.parametrize("text", ["", "A/b", "a b", "a:", "a//b", "-a", "a@sha256:0"])
def test_bad_references(text: str) -> None:
    with pytest.raises(InvalidReference, match="couldn't parse image name"):
        parse_reference(text)


SPEC = ContainerSpec(name="n", image="i", labels={}, sandbox_id="s")


def test_containers_join_their_sandbox() -> None:
    host = container_body(SPEC, FULL)["HostConfig"]
    assert (host["NetworkMode"], host["IpcMode"], "PidMode" in host) == ("container:s", "container:s", False)
    shared = container_body(replace(SPEC, process_namespace="s"), FULL)["HostConfig"]
    assert shared["PidMode"] == "container:s"
    own = sandbox_body(SandboxSpec("n", "p", {}, "h"), FULL)
    assert (own["HostConfig"]["NetworkMode"], own["NetworkDisabled"]) == ("none", True)
    on_host = sandbox_body(SandboxSpec("n", "p", {}, "h", host_network=True), FULL)
    assert (on_host["HostConfig"]["NetworkMode"], {"Hostname", "NetworkDisabled"} & on_host.keys()) == ("host", set())


def test_privileged_by_what_the_host_has() -> None:
    spec = replace(SPEC, security=Security(privileged=True))
    assert container_body(spec, FULL)["HostConfig"]["Privileged"] is True
    poor = container_body(spec, POOR)["HostConfig"]
    assert "Privileged" not in poor
    assert (poor["CapAdd"], poor["MaskedPaths"]) == (["CHOWN"], [])
    assert "seccomp=unconfined" in poor["SecurityOpt"]


def test_oom_scores_need_the_right() -> None:
    spec = replace(SPEC, oom_score_adj=-997, resources=Resources(memory=1 << 20))
    assert container_body(spec, FULL)["HostConfig"]["OomScoreAdj"] == -997
    poor = container_body(spec, POOR)["HostConfig"]
    assert (poor["OomScoreAdj"], poor["Memory"], poor["MemorySwap"]) == (0, 1 << 20, 1 << 20)


def test_a_container_as_inspected() -> None:
    raw = {
        "Id": "x",
        "Name": "/k8s_c",
        "Created": "2026-01-01T00:00:00.5Z",
        "Image": "sha256:a",
        "Config": {"Labels": None, "Image": "i", "Hostname": "h"},
        "State": {
            "Status": "exited",
            "Running": False,
            "Pid": 0,
            "ExitCode": 3,
            "OOMKilled": False,
            "Error": "",
            "StartedAt": "2026-01-01T00:00:01.123456789Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        },
    }
    info = container_info(raw)
    assert (info.name, info.state, info.exit_code, info.finished_at) == ("k8s_c", "exited", 3, None)
    assert info.started_at is not None
    at_once = raw | {"State": raw["State"] | {"FinishedAt": "2026-01-01T00:00:00.9Z"}}  # type: ignore[operator]
    assert container_info(at_once).finished_at == info.started_at, "stamped before its start"


@pytest.mark.parametrize(
    ("status", "path", "message", "kind"),
    [
        (404, "/containers/x/json", "No such container: x", NoSuchContainer),
        (404, "/containers/create", "No such image: x:latest", NoSuchImage),
        (409, "/containers/create", 'Conflict. The container name "/x" is already in use by container', NameTaken),
        (409, "/containers/x/exec", "Container x is not running", NoSuchContainer),
        (400, "/containers/create", "bad parameter", RefusedByEngine),
    ],
)
def test_engine_errors_by_what_to_do(status: int, path: str, message: str, kind: type[Exception]) -> None:
    error = translate(status, path, f'{{"message": "{message}"}}'.replace('"/x"', "'/x'").encode())
    assert type(error) is kind


@pytest.mark.parametrize(
    ("add", "drop", "added", "dropped"),
    [
        (("NET_ADMIN",), ("ALL",), ["NET_ADMIN"], ["ALL"]),
        (("ALL",), (), ["CHOWN", "SYS_RESOURCE"], None),
        (("ALL",), ("CHOWN",), ["SYS_RESOURCE"], ["CHOWN"]),
        (("ALL",), ("ALL",), None, ["ALL"]),
        (("CAP_CHOWN", "KILL"), ("CHOWN",), ["KILL"], ["CHOWN"]),
    ],
)
def test_a_dropped_capability_is_not_added(
    add: tuple[str, ...], drop: tuple[str, ...], added: list[str] | None, dropped: list[str] | None
) -> None:
    security = Security(add_capabilities=add, drop_capabilities=drop)
    host = container_body(ContainerSpec("n", "i", {}, "s", security=security), FULL)["HostConfig"]
    assert (host.get("CapAdd"), host.get("CapDrop")) == (added, dropped)


def test_accounts_of_an_image() -> None:
    found = parse("root:x:0:0::/:/bin/sh\napp:x:1000:50::/:\nbad:x:y:z\n", "wheel:x:10:root,app\nbad\nvideo:x:44:\n")
    assert [found.primary_group(user) for user in ("app", "1000", "root", "77", "nobody")] == [50, 50, 0, 0, 0]
    assert [found.memberships(user) for user in ("app", "1000", "77")] == [(10,), (10,), ()]
