"""What a Python program of ours needs in an image: Debian's interpreter, the libraries it loads, our own modules.

Nothing is listed by hand: the program's modules are loaded once in a process of their own, and what came with them is
what it needs. Libraries are those of the environment this runs in, so the interpreter must be of the same version.
"""

from __future__ import annotations

import compileall
import functools
import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from py_compile import PycInvalidationMode

import orca
from orca.lab.layout import LabError

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = (
    f"{VERSION}-minimal",
    f"lib{VERSION}-minimal",
    f"lib{VERSION}-stdlib",
    "libexpat1|libexpat1t64",
    "libffi8|libffi8t64",
    "libgcc-s1",
)
KEEP = (
    f"usr/bin/{VERSION}",
    f"usr/lib/{VERSION}",
    "lib/x86_64-linux-gnu/libexpat.so*",
    "usr/lib/x86_64-linux-gnu/libffi.so*",
    "lib/x86_64-linux-gnu/libgcc_s.so*",
)
LINKS = {"usr/bin/python3": VERSION}
LIBRARIES = PurePosixPath("usr/lib/python3/dist-packages")
_UNUSED = ("ensurepip", "lib2to3", "pydoc_data", "test", "idlelib", "tkinter", "turtledemo")
_LIST = """
import importlib, json, sys
sys.modules["rich"] = None  # structlog loads it when it is there, for nothing
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([[name, getattr(module, "__file__", None)] for name, module in sys.modules.items() if module]))
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """``modules`` are files of ours below the directory of the package ``orca``; ``libraries`` are distributions.
    ``loaded`` are the files of libraries and of the standard library that are loaded at the start."""

    modules: tuple[str, ...]
    libraries: tuple[str, ...]
    loaded: frozenset[str]

    def digest(self) -> str:
        """Changes when anything of it does."""
        root = Path(orca.__path__[0])
        parts = [VERSION, *(f"{name} {metadata.version(name)}" for name in self.libraries)]
        parts += [f"{file} {hashlib.sha256((root / file).read_bytes()).hexdigest()}" for file in self.modules]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@functools.cache
def needs(modules: tuple[str, ...], data: tuple[str, ...] = ()) -> Needs:
    """What these modules load; ``data`` are more files below ``orca``. Raises LabError when they cannot be loaded."""
    ran = subprocess.run([sys.executable, "-c", _LIST, *modules], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise LabError(f"{', '.join(modules)} cannot be loaded: {ran.stderr.strip()[-500:]}")
    root = Path(orca.__path__[0])
    owners = metadata.packages_distributions()
    own, libraries, loaded = set(data), set[str](), set[str]()
    places = {sysconfig.get_path("stdlib"): PurePosixPath("usr/lib", VERSION)}
    places |= {sysconfig.get_path(kind): LIBRARIES for kind in ("purelib", "platlib")}
    for name, file in json.loads(ran.stdout):
        if not file:
            continue
        if name.partition(".")[0] == "orca":
            own.add(str(Path(file).relative_to(root)))
            continue
        if "site-packages" in Path(file).parts:
            libraries.update(owners.get(name.partition(".")[0], ()))
        for place in sorted(places, key=len, reverse=True):
            if file.endswith(".py") and Path(file).is_relative_to(place):
                loaded.add(str(places[place] / Path(file).relative_to(place)))
                break
    libraries -= {"orca", "setuptools"}  # an editable installation loads helpers of its own
    return Needs(tuple(sorted(own)), tuple(sorted(libraries)), frozenset(loaded))


def put(tree: Path, wanted: Needs) -> None:
    """Copies it all into an image's tree, and compiles what is loaded: nobody can while the program runs."""
    into = tree / LIBRARIES
    for library in wanted.libraries:
        distribution = metadata.distribution(library)
        for file in distribution.files or ():
            if ".." in file.parts or file.suffix in (".pyc", ".pth") or file.parts[0].endswith(".dist-info"):
                continue
            _copy(Path(str(distribution.locate_file(file))), into / file)
    for module in wanted.modules:
        _copy(Path(orca.__path__[0]) / module, into / "orca" / module)
    for unused in _UNUSED:
        shutil.rmtree(tree / "usr/lib" / VERSION / unused, ignore_errors=True)
    compiled = {*wanted.loaded, *(str(LIBRARIES / "orca" / module) for module in wanted.modules)}
    for loaded in sorted(compiled):
        compileall.compile_file(
            tree / loaded, quiet=2, stripdir=str(tree), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
