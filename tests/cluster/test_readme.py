"""README's examples are run, and what it names exists: a reader must never be the first to try them.

Lines of ``sh`` blocks that talk to a running lab are run, in their order, against the lab of the tests. Lines that
install, build, test or start a server are only checked for scripts and flags that do not exist.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orca.cli import COMMANDS
from orca.lab.layout import DEFAULT_NAME, Lab, state_directory
from tests.cluster.conftest import LAB
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl, eventually

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")
COMMAND_SECONDS = 300
LIVE = ("export", "kubectl", "curl", "orca")
"""First words of lines that are run."""
LASTING = ("orca server",)
"""What goes on until it is ended, and reaches for hosts only the reader has: not run."""
OURS = ("orca", "orca-agent", "scripts/", "python")
"""First words of lines whose flags are ours to check."""


def commands(text: str) -> list[str]:
    """Lines of all ``sh`` blocks without comments; one that goes on in the next is one."""
    blocks = [
        re.sub(r"\\\n\s*", "", block) for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]
    bare = (re.sub(r"(^|\s)#.*", "", line).strip() for block in blocks for line in block.splitlines())
    return [line for line in bare if line]


def examples() -> list[str]:
    """What is run, in order."""
    return [line for line in commands(README) if line.split()[0] in LIVE and not line.startswith(LASTING)]


def unquoted(word: str) -> str:
    return word.removeprefix("./")


@functools.cache
def help_of(*argv: str) -> str:
    """What a command of ours says about itself."""
    path = Path(sys.executable).parent / argv[0]
    done = subprocess.run([str(path), *argv[1:], "--help"], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def known_flags() -> str:
    """The help of every command of ours, and every script."""
    helps = [help_of("orca-agent")]
    for name in COMMANDS:
        text = help_of("orca", name)
        helps.append(text)
        if name in ("lab", "token"):
            verbs = text.partition("Commands:")[2]
            helps += [help_of("orca", name, verb) for verb in re.findall(r"^  ([a-z-]+) ", verbs, re.MULTILINE)]
    helps += [path.read_text() for path in (PROJECT / "scripts").iterdir()]
    helps += [path.read_text() for path in (PROJECT / "tests" / "bench").glob("*.py")]
    return "\n".join(helps)


# --- what is named exists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_exist(document: str) -> None:
    text = (PROJECT / document).read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    named = re.findall(r"`(?:\./)?((?:orca|agents|tests|scripts|manifests|vagrant)/[^`\s<{]*)", text)
    run = [unquoted(line.split()[0]) for line in commands(text) if "/" in line.split()[0]]
    missing = [path for path in {*links, *named, *run} if path and not (PROJECT / path).exists()]
    assert not missing, f"{document} names what is not there: {sorted(missing)}"


def test_links_within_the_readme_lead_to_headings() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_scripts_can_be_executed() -> None:
    named = {unquoted(word) for word in re.findall(r"(?:\./)?scripts/[a-z-]+", README)}
    assert named
    assert not [script for script in named if not os.access(PROJECT / script, os.X_OK)]


def test_flags_exist() -> None:
    known = known_flags()
    lines = [line for line in commands(README) if unquoted(line).startswith(OURS)]
    prose = [code for code in re.findall(r"`([^`\n]+)`", README) if code.startswith(("--", "orca"))]
    # What follows " -- " belongs to another program.
    texts = [text.partition(" -- ")[0] for text in (*lines, *prose)]
    flags = {flag for text in texts for flag in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", text)}
    assert flags
    unknown = [flag for flag in flags if not re.search(rf"{flag}\b", known)]
    assert not unknown, f"README names flags that do not exist: {sorted(unknown)}"


@pytest.mark.parametrize("line", [line for line in commands(README) if line.startswith(("orca ", "python -m "))])
def test_commands_exist(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "orca":
        help_of("orca", *words[1 : 3 if words[1] in ("lab", "token") else 2])
    else:
        assert (
            words[3]
            in subprocess.run(
                [sys.executable, *words[1:3], "--help"], capture_output=True, text=True, check=True, cwd=PROJECT
            ).stdout
        )


# --- examples run -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(
    lab: Lab, admin: Kubectl, alone_on_lab: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of a reader for whom ``scripts/up`` has just ended: nginx runs, our commands are on the path."""
    binaries = tmp_path_factory.mktemp("bin")
    for name, target in (("kubectl", kubectls.current()), ("orca", Path(sys.executable).parent / "orca")):
        (binaries / name).symlink_to(shutil.which(str(target)) or target)
    manifest = str(PROJECT / "manifests" / "nginx")
    admin("apply", "-f", manifest)
    admin("rollout", "status", "deployment/nginx", "--timeout=120s")
    yield {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "ORCA_LAB": LAB,
        "KUBECONFIG": str(lab.kubeconfig),
    }
    admin("delete", "-f", manifest, "--wait=false")
    own = admin.within("ingress-nginx")  # what the examples of "Ingress" have installed
    # Gone, as somebody else may want it next, and nothing is installed into a namespace that is going.
    own("delete", "-f", str(PROJECT / "manifests" / "ingress"), "--ignore-not-found")


def of_this_lab(line: str, lab: Lab) -> str:
    """An example for the default lab, as it reads for this one."""
    return line.replace("172.30.0.", f"{lab.prefix}.").replace(str(state_directory(DEFAULT_NAME)), str(lab.state))


def _bash(text: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", text],
        capture_output=True,
        text=True,
        env=environment,
        timeout=COMMAND_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_examples_run_in_order(lab: Lab, shell: dict[str, str]) -> None:
    failures = []
    for line in examples():
        text = of_this_lab(line, lab)
        if text.startswith("export "):
            name, _, value = text.removeprefix("export ").partition("=")
            assert shell[name] == value, line
            continue
        done = _bash(text, shell)
        if done.returncode:
            failures.append(f"{text} → {done.returncode}\n{done.stdout}{done.stderr}")
    assert not failures, "\n".join(failures)


def test_the_page_is_the_one_that_was_promised(lab: Lab, shell: dict[str, str]) -> None:
    curls = [of_this_lab(line, lab) for line in examples() if line.startswith("curl ")]
    assert curls

    def page() -> bool:
        return "<title>Welcome to nginx" in _bash(curls[0], shell).stdout

    eventually(page, what="the page of nginx, after all those faults")
