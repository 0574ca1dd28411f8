"""Images made from Debian packages, for machines that cannot pull any; the same names and commands as upstream's.

Run as ``python -m orca.lab.images [NAME…]``; ``scripts/build-images`` does. What is built already is not built
again: an archive's name holds a hash of its recipe.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca.lab import archive, pythonimage
from orca.lab.layout import IMAGE_CACHE, LabError
from orca.lab.shell import run

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

NGINX_CONF = """\
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SITE = """\
server {
    listen 80;
    server_name localhost;
    location / { root /usr/share/nginx/html; index index.html index.htm; }
    error_page 500 502 503 504 /50x.html;
    location = /50x.html { root /usr/share/nginx/html; }
}
"""
GLIBC = (
    "lib64/ld-linux-x86-64.so.2",
    *(
        f"lib/x86_64-linux-gnu/{library}"
        for library in ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0")
    ),
    "lib/x86_64-linux-gnu/libresolv.so.2",
)
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    "nginx:x:101:101:nginx:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\nnginx:x:101:\n",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an image is made: ``packages`` unpacked, the ``keep`` patterns picked, ``files`` and ``links`` added.

    A package's name may be several with ``|`` between: Debian 12's name, and what Ubuntu calls the same.
    """

    name: str
    tags: tuple[str, ...]
    packages: tuple[str, ...]
    config: dict[str, Any]
    keep: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()
    busybox: bool = False
    tag_variable: str = ""
    everywhere: bool = True
    """Loaded into every lab; others on demand, with ``orca lab load-image``."""
    python: tuple[str, ...] = ()
    """Modules of ours that run in it, with all they need; ``python_data`` are files they read, below ``orca``."""
    python_data: tuple[str, ...] = ()

    @property
    def needs(self) -> pythonimage.Needs | None:
        """What of Python goes into it."""
        return pythonimage.needs(self.python, self.python_data) if self.python else None

    @property
    def archive(self) -> Path:
        parts = [self.name, self.tags, self.packages, self.config, self.keep, self.files, self.links, self.directories]
        text = json.dumps([*parts, self.busybox, self.tag_variable], sort_keys=True)
        if self.needs is not None:
            text += self.needs.digest()
        return IMAGE_CACHE / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.tar"


RECIPES = (
    Recipe(
        name="pause",
        tags=("orca/pause:1",),
        packages=("catatonit",),
        keep=("usr/bin/catatonit",),
        config={"Entrypoint": ["/usr/bin/catatonit", "-P"], "Env": [PATH]},
    ),
    Recipe(
        name="busybox",
        tags=("busybox:latest", "busybox:1.28", "busybox:1.36"),
        # Not busybox-static: its applets could not load the C library's name service modules.
        packages=("busybox", "libc6"),
        keep=("bin/busybox", *GLIBC),
        busybox=True,
        files=ACCOUNTS,
        directories=("tmp", "root", "var/www", "home"),
        config={"Cmd": ["sh"], "Env": [PATH]},
    ),
    Recipe(
        name="nginx",
        tags=("nginx:latest", "nginx:1.22.1", "nginx:1.14.2", "nginx:1.16.1", "nginx:alpine"),
        packages=(
            "nginx",
            "nginx-common",
            "busybox",
            "libc6",
            "libcrypt1",
            "libpcre2-8-0",
            "libssl3|libssl3t64",
            "zlib1g",
        ),
        keep=(
            "usr/sbin/nginx",
            "usr/share/nginx/html",
            "etc/nginx/mime.types",
            "bin/busybox",
            *GLIBC,
            "lib/x86_64-linux-gnu/libz.so*",
            "lib/x86_64-linux-gnu/libcrypt.so*",
            "usr/lib/x86_64-linux-gnu/libpcre2-8.so*",
            "usr/lib/x86_64-linux-gnu/libssl.so*",
            "usr/lib/x86_64-linux-gnu/libcrypto.so*",
        ),
        busybox=True,
        files={**ACCOUNTS, "etc/nginx/nginx.conf": NGINX_CONF, "etc/nginx/conf.d/default.conf": NGINX_SITE},
        links={"var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"},
        directories=("tmp", "root", "run", "var/log/nginx", "var/lib/nginx", "var/cache/nginx"),
        config={
            "Cmd": ["nginx", "-g", "daemon off;"],
            "Env": [PATH],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
        },
        tag_variable="NGINX_TAG",
    ),
    Recipe(
        name="ingress",
        tags=("orca/ingress-nginx:1",),
        packages=(
            "nginx",
            "nginx-common",
            "libnginx-mod-http-ndk",
            "libnginx-mod-http-lua",
            "lua-resty-core",
            "lua-resty-lrucache",
            "libluajit2-5.1-2",
            "libpcre3",
            "libpcre2-8-0",
            "libcrypt1",
            "libc6",
            "libssl3|libssl3t64",
            "zlib1g",
            "catatonit",
            *pythonimage.PACKAGES,
        ),
        keep=(
            "usr/sbin/nginx",
            "usr/bin/catatonit",
            "usr/lib/nginx/modules/ndk_http_module.so",
            "usr/lib/nginx/modules/ngx_http_lua_module.so",
            "usr/share/lua/5.1/ngx",
            "usr/share/lua/5.1/resty",
            "etc/nginx/mime.types",
            *GLIBC,
            "lib/x86_64-linux-gnu/libz.so*",
            "lib/x86_64-linux-gnu/libcrypt.so*",
            "lib/x86_64-linux-gnu/libpcre.so*",
            "usr/lib/x86_64-linux-gnu/libluajit-5.1.so*",
            "usr/lib/x86_64-linux-gnu/libpcre2-8.so*",
            "usr/lib/x86_64-linux-gnu/libssl.so*",
            "usr/lib/x86_64-linux-gnu/libcrypto.so*",
            *pythonimage.KEEP,
        ),
        files={**ACCOUNTS},
        links=pythonimage.LINKS,
        directories=("tmp", "run/orca-ingress", "var/lib/nginx"),
        config={
            "Entrypoint": ["/usr/bin/catatonit", "--", "/usr/bin/python3", "-m", "orca.cli", "ingress"],
            "Env": [PATH, "PYTHONUNBUFFERED=1"],
            "User": "101:101",
            "ExposedPorts": {"8080/tcp": {}, "8443/tcp": {}},
            "StopSignal": "SIGTERM",
        },
        python=("orca.cli.ingress", "orca.ingress.certificates", "cryptography.x509"),
        python_data=("cli/__main__.py", "ingress/__main__.py", "ingress/balancer.lua"),
        everywhere=False,
    ),
    Recipe(
        name="perl",
        tags=("perl:latest", "perl:5"),
        packages=("perl-base", "busybox", "libc6", "libcrypt1"),
        keep=(
            "usr/bin/perl",
            "usr/lib/x86_64-linux-gnu/perl-base",
            "bin/busybox",
            *GLIBC,
            "lib/x86_64-linux-gnu/libcrypt.so*",
        ),
        busybox=True,
        files=ACCOUNTS,
        directories=("tmp", "root"),
        config={"Cmd": ["perl", "-de0"], "Env": [PATH]},
        everywhere=False,
    ),
)


def build(recipe: Recipe) -> Path:
    """Make the archive unless it is there and return its path; raises ``LabError`` when a package cannot be had."""
    target = recipe.archive
    if target.exists():
        return target
    IMAGE_CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="orca-image-") as scratch:
        unpacked, tree = Path(scratch, "unpacked"), Path(scratch, "tree")
        unpacked.mkdir()
        tree.mkdir()
        _unpack(recipe.packages, Path(scratch), unpacked)
        _pick(recipe, unpacked, tree)
        _finish(recipe, tree)
        if recipe.needs is not None:
            pythonimage.put(tree, recipe.needs)
        archive.write(target, tree, *_images(recipe))
    if recipe.python:
        # Every change of our code makes another; nobody wants those of former ones.
        for former in IMAGE_CACHE.glob(f"{recipe.name}-{'?' * 12}.tar"):
            if former != target:
                former.unlink(missing_ok=True)
    return target


def build_all(say: Callable[[str], None]) -> list[Path]:
    """Make the archives that every lab gets, where they are missing, and return their paths."""
    wanted = [recipe for recipe in RECIPES if recipe.everywhere]
    for recipe in wanted:
        if not recipe.archive.exists():
            say(f"image {recipe.name}: from {', '.join(recipe.packages)}")
        build(recipe)
    return [recipe.archive for recipe in wanted]


def _known(names: str) -> str:
    """The first of several package names that apt can install here."""
    *others, last = names.split("|")
    for name in others:
        said = run("apt-cache", "policy", name)
        if said and "Candidate: (none)" not in said:
            return name
    return last


def _download(packages: tuple[str, ...], into: Path) -> None:
    argv = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *map(_known, packages)]
    done = subprocess.run(argv, cwd=into, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _unpack(packages: tuple[str, ...], scratch: Path, into: Path) -> None:
    try:
        _download(packages, scratch)
    except LabError:
        # The machine's package lists are missing, or so old that the server has newer versions only.
        run("apt-get", "-qq", "update", check=False, timeout=300)
        _download(packages, scratch)
    for package in sorted(scratch.glob("*.deb")):
        run("dpkg-deb", "-x", str(package), str(into))
    for name in ("bin", "lib", "lib64", "sbin"):
        _merge(into / name, into / "usr" / name)


def _merge(directory: Path, into: Path) -> None:
    """Make the two one, as they are on an installed system; some releases pack into this one, some into that one."""
    if directory.exists():
        shutil.copytree(directory, into, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(directory)
    if into.exists():
        directory.symlink_to(into)


def _pick(recipe: Recipe, unpacked: Path, tree: Path) -> None:
    for pattern in recipe.keep:
        found = sorted(unpacked.glob(pattern))
        if not found:
            raise LabError(f"image {recipe.name}: {pattern} is in none of {', '.join(recipe.packages)}")
        for source in found:
            target = tree / source.relative_to(unpacked)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir() and not source.is_symlink():
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target, follow_symlinks=False)


def _finish(recipe: Recipe, tree: Path) -> None:
    for directory in recipe.directories:
        (tree / directory).mkdir(parents=True, exist_ok=True)
    if (tree / "tmp").exists():
        (tree / "tmp").chmod(0o1777)
    for name, text in recipe.files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    for name, to in recipe.links.items():
        (tree / name).symlink_to(to)
    if recipe.busybox:
        for applet in run(str(tree / "bin/busybox"), "--list").split():
            if not (tree / "bin" / applet).exists():
                (tree / "bin" / applet).symlink_to("busybox")


def _images(recipe: Recipe) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, Any]]]:
    """Tags and configs by image: one image for all tags or, with ``tag_variable``, one a tag."""
    if not recipe.tag_variable:
        return {recipe.name: recipe.tags}, {recipe.name: recipe.config}
    configs = {
        tag: {**recipe.config, "Env": [*recipe.config["Env"], f"{recipe.tag_variable}={tag.partition(':')[2]}"]}
        for tag in recipe.tags
    }
    return {tag: (tag,) for tag in recipe.tags}, configs


def main() -> None:
    """Build what is missing of the images named on the command line, or of all; print each one's archive and tags."""
    wanted = sys.argv[1:]
    for recipe in RECIPES:
        if wanted and recipe.name not in wanted:
            continue
        build(recipe)
        print(f"{recipe.archive}\t{' '.join(recipe.tags)}")


if __name__ == "__main__":
    main()
