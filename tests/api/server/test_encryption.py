"""Encryption at rest as an administrator does it: a file, a server, kubectl, a rotation."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE


def write(path: Path, *names: str, plain_first: bool = False) -> None:
    keys = "".join(
        f"\n          - {{name: {name}, secret: {base64.b64encode(name[-1].encode() * 32).decode()}}}" for name in names
    )
    box = f"      - secretbox:\n          keys:{keys}\n"
    plain = "      - identity: {}\n"
    path.write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
        "  - resources: [secrets]\n    providers:\n" + (plain + box if plain_first else box + plain)
    )


def etcd_holds(server: ServerProcess, word: bytes) -> bool:
    """Whether etcd's files, write-ahead log included, contain a text."""
    files = (server.directory / "data" / "etcd").rglob("*")
    return any(word in file.read_bytes() for file in files if file.is_file())


def test_secrets_are_hidden_and_keys_rotate(tmp_path: Path) -> None:
    file = tmp_path / "encryption.yaml"
    write(file, "k1")
    server = ServerProcess(
        tmp_path,
        "--no-controllers",
        f"--encryption-provider-config={file}",
        "--encryption-provider-config-automatic-reload",
    )
    server.start()
    try:
        kubectl = Kubectl(kubectls.current(), server.kubeconfig)
        kubectl("create", "secret", "generic", "one", "--from-literal=password=correct-horse")
        kubectl("create", "configmap", "open", "--from-literal=word=battery-staple")
        encoded = base64.b64encode(b"correct-horse")
        assert kubectl("get", "secret", "one", "-o", "jsonpath={.data.password}").encode() == encoded
        assert not etcd_holds(server, encoded)
        assert etcd_holds(server, b"battery-staple")
        # Rotation: the new key first, the old one kept for reading; then everything is written anew.
        write(file, "k2", "k1")

        def rotated() -> bool:
            objects = kubectl("get", "secrets", "-A", "-o", "json")
            kubectl("replace", "-f", "-", stdin=objects)
            return etcd_holds(server, b"k8s:enc:secretbox:v1:k2:")

        eventually(rotated, every=1)
        # The old key is not needed any more, also not by a server that starts.
        server.stop()
        write(file, "k2")
        server.start()
        assert kubectl("get", "secret", "one", "-o", "jsonpath={.data.password}").encode() == encoded
        # With the wrong key the server lives, and says which object it cannot read.
        server.stop()
        write(file, "k3")
        server.start()
        refused = kubectl.try_("get", "secret", "one")
        assert "unable to transform key" in refused.err
        assert "/registry/core/secrets/default/one" in refused.err
        assert kubectl("get", "configmap", "open", "-o", "jsonpath={.data.word}") == "battery-staple"
    finally:
        server.stop()
        shutil.rmtree(server.directory / "data", ignore_errors=True)


def test_a_wrong_file_keeps_the_server_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "encryption.yaml"
    file.write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
        "  - resources: [secrets]\n    providers:\n      - kms: {name: vault, endpoint: unix:///run/kms}\n"
    )
    server = ServerProcess(tmp_path, "--no-controllers", f"--encryption-provider-config={file}")
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "resources[0].providers[0].kms: Forbidden: KMS plugins are not supported by orca" in done.stderr
    assert not (server.directory / "data" / "etcd").exists()
