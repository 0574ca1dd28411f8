"""Writing kubeconfigs with everything inside, so that the one file can be carried to another machine."""

from base64 import b64encode
from pathlib import Path

import yaml

from orca.auth.pki import Pair, write_private


def write_kubeconfig(path: str | Path, *, server: str, ca: bytes, pair: Pair, user: str, cluster: str = "orca") -> bool:
    """Write a kubeconfig (0600) with the certificate and key of ``pair``; ``ca`` is PEM. False when nothing changed.

    Raises OSError.
    """
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": _text(ca)}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _text(pair.cert.read_bytes()),
                    "client-key-data": _text(pair.key.read_bytes()),
                },
            }
        ],
        "contexts": [{"name": f"{user}@{cluster}", "context": {"cluster": cluster, "user": user}}],
        "current-context": f"{user}@{cluster}",
    }
    target, encoded = Path(path), yaml.safe_dump(content, sort_keys=False).encode()
    try:
        if target.read_bytes() == encoded:
            return False
    except FileNotFoundError:
        pass
    write_private(target, encoded)
    return True


def _text(data: bytes) -> str:
    return b64encode(data).decode()
