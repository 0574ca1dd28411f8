"""Encryption at rest without etcd: formats, rules, rotation, and what is said about a wrong file."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
import yaml

from orca.api import errors
from orca.client.clock import VirtualClock
from orca.store.encryption import ConfigFile, ConfigInvalid, Transforms, load_config, parse_config
from orca.store.encryption.reload import POLL_SECONDS
from orca.store.entries import place
from orca.store.faults import Fault, Unreadable
from tests.support.patience import PATIENCE

KEY = b"/registry/core/secrets/default/one"
VALUE = b'{"apiVersion":"v1","kind":"Secret","metadata":{"name":"one"},"data":{"password":"c2VjcmV0"}}'


def secret(letter: str, size: int = 32) -> str:
    return base64.b64encode(letter.encode() * size).decode()


def file(*elements: tuple[list[str], list[dict]]) -> str:
    resources = [{"resources": names, "providers": providers} for names, providers in elements]
    whole = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": resources}
    return yaml.safe_dump(whole)


def keys(provider: str, *names: str) -> dict:
    return {provider: {"keys": [{"name": name, "secret": secret(name[-1])} for name in names]}}


def transforms(*elements: tuple[list[str], list[dict]]) -> Transforms:
    return Transforms(parse_config(file(*elements)))


@pytest.mark.parametrize("provider", ["secretbox", "aesgcm", "aescbc"])
def test_what_is_sealed_is_hidden_and_can_be_opened(provider: str) -> None:
    kept = transforms((["secrets"], [keys(provider, "k1")]))
    sealed = kept.seal(KEY, VALUE)
    assert sealed.startswith(f"k8s:enc:{provider}:v1:k1:".encode())
    assert b"password" not in sealed
    assert kept.open(KEY, sealed) == VALUE
    assert kept.seal(KEY, VALUE) != sealed  # never the same nonce twice


def test_reads_what_kube_apiserver_wrote() -> None:
    # The layouts of Go's libraries: nonce, Poly1305 tag, text; and for GCM nonce, text, tag.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from nacl.bindings import crypto_secretbox

    nonce = b"n" * 24
    stored = b"k8s:enc:secretbox:v1:k1:" + nonce + crypto_secretbox(VALUE, nonce, b"1" * 32)
    assert transforms((["secrets"], [keys("secretbox", "k1")])).open(KEY, stored) == VALUE
    stored = b"k8s:enc:aesgcm:v1:k1:" + nonce[:12] + AESGCM(b"1" * 32).encrypt(nonce[:12], VALUE, KEY)
    assert transforms((["secrets"], [keys("aesgcm", "k1")])).open(KEY, stored) == VALUE


def test_aesgcm_binds_a_value_to_its_key() -> None:
    kept = transforms((["secrets"], [keys("aesgcm", "k1")]))
    sealed = kept.seal(KEY, VALUE)
    assert isinstance(kept.open(b"/registry/core/secrets/default/other", sealed), Fault)


def test_the_first_key_writes_and_all_read() -> None:
    old = transforms((["secrets"], [keys("secretbox", "k1")]))
    both = transforms((["secrets"], [keys("aesgcm", "k2"), keys("secretbox", "k1"), {"identity": {}}]))
    sealed = old.seal(KEY, VALUE)
    assert both.open(KEY, sealed) == VALUE
    assert both.open(KEY, VALUE) == VALUE
    assert both.of(KEY).stale(sealed)
    assert both.of(KEY).stale(VALUE)
    anew = both.seal(KEY, VALUE)
    assert anew.startswith(b"k8s:enc:aesgcm:v1:k2:")
    assert not both.of(KEY).stale(anew)
    assert b"no matching prefix found" in old.open(KEY, anew)


def test_two_keys_of_one_name_are_both_tried() -> None:
    one = {"secretbox": {"keys": [{"name": "k", "secret": secret("a")}]}}
    two = {"secretbox": {"keys": [{"name": "k", "secret": secret("b")}]}}
    sealed = transforms((["secrets"], [two])).seal(KEY, VALUE)
    assert transforms((["secrets"], [one, two])).open(KEY, sealed) == VALUE
    assert b"another key" in transforms((["secrets"], [one])).open(KEY, sealed)


def test_going_back_to_plain_text() -> None:
    kept = transforms((["secrets"], [{"identity": {}}, keys("secretbox", "k1")]))
    sealed = transforms((["secrets"], [keys("secretbox", "k1")])).seal(KEY, VALUE)
    assert kept.open(KEY, sealed) == VALUE
    assert kept.of(KEY).stale(sealed)
    assert kept.seal(KEY, VALUE) == VALUE


def test_first_rule_that_covers_a_resource_counts() -> None:
    kept = transforms(
        (["secrets"], [keys("secretbox", "k1")]),
        (["configmaps"], [{"identity": {}}]),
        (["*."], [keys("secretbox", "k2")]),
        (["widgets.example.com", "*.apps"], [keys("secretbox", "k3")]),
        (["*.*"], [keys("secretbox", "k4")]),
    )
    expected = {
        b"/registry/core/secrets/a/b": b":k1:",
        b"/registry/core/configmaps/a/b": b"",
        b"/registry/core/pods/a/b": b":k2:",
        b"/registry/apps/deployments/a/b": b":k3:",
        b"/registry/example.com/widgets/a": b":k3:",
        b"/registry/batch/jobs/a/b": b":k4:",
    }
    for key, sign in expected.items():
        sealed = kept.seal(key, VALUE)
        assert sealed.split(b":v1")[-1][: len(sign)] == sign if sign else sealed == VALUE, key


def test_damaged_data_is_a_fault() -> None:
    for provider in ("secretbox", "aesgcm", "aescbc"):
        kept = transforms((["secrets"], [keys(provider, "k1")]))
        sealed = kept.seal(KEY, VALUE)
        for broken in (sealed[:-1], sealed[:30], sealed[:-1] + bytes([sealed[-1] ^ 1])):
            opened = kept.open(KEY, broken)
            # CBC has no authentication: a flipped bit may pass, as upstream says of it.
            assert isinstance(opened, Fault) or provider == "aescbc"


def test_encrypted_data_without_a_key_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="identity transformer tried to read encrypted data"):
        place(b"k8s:enc:secretbox:v1:k1:abc", 1)
    with pytest.raises(Unreadable, match="is no object"):
        place(b"junk", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "malformed YAML: line"),
        ("[]", "must be an object of kind EncryptionConfiguration"),
        ("{}", 'apiVersion: Unsupported value: "": supported values: "apiserver.config.k8s.io/v1"'),
        (file(), "resources: Required value: at least one resources is required"),
        (file(([], [{"identity": {}}])), "resources[0].resources: Required value: at least one resources[0].resources"),
        (file((["secrets"], [])), "resources[0].providers: Required value"),
        (file((["secrets"], [{}])), "does not contain any of the expected providers"),
        (file((["secrets"], [{"rot13": {}}])), "resources[0].providers[0].rot13: Forbidden: unknown field"),
        (file((["secrets"], [{"identity": {}, "aesgcm": {}}])), "more than one provider specified in a single element"),
        (file((["secrets"], [{"kms": {"name": "a"}}])), "kms: Forbidden: KMS plugins are not supported by orca"),
        (file((["secrets"], [{"aesgcm": {}}])), "aesgcm.keys: Required value: at least one keys is required"),
        (file((["Secrets"], [{"identity": {}}])), "resource name should not contain capital letters"),
        (file((["*"], [{"identity": {}}])), "use '*.' to encrypt all the resources from core API group"),
        (file((["secrets.*"], [{"identity": {}}])), "encrypting the same resource across groups is not supported"),
        (file((["events.events.k8s.io"], [{"identity": {}}])), "Use 'events' instead in the config file"),
        (file((["secrets", "secrets"], [{"identity": {}}])), "the same resource cannot be specified multiple times"),
        (file((["secrets", "*."], [{"identity": {}}])), "using overlapping resources"),
        (file((["secrets", "*.*"], [{"identity": {}}])), "using overlapping resources"),
    ],
)
def test_a_wrong_file_is_explained(text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as told:
        parse_config(text)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"secret": secret("a")}, "keys[0].name: Required value: name is a mandatory field for a key"),
        ({"name": "a"}, "keys[0].secret: Required value: secret is a mandatory field for a key"),
        ({"name": "a", "secret": "not base64!"}, "secrets must be base64 encoded"),
        ({"name": "a", "secret": secret("a", 16)}, "got 16, expected one of [32]"),
    ],
)
def test_wrong_keys_are_explained_without_showing_them(key: dict, said: str) -> None:
    with pytest.raises(ConfigInvalid) as told:
        parse_config(file((["secrets"], [{"secretbox": {"keys": [key]}}])))
    assert said in str(told.value)
    assert not key.get("secret") or key["secret"] not in str(told.value)


async def test_what_new_keys_open_is_read_once_etcd_is_back(tmp_path: Path) -> None:
    clock, asked = VirtualClock(), 0

    async def mend() -> None:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise errors.service_unavailable("etcd: connection refused")

    path = tmp_path / "config"
    path.write_text(file((["secrets"], [keys("secretbox", "k1")])))
    followed = ConfigFile(path, transforms((["secrets"], [{"identity": {}}])), b"", mend, clock)
    taking = asyncio.create_task(followed.take(path.read_bytes()))
    await clock.advance(60)
    await asyncio.wait_for(taking, PATIENCE)
    assert asked == 3


async def test_who_wants_to_know_hears_of_new_contents(tmp_path: Path) -> None:
    clock, heard = VirtualClock(), []

    class Heard:
        def in_use(self, content: bytes) -> None:
            heard.append(("in use", content))

        def succeeded(self, content: bytes) -> None:
            heard.append(("succeeded", content))

        def failed(self) -> None:
            heard.append(("failed", b""))

    async def mend() -> None:
        pass

    path = tmp_path / "config"
    first, second, third = (file((["secrets"], [keys("secretbox", key)])) for key in ("k1", "k2", "k3"))
    path.write_text(first)
    rules, content = load_config(path)
    followed = ConfigFile(path, rules, content, mend, clock)
    path.write_text(second)  # before anybody follows it
    followed.tell(Heard())
    following = asyncio.create_task(followed.follow())

    async def until(count: int) -> None:
        async with asyncio.timeout(PATIENCE):  # it is read in a thread, which knows nothing of virtual time
            while len(heard) < count:
                await clock.advance(POLL_SECONDS)
                await asyncio.sleep(0.01)

    await until(2)
    assert rules.seal(KEY, VALUE).startswith(b"k8s:enc:secretbox:v1:k2:")
    path.write_text("nonsense")
    await until(3)
    path.write_text(third)
    await until(4)
    following.cancel()
    assert heard == [
        ("in use", first.encode()),
        ("succeeded", second.encode()),
        ("failed", b""),
        ("succeeded", third.encode()),
    ]
