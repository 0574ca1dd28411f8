"""The kernel's NFS server, version 4 alone, for one directory in memory."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("nfs-common", "nfs-kernel-server", "libwrap0", "libtirpc3", "libevent-core-2.1-7", "libnfsidmap1")
ROOT = Path("/srv/nfs")
ADDRESS = "127.0.0.1"
_PROC = Path("/proc/fs/nfsd")


@contextmanager
def serving() -> Iterator[Path]:
    """The directory that is the root of all that is exported."""
    ROOT.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "nfs", str(ROOT))
    for state in ("", "sm", "v4recovery"):
        (Path("/var/lib/nfs") / state).mkdir(parents=True, exist_ok=True)
    for table in ("/var/lib/nfs/etab", "/var/lib/nfs/rmtab", "/etc/exports"):
        Path(table).touch()
    Path("/run/lock").mkdir(parents=True, exist_ok=True)
    _run("modprobe", "nfsd")
    _run("mount", "-t", "nfsd", "nfsd", str(_PROC))
    # Clients of an earlier life would be waited for.
    for name in ("nfsv4leasetime", "nfsv4gracetime"):
        (_PROC / name).write_text("10")
    _run("exportfs", "-o", "rw,no_root_squash,no_subtree_check,insecure,fsid=0", f"*:{ROOT}")
    _run("rpc.mountd", "--no-nfs-version", "3")
    _run("rpc.nfsd", "--no-nfs-version", "3", "2")
    (_PROC / "v4_end_grace").write_text("Y")
    yield ROOT


def _run(*argv: str) -> None:
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        why = done.stderr.strip() or done.stdout.strip()
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode} after {time.monotonic() - began:.1f} s: {why}")
