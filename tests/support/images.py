"""Tiny images from Debian's static binaries, as ``docker load`` archives: tests never need a registry."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PAUSE = "orca/pause:1"
BUSYBOX = "busybox:latest"
APPLETS = """
    sh ash cat echo sleep true false ls id env hostname httpd nc wget touch test grep kill ps printf mkdir rm head
    date seq tail chmod chown stat mount df dd tr wc cut readlink ip nslookup top nohup awk sed sort uniq
"""


def archive(
    tag: str,
    files: Mapping[str, bytes],
    *,
    links: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
    user: str = "",
) -> bytes:
    """A ``docker load`` archive of one layer; ``files`` are executables, ``links`` symlinks; no leading /."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for directory in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "var"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(entry)
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for path, target in (links or {}).items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    diff = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(entrypoint) or None,
                "Cmd": list(command) or None,
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "User": user,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
            "history": [],
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": [f"{diff}/layer.tar"]}]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in {
            config_name: config,
            f"{diff}/layer.tar": layer.getvalue(),
            "manifest.json": manifest,
        }.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def pause() -> bytes:
    """``orca/pause:1``: Debian's catatonit waiting and reaping."""
    return archive(PAUSE, {"pause": Path("/usr/bin/catatonit").read_bytes()}, entrypoint=["/pause", "-P"])


def busybox() -> bytes:
    """``busybox:latest`` with the applets tests use."""
    return archive(
        BUSYBOX,
        {"bin/busybox": Path("/bin/busybox").read_bytes()},
        links={f"bin/{applet}": "busybox" for applet in APPLETS.split()},
        command=["sh"],
    )
