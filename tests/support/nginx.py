"""The real nginx of the ingress image, run from its unpacked archive: no engine, no installation."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

from orca.lab import images


def unpack(into: Path) -> Path:
    """The tree of the ingress image, nginx and what it needs; it is built when it is not there yet."""
    (whole,) = [one for one in images.RECIPES if one.name == "ingress"]
    # Without our own program, so that a change of it makes no new image.
    recipe = replace(whole, name="ingress-nginx", python=(), python_data=())
    with tarfile.open(images.build(recipe)) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (layer,) = json.load(manifest)[0]["Layers"]
        content = archive.extractfile(layer)
        assert content is not None
        with tarfile.open(fileobj=io.BytesIO(content.read())) as tree:
            # Debian 12's Python knows no filters yet.
            tree.extraction_filter = getattr(tarfile, "tar_filter", lambda member, _: member)
            tree.extractall(into)
    return into


def program(tree: Path) -> Path:
    """A script that runs the tree's nginx with the tree's own libraries."""
    libraries = ":".join(str(tree / part) for part in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"))
    script = tree / "nginx"
    loader = tree / "lib64/ld-linux-x86-64.so.2"
    script.write_text(f'#!/bin/sh\nexec {loader} --library-path {libraries} {tree}/usr/sbin/nginx "$@"\n')
    script.chmod(0o755)
    return script
