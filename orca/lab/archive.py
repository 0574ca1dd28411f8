"""Writes a docker archive (what ``docker load`` reads) from a directory tree, without any engine.

The layout is Docker's image tarball, version 1.2: ``manifest.json``, one config per image, one tar per layer.
Archives are reproducible: the same tree and configuration give the same image id.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EPOCH = 1_700_000_000  # a fixed time for every file and image, so that ids depend on contents alone
CREATED = "2023-11-14T22:13:20Z"
ARCHITECTURE = "amd64"


def write(target: Path, tree: Path, images: Mapping[str, Sequence[str]], configs: Mapping[str, dict[str, Any]]) -> None:
    """Write an archive with one layer shared by several images.

    ``images`` maps an image's key to its tags (``nginx:latest``), ``configs`` maps the same key to its OCI config
    (``Entrypoint``, ``Cmd``, ``Env`` …).
    """
    layer = _layer(tree)
    digest = hashlib.sha256(layer).hexdigest()
    manifest = []
    temporary = target.with_suffix(".new")
    with tarfile.open(temporary, "w") as archive:
        _add(archive, f"{digest}/layer.tar", layer)
        for key, tags in images.items():
            document = {
                "architecture": ARCHITECTURE,
                "os": "linux",
                "created": CREATED,
                "config": configs[key],
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                "history": [{"created": CREATED, "created_by": "scripts/build-images"}],
            }
            config = json.dumps(document, sort_keys=True).encode()
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(archive, name, config)
            manifest.append({"Config": name, "RepoTags": list(tags), "Layers": [f"{digest}/layer.tar"]})
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    temporary.replace(target)


def _layer(tree: Path) -> bytes:
    """The tree as a tar: sorted, owned by root, with one fixed time."""
    buffer = io.BytesIO()

    def settle(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = EPOCH
        return member

    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(tree.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(tree)), recursive=False, filter=settle)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), EPOCH, 0o644
    archive.addfile(member, io.BytesIO(data))
