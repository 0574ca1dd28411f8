"""Certificates as the agent reads them without `cryptography`, and the process that makes requests with it."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from agents.aside import AsideError, ask
from agents.node import certificates, der, keys
from agents.node.join import CLUSTER_INFO, JoinError, fetch_ca, join
from agents.node.keyring import CLIENT, SERVING, Keyring
from agents.node.requesting import prepare
from orca.client.base import Client
from orca.client.clock import VirtualClock
from tests.support.patience import PATIENCE

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Authority:
    """A CA with a certificate of its own."""

    key: Key
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pin(self) -> str:
        info = self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(info).hexdigest()


def issue(
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    signer: Key,
    *,
    issuer: str = "ca",
    names: tuple[x509.GeneralName, ...] = (),
    until: datetime.datetime = START + datetime.timedelta(days=3650),
    ca: bool = False,
) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(subject).public_key(public)
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(START).not_valid_after(until)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def authority(common_name: str = "ca", *, strong: bool = False) -> Authority:
    key = rsa.generate_private_key(65537, 2048) if strong else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return Authority(key, issue(subject, key.public_key(), key, issuer=common_name, ca=True))


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


CA = authority()

SUBJECTS = {
    "none": x509.Name([]),
    "a node": x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, "system:node:host-1"),
        ]
    ),
    "of several scripts": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Straße 東京")]),
    "in two bytes": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Größe", x509.name._ASN1Type.BMPString)]),
}
NAMES: dict[str, tuple[x509.GeneralName, ...]] = {
    "none": (),
    "both families": (
        x509.DNSName("host-1"),
        x509.DNSName("*.example.com"),
        x509.IPAddress(ipaddress.ip_address("172.30.0.11")),
        x509.IPAddress(ipaddress.ip_address("fd00::11")),
    ),
    "of other types": (x509.UniformResourceIdentifier("spiffe://x"), x509.DNSName("a"), x509.RFC822Name("a@b")),
    "many": tuple(x509.DNSName(f"name-{number}.example.com") for number in range(300)),
}


@pytest.mark.parametrize("until", [2049, 2050, 2051, 9999])
@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_certificate_says_what_the_library_reads(subject: str, names: str, until: int) -> None:
    end = datetime.datetime(until, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issue(SUBJECTS[subject], key.public_key(), CA.key, names=NAMES[names], until=end)
    found = certificates.read_certificate(b"before\n" + pem(certificate) + CA.pem)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert found == certificates.CertificateFacts(
        common_name=str(common[0].value) if common else "",
        names=frozenset(str(one.value) for one in NAMES[names] if isinstance(one, x509.DNSName | x509.IPAddress)),
        not_before=START,
        not_after=end,
    )


def test_times_of_the_last_century() -> None:
    assert der.Element(der.UTC_TIME, b"991231235959Z", b"").time().year == 1999
    for wrong in (b"9912312359Z", b"991231235959+0100", b"991331235959Z", b"", b"99123123595\xb2Z"):
        with pytest.raises(ValueError):
            der.Element(der.UTC_TIME, wrong, b"").time()


def test_keys_of_a_bundle_are_hashed_as_join_tokens_have_them() -> None:
    others = [authority("elder", strong=True), CA]
    bundle = b"# comment\n" + b"\n".join(one.pem for one in others)
    assert certificates.certificates_by_key(bundle) == {one.pin: one.pem for one in others}
    assert certificates.certificates_by_key(b"") == {}


def test_what_is_trusted_is_what_was_hashed() -> None:
    first, rest = CA.pem.split(b"\n", 1)
    for disguised in (first + b"\n: !\n" + rest, first + b"\n\n--\n" + rest):
        assert certificates.certificates_by_key(disguised) == {CA.pin: CA.pem}


def test_an_empty_extension_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        certificates._alternative_names(der.parse(bytes.fromhex("a304 3002 3000")))


@given(st.data())
def test_what_is_no_certificate_is_a_value_error_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(CA.certificate.public_bytes(serialization.Encoding.DER))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=3)):
        whole[at] = byte
    text = ssl.DER_cert_to_PEM_cert(bytes(whole[: data.draw(st.integers(0, len(whole)))])).encode()
    for read in (certificates.read_certificate, certificates.certificates_by_key):
        try:
            read(text)
        except ValueError:
            pass


@pytest.mark.parametrize(
    "raw", ["", "30", "3080", "308100", "3082000130", "300201", "1f8101", "0500" * 2, "30850000000000"]
)
def test_what_is_not_der_is_refused(raw: str) -> None:
    with pytest.raises(ValueError):
        der.parse(bytes.fromhex(raw)).children()


def answered(key: bytes, names: tuple[x509.GeneralName, ...] = ()) -> bytes:
    """A certificate for a private key."""
    private = serialization.load_pem_private_key(key, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return pem(issue(SUBJECTS["a node"], private.public_key(), CA.key, names=names))


def test_a_certificate_for_another_key_changes_nothing(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    keyring.keep_pending_key(SERVING, keys.new_key())
    keyring.accept(SERVING, answered(keyring.pending_key(SERVING)))
    before = keyring.pair(SERVING).read_bytes()
    keyring.keep_pending_key(SERVING, keys.new_key())
    for wrong in (answered(keys.new_key()), b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ValueError):
            keyring.accept(SERVING, wrong)
        assert keyring.pair(SERVING).read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["serving.key.pending", "serving.pem"]
    keyring.accept(SERVING, answered(keyring.pending_key(SERVING)))
    assert os.listdir(tmp_path) == ["serving.pem"]
    with pytest.raises(ValueError, match="does not fit the key"):
        keyring.accept(SERVING, answered(keys.new_key()))


async def test_requests_come_from_another_process_that_keeps_a_key_it_is_given() -> None:
    first = await prepare(b"", "host-1", ["host-1", "fd00::11"])
    again, other = await asyncio.gather(prepare(first.key, "host-1", ()), prepare(b"\0\xff cut off", "host-1", ()))
    assert first.key == again.key != other.key
    assert first.public_key == again.public_key != other.public_key
    request = x509.load_pem_x509_csr(first.request)
    assert request.is_signature_valid
    assert request.subject == SUBJECTS["a node"]
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["host-1", "fd00::11"]


async def test_a_process_that_fails_says_so() -> None:
    with pytest.raises(AsideError, match="KeyError"):
        await ask("agents.node.requesting", {})
    with pytest.raises(AsideError, match="not within"):
        await ask("agents.node.requesting", {}, seconds=0)


def test_an_agent_killed_while_a_key_is_made_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from agents.node.keyring import Keyring;"
        "from agents.node.requesting import prepare\n"
        "async def main():\n"
        " made = await prepare(b'', 'host-1', ())\n"
        " Keyring(Path(sys.argv[1])).keep_pending_key('client', made.key)\n"
        "asyncio.run(main())"
    )
    for attempt in range(20):
        root = tmp_path / str(attempt)
        root.mkdir()
        agent = subprocess.Popen([sys.executable, "-P", "-c", code, str(root)])
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
        try:
            while not (found := children.read_text().split()) and agent.poll() is None:
                time.sleep(0.002)
        finally:
            agent.send_signal(signal.SIGKILL)
            agent.wait()
        patience = time.monotonic() + PATIENCE
        while any(_runs(int(pid)) for pid in found):
            assert time.monotonic() < patience, "the process that makes keys outlives its agent"
            time.sleep(0.01)
        if not Keyring(root).pending_key("client"):
            break  # else it was done before it could be killed
    assert os.listdir(root) == []
    done = asyncio.run(prepare(Keyring(root).pending_key("client"), "host-1", ()))
    assert keys.usable(done.key)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@asynccontextmanager
async def serving(signer: Authority, tmp_path: Path, answer: Callable[[], str]) -> AsyncIterator[str]:
    """A server of cluster-info whose certificate is by ``signer``."""
    key = ec.generate_private_key(ec.SECP256R1())
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    own = issue(SUBJECTS["a node"], key.public_key(), signer.key, names=(address,), issuer=_name(signer))
    pair = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair.write_bytes(pem(own) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)

    async def page(_: web.Request) -> web.Response:
        return web.json_response({"data": {"ca.crt": answer()}})

    app = web.Application()
    app.router.add_get(CLUSTER_INFO, page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _name(signer: Authority) -> str:
    return str(signer.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def test_the_pinned_ca_vouches_for_the_rest_of_the_bundle(tmp_path: Path) -> None:
    following = authority("following")
    bundle = CA.pem + following.pem
    async with serving(CA, tmp_path, bundle.decode) as url:
        assert await fetch_ca(url, CA.pin) == bundle
        with pytest.raises(JoinError, match="is not the one this token was made for"):
            await fetch_ca(url, authority().pin)


async def test_somebody_in_between_cannot_add_a_ca_of_his_own(tmp_path: Path) -> None:
    his = authority("his")
    async with serving(his, tmp_path, (CA.pem + his.pem).decode) as url:
        with pytest.raises(JoinError, match="is not trusted by the CA this token was made for"):
            await fetch_ca(url, CA.pin)
    broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
    async with serving(his, tmp_path, lambda: broken) as url:
        with pytest.raises(JoinError, match="does not answer as it should"):
            await fetch_ca(url, CA.pin)


async def test_a_host_that_was_of_another_cluster_joins_that_of_its_token(tmp_path: Path) -> None:
    """Only if the server is that token's and no longer that of what the host keeps: a CA may follow another one, and
    a server may be away for a while."""
    key, other, third = ec.generate_private_key(ec.SECP256R1()), authority("other"), authority("third")
    keyring = Keyring(tmp_path / "pki")
    keyring.write(keyring.pair(CLIENT), pem(issue(SUBJECTS["a node"], key.public_key(), CA.key)))

    class Asked(Exception):
        pass

    def connect(_: Path) -> Client:
        raise Asked

    async def joined(url: str, kept: bytes, pin: str) -> bool:
        """Whether it makes do with what it has."""
        keyring.write(keyring.ca, kept)
        token = f"abcdef.0123456789abcdef.{pin}"
        try:
            await join(keyring, server=url, token=token, node_name="host-1", clock=VirtualClock(START), connect=connect)
        except Asked:
            assert keyring.ca.read_bytes() == other.pem
            return False
        assert keyring.ca.read_bytes() == kept
        return True

    async with serving(other, tmp_path, other.pem.decode) as url:
        assert not await joined(url, CA.pem, other.pin)
        assert not await joined(url, b"torn", other.pin)
        assert await joined(url, CA.pem, CA.pin), "neither is the server's: a person has to look"
        assert await joined(url, CA.pem, third.pin)
        assert await joined(url, CA.pem + other.pem, third.pin), "the CA of its token was replaced"
    assert await joined(url, CA.pem, other.pin), "nobody answers"
