"""An etcd that asks for certificates, and what is said when they do not fit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.auth.pki import Pair
from orca.store import Store
from orca.store.channels import EtcdTls, EtcdTlsInvalid
from orca.store.etcd import Etcd
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.api.store.things import config
from tests.support.etcd import PrivateEtcd, etcd_cluster
from tests.support.patience import PATIENCE
from tests.support.tls import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("etcd-ca"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.files("orca", client=True)


@pytest.fixture(scope="module")
async def members(authority: Authority) -> AsyncIterator[list[PrivateEtcd]]:
    """Each with a certificate for a name of its own, and for the address they share."""
    flags = []
    for name in ("m0", "m1", "m2"):
        pair = authority.files(name, "127.0.0.1")
        flags.append({"cert-file": pair.cert, "key-file": pair.key, "trusted-ca-file": authority.pair.cert})
    async with etcd_cluster(3, flags) as running:
        yield running


def connected(members: list[PrivateEtcd], tls: EtcdTls | None) -> Store:
    return Store(Etcd([f"https://{member.endpoint}" for member in members], tls=tls), shared=True)


async def test_all_members_are_reached_and_may_die(
    members: list[PrivateEtcd], authority: Authority, client: Pair
) -> None:
    store = connected(members, EtcdTls.load(authority.pair.cert, client.cert, client.key))
    await store.start()
    try:
        watch = store.watch(CONFIGMAPS, since=store.revision)
        await watch.start()
        await store.create(CONFIGMAPS, config("first"))
        for number, member in enumerate(members):
            member.kill()
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        await store.create(CONFIGMAPS, config(f"without-{number}"))
                        break
                    except ApiError as error:
                        if error.code == 409:
                            break
                        await asyncio.sleep(0.1)
            await member.start()
            await asyncio.sleep(1)
        names: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while len(names) < 4:
                names += [event.entry.name for event in await watch.batch()]
        assert names == ["first", "without-0", "without-1", "without-2"]
    finally:
        await store.close()


async def test_a_stranger_is_told(members: list[PrivateEtcd], authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    mine = other.files("orca", client=True)
    unverified, unwanted = "CERTIFICATE_VERIFY_FAILED", "does not answer: it hung up on us, and may want"

    async def refused(tls: EtcdTls, why: str) -> None:
        for seconds in (8, 60):  # before which a busy machine may have heard of nothing
            store = connected(members, tls)
            with pytest.raises(ApiError) as caught:
                await store.start(seconds)
            await store.close()
            if why in caught.value.message:
                break
        assert why in caught.value.message

    await asyncio.gather(
        refused(EtcdTls(), unverified),  # the machine's authorities do not know it
        refused(EtcdTls.load(other.pair.cert, mine.cert, mine.key), unverified),
        refused(EtcdTls.load(authority.pair.cert, None, None), unwanted),
        refused(EtcdTls.load(authority.pair.cert, mine.cert, mine.key), unwanted),
    )


def test_files_that_cannot_be_used(authority: Authority, client: Pair, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("nothing")
    other = authority.files("another", client=True)
    for files, text in (
        ((None, client.cert, None), "--etcd-certfile needs --etcd-keyfile, too"),
        ((None, None, client.key), "--etcd-keyfile needs --etcd-certfile, too"),
        ((broken, None, None), f"--etcd-cafile {broken}: no certificates"),
        ((None, client.cert, other.key), "the key does not belong to the certificate"),
        ((None, broken, client.key), f"--etcd-certfile {broken}"),
    ):
        with pytest.raises(EtcdTlsInvalid) as caught:
            EtcdTls.load(*files)
        assert text in str(caught.value)
    for endpoints, text in (
        (["https://a:1", "http://b:1"], "all members by https:// or all by http://"),
        (["ftp://a:1"], "ftp:// is no scheme of etcd"),
        (["http://a:1"], "names http://, but files for TLS are given"),
    ):
        with pytest.raises(EtcdTlsInvalid) as caught:
            Etcd(endpoints, tls=EtcdTls())
        assert text in str(caught.value)


async def test_a_server_on_it(members: list[PrivateEtcd], authority: Authority, client: Pair, tmp_path: Path) -> None:
    servers = "--etcd-servers=" + ",".join(f"https://{member.endpoint}" for member in members)
    trust = f"--etcd-cafile={authority.pair.cert}"
    show = (f"--etcd-certfile={client.cert}", f"--etcd-keyfile={client.key}")
    server = ServerProcess(tmp_path, servers, trust, *show, "--no-controllers")
    await asyncio.to_thread(server.start)
    try:
        async with Api(server.kubeconfig) as api:
            made = await api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "over-tls"}})
            assert made.status == 201
    finally:
        server.kill()
    for flags, text in (
        ((servers, show[0]), "--etcd-certfile needs --etcd-keyfile, too"),
        ((trust,), "are for an etcd named by --etcd-servers"),
    ):
        home = tmp_path / "refused"
        command = [str(Path(sys.executable).parent / "orca"), "server", f"--data-dir={home}", *flags]
        refused = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert refused.returncode != 0
        assert text in refused.stderr
