"""What a kubeconfig says about who we are: files, programs, impersonation; and what is refused."""

from __future__ import annotations

import json
import socket
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from orca.api.builtin import NODES
from orca.api.errors import ApiError
from orca.client import kubeconfig
from orca.client.execplugin import plugin_of
from orca.client.http import HttpsClient
from orca.client.kubeconfig import Kubeconfig, KubeconfigError
from tests.support.tls import Authority

V1 = "client.authentication.k8s.io/v1"
LONG_AGO, FAR_AHEAD = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def written(directory: Path, user: dict[str, Any], **cluster: Any) -> Kubeconfig:
    """A kubeconfig of one context, whose user is this."""
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "me"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://k:6443", **cluster}}],
        "users": [{"name": "me", "user": user}],
    }
    (directory / "kubeconfig").write_text(yaml.safe_dump(content))
    return Kubeconfig(directory / "kubeconfig")


def program(directory: Path, *, version: str = V1, exit_code: int = 0, **status: Any) -> dict[str, Any]:
    """A program that notes its runs in ``ran`` and prints this status, as the field ``exec`` names it."""
    printed = json.dumps({"kind": "ExecCredential", "apiVersion": version, "status": status})
    script = f"""\
        #!/bin/sh
        echo "$1 $FRUIT $KUBERNETES_EXEC_INFO" >> '{directory}/ran'
        cat '{directory}/printed'
        exit {exit_code}
        """
    (directory / "printed").write_text(printed)
    path = directory / "login"
    path.write_text(textwrap.dedent(script))
    path.chmod(0o755)
    return {
        "apiVersion": V1,
        "command": "./login",
        "args": ["here"],
        "env": [{"name": "FRUIT", "value": "plum"}],
        "interactiveMode": "Never",
    }


def runs(directory: Path) -> list[str]:
    return (directory / "ran").read_text().splitlines()


def test_a_program_is_run_once_for_all_who_name_it(tmp_path: Path) -> None:
    config = written(tmp_path, {"exec": program(tmp_path, token="t1", expirationTimestamp=FAR_AHEAD)})
    assert config.load().token == "t1"
    assert not config.changed()
    assert Kubeconfig(config.path).load().token == "t1"
    (ran,) = runs(tmp_path)
    argument, fruit, told = ran.split(" ", 2)
    assert (argument, fruit) == ("here", "plum")
    assert json.loads(told) == {"apiVersion": V1, "kind": "ExecCredential", "spec": {"interactive": False}}


def test_a_program_is_run_again_when_its_answer_is_over_or_refused(tmp_path: Path) -> None:
    config = written(tmp_path, {"exec": program(tmp_path, token="t1", expirationTimestamp=LONG_AGO)})
    config.load()
    assert config.changed()
    program(tmp_path, token="t2")
    assert config.load().token == "t2"
    assert not config.changed()
    config.refused()
    assert config.changed()
    program(tmp_path, token="t3")
    assert config.load().token == "t3"


def test_a_program_is_known_as_one_also_while_it_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request may be refused just then, and must not take the file for one without a program."""
    config = written(tmp_path, {"exec": program(tmp_path, token="t")})
    config.load()
    known: list[bool] = []

    def asked(*of: Any) -> Any:
        known.append(config.runs_program)
        return plugin_of(*of)

    monkeypatch.setattr(kubeconfig, "plugin_of", asked)
    config.load()
    assert known == [True]


def test_a_program_is_told_of_its_cluster_when_it_wants_to_know(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    config = written(
        tmp_path,
        {"exec": program(tmp_path, token="t") | {"provideClusterInfo": True}},
        **{"certificate-authority": str(authority.pair.cert), "extensions": [extension]},
    )
    config.load()
    assert json.loads(runs(tmp_path)[0].split(" ", 2)[2])["spec"]["cluster"] == {
        "server": "https://k:6443",
        "certificate-authority-data": authority.bundle,
        "config": {"audience": "x"},
    }


def test_a_program_may_print_a_certificate(tmp_path: Path) -> None:
    pair = Authority(tmp_path).files("me", client=True)
    certificate, key = pair.cert.read_text(), pair.key.read_text()
    good = written(tmp_path, {"exec": program(tmp_path, clientCertificateData=certificate, clientKeyData=key)})
    assert good.load().token == ""
    bad = program(tmp_path, clientCertificateData="no", clientKeyData="pem") | {"args": ["other"]}
    with pytest.raises(KubeconfigError):
        written(tmp_path, {"exec": bad}).load()


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ({}, "exec plugin didn't return a token or cert/key pair"),
        ({"clientKeyData": "k"}, "exec plugin returned only certificate or key, not both"),
        ({"token": "t", "exit_code": 3}, "failed with exit code 3"),
        (
            {"token": "t", "version": "client.authentication.k8s.io/v1beta1"},
            f"is configured to use API version {V1}, plugin returned version client.authentication.k8s.io/v1beta1",
        ),
        ({"token": "t", "expirationTimestamp": "soon"}, "'soon' is not an RFC 3339 time"),
    ],
)
def test_programs_that_print_nothing_of_use(tmp_path: Path, printed: dict[str, Any], said: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        written(tmp_path, {"exec": program(tmp_path, **printed)}).load()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": ""}, "command must be specified for me to use exec authentication plugin"),
        ({"apiVersion": ""}, "apiVersion must be specified for me to use exec authentication plugin"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "invalid apiVersion"),
        ({"interactiveMode": ""}, "interactiveMode must be specified for me to use exec authentication plugin"),
        ({"interactiveMode": "Perhaps"}, "invalid interactiveMode for me"),
        ({"command": "no-such-login", "installHint": "Get it."}, "executable no-such-login not found\n\nGet it."),
    ],
)
def test_programs_that_are_named_wrongly(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        written(tmp_path, {"exec": program(tmp_path, token="t") | change}).load()
    assert said in str(caught.value)


def test_whom_the_user_means(tmp_path: Path) -> None:
    user = {"token": "t", "as": "jane", "as-groups": ["a", "b"], "as-user-extra": {"acme/x": ["1"]}, "as-uid": "7"}
    assert written(tmp_path, user).load().headers == (
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-acme%2Fx", "1"),
    )
    with pytest.raises(KubeconfigError, match="without impersonating a user"):
        written(tmp_path, {"as-groups": ["system:masters"]}).load()


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ({"auth-provider": {"name": "oidc"}}, {}, "user 'me' has auth-provider, which orca does not support"),
        ({"username": "me", "password": "x"}, {}, "user 'me' has username, which orca does not support"),
        ({"token": "t"}, {"proxy-url": "socks5://p"}, "the cluster has proxy-url, which orca does not support"),
    ],
)
def test_what_would_be_left_out_is_refused_by_name(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], said: str
) -> None:
    with pytest.raises(KubeconfigError, match=said):
        written(tmp_path, user, **cluster).load()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "there is no current-context"),
        ({"current-context": "c"}, "there is no context 'c'"),
        ({"current-context": "c", "contexts": [{"name": "c", "context": {}}]}, "the context names no cluster"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(KubeconfigError, match=f"^{path}: {said}$"):
        Kubeconfig(path).load()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"users": 5}, "users is not a list"),
        ({"contexts": {"a": "b"}}, "contexts is not a list"),
        ({"clusters": ["a"]}, "what is in clusters is not an object"),
        ({"contexts": [{"name": "c", "context": "hello"}]}, "context 'c' is not an object"),
    ],
)
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    made = written(tmp_path, {"token": "t"}, **{"insecure-skip-tls-verify": True})
    assert made.load().token == "t"
    made.path.write_text(yaml.safe_dump(yaml.safe_load(made.path.read_text()) | change))
    with pytest.raises(KubeconfigError, match=f"^{made.path}: {said}$"):
        made.load()


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ({}, {"certificate-authority": 5}, "cluster 'k': certificate-authority is not a text"),
        ({}, {"certificate-authority-data": 5}, "cluster 'k': certificate-authority-data is not a text"),
        ({}, {"extensions": ["a"]}, "cluster 'k': what is in extensions is not an object"),
        ({"tokenFile": ["a"]}, {}, "user 'me': tokenFile is not a text"),
        ({"tokenFile": "a\0b"}, {}, "embedded null byte"),
        ({"as": "a", "as-groups": 5}, {}, "user 'me': as-groups is not a list"),
        ({"as": "a", "as-user-extra": ["a"]}, {}, "user 'me': as-user-extra is not an object"),
        ({"as": "a", "as-user-extra": {"a": 5}}, {}, "user 'me': what is in as-user-extra is not a list"),
        ({"exec": {"args": 5}}, {}, "user 'me': exec: args is not a list"),
        ({"exec": {"env": ["a"]}}, {}, "user 'me': exec: what is in env is not an object"),
        ({"exec": "login"}, {}, "user 'me': exec is not an object"),
    ],
)
def test_fields_that_hold_something_else_are_named(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], said: str
) -> None:
    made = written(tmp_path, user, **{"insecure-skip-tls-verify": True, **cluster})
    with pytest.raises(KubeconfigError, match=f"^{made.path}: {said}$"):
        made.load()


async def test_a_server_that_is_not_there_is_told_of_in_words(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = f"https://127.0.0.1:{nobody.getsockname()[1]}"
        written(tmp_path, {"token": "t"}, server=server)
        client = HttpsClient.from_kubeconfig(tmp_path / "kubeconfig")
        with pytest.raises(ApiError, match=f"^{server} cannot be reached: Connection refused$"):
            await client.get(NODES, "a")
        await client.aclose()
