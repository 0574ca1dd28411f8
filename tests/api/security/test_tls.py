"""What happens below HTTP: versions, protocols, and certificates that are not what they should be."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.api.security.authority import SERVER, Authority, client_tls, pem
from tests.api.security.raw import connection, exchange, statuses
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE

SELF = (
    b"POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
)
WHO = SELF + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"


@pytest.mark.parametrize(
    ("version", "works"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)]
)
def test_versions(server: ServerProcess, version: str, works: bool) -> None:
    command = ["openssl", "s_client", version, "-connect", f"127.0.0.1:{server.port}", "-ign_eof"]
    if not works:
        command += ["-cipher", "ALL:@SECLEVEL=0"]
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    done = subprocess.run(command, input=request, capture_output=True, timeout=PATIENCE)
    assert (b"200 OK" in done.stdout) == works
    if not works:
        assert b"unexpected eof" in done.stderr or b"alert protocol version" in done.stderr, done.stderr[-500:]


async def test_weak_ciphers_are_refused(server: ServerProcess) -> None:
    for cipher in ("aNULL:eNULL:@SECLEVEL=0", "RC4:DES:3DES:EXPORT:@SECLEVEL=0"):
        context = client_tls()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.set_ciphers(cipher)
        except ssl.SSLError:
            continue  # this machine's library has none of them
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await exchange(server.port, WHO, context)


async def test_http_2_is_not_offered(server: ServerProcess) -> None:
    context = client_tls()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with connection(server.port, context) as (_, writer):
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() in (None, "http/1.1")


async def test_no_tls_at_all(server: ServerProcess) -> None:
    for data in (WHO, b"\x00" * 500, b"\x16\x03\x01\xff\xff" + b"\x01" * 500, b"SSH-2.0-x\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await reader.read()
        except ConnectionError:
            answer = b""
        writer.close()
        assert statuses(answer) in ([], [400])


async def test_certificates_nobody_should_take(
    server: ServerProcess, authority: Authority, tmp_path: Path, api: Api
) -> None:
    masters = ["system:masters"]
    foreign = Authority.foreign(tmp_path, "strangers")
    lookalike = Authority.foreign(tmp_path, "kubernetes")
    selfsigned = Authority.foreign(tmp_path, "root")
    alone = tmp_path / "alone.pem"
    alone.write_bytes(selfsigned.certificate.public_bytes(serialization.Encoding.PEM) + pem(selfsigned.key))
    bad = {
        "expired": authority.issue("eve", masters, starts=timedelta(days=-2), ends=timedelta(days=-1)),
        "expired a moment ago": authority.issue("eve", masters, ends=timedelta(seconds=-2)),
        "not yet valid": authority.issue("eve", masters, starts=timedelta(hours=1), ends=timedelta(hours=2)),
        "of a foreign authority": foreign.issue("eve", masters),
        "of an authority of the same name": lookalike.issue("eve", masters),
        "its own authority": alone,
        "of a server": authority.issue("eve", masters, usages=[SERVER]),
        "without a name": authority.issue("", masters),
        "of the front proxy": _front_proxy(server, tmp_path),
    }
    for what, identity in bad.items():
        try:
            answer = await exchange(server.port, WHO, client_tls(identity))
        except (ssl.SSLError, ConnectionError):
            continue
        # TLS 1.3 tells the client after the handshake: what matters is that nothing was answered but a refusal.
        assert statuses(answer) in ([], [401]), (what, answer[:300])
    good = await exchange(server.port, WHO, client_tls(authority.issue("grace", ["crew"])))
    assert statuses(good) == [201]
    assert b'"username":"grace"' in good.replace(b" ", b"")
    assert (await api.get("/readyz")).status == 200


def _front_proxy(server: ServerProcess, tmp_path: Path) -> Path:
    pki = server.directory / "data" / "pki"
    path = tmp_path / "proxy.pem"
    path.write_bytes((pki / "front-proxy-client.crt").read_bytes() + (pki / "front-proxy-client.key").read_bytes())
    return path


async def test_identity_headers_of_proxies_mean_nothing(anonymous: Api) -> None:
    headers = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters", "X-Forwarded-Client-Cert": "x"}
    assert (await anonymous.get("/api/v1/secrets", **headers)).status == 403


async def test_only_the_front_proxy_names_users(server: ServerProcess, authority: Authority, tmp_path: Path) -> None:
    """A certificate with the proxy's name is not the proxy's unless the proxy's own authority signed it."""
    posing = WHO.replace(b"Host: x", b"Host: x\r\nX-Remote-User: admin\r\nX-Remote-Group: system:masters")
    for name, groups in (("front-proxy-client", []), ("grace", ["crew"])):
        answer = await exchange(server.port, posing, client_tls(authority.issue(name, groups)))
        assert statuses(answer) == [201]
        assert b"system:masters" not in answer
        assert name.encode() in answer
    foreign = Authority.foreign(tmp_path, "front-proxy-ca").issue("front-proxy-client")
    try:
        answer = await exchange(server.port, posing, client_tls(foreign))
    except (ssl.SSLError, ConnectionError):
        answer = b""
    assert statuses(answer) in ([], [401])
    own = await exchange(server.port, posing, client_tls(_front_proxy(server, tmp_path)))
    assert statuses(own) == [201]
    assert b'"username":"admin"' in own


async def test_a_connection_does_not_outlive_its_certificate(server: ServerProcess, authority: Authority) -> None:
    kept, loop = WHO.replace(b"Connection: close\r\n", b""), asyncio.get_running_loop()
    for seconds in (5, 20, 60):  # a machine that stands still for longer comes too late from the beginning
        ends = loop.time() + seconds
        identity = authority.issue("brief", ends=timedelta(seconds=seconds))
        try:
            async with connection(server.port, client_tls(identity)) as (reader, writer), asyncio.timeout(PATIENCE):
                writer.write(kept)
                assert statuses(await reader.readuntil(b"\r\n\r\n")) == [201]
                await asyncio.sleep(ends + 0.5 - loop.time())
                writer.write(WHO)
                assert statuses(await reader.read())[-1] == 401
                return
        except (AssertionError, ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            if loop.time() < ends - 1 or seconds == 60:  # the end is cut to a whole second
                raise


async def test_a_certificate_and_a_token(server: ServerProcess, authority: Authority) -> None:
    """The certificate counts; a wrong token beside it harms nobody, as upstream."""
    tls = client_tls(authority.issue("both"))
    answer = await exchange(server.port, WHO.replace(b"Host: x", b"Host: x\r\nAuthorization: Bearer nonsense"), tls)
    assert statuses(answer) == [201]


async def test_private_keys_are_for_their_owner_only(server: ServerProcess) -> None:
    keys = [*(server.directory / "data" / "pki").rglob("*.key"), server.kubeconfig]
    assert len(keys) > 4
    for path in keys:
        assert path.stat().st_mode & 0o077 == 0, path
