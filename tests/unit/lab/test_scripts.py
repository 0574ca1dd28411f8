"""What the scripts say when they are asked or called wrongly; nothing of this installs or changes anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
SCRIPTS = sorted(path for path in (PROJECT / "scripts").iterdir() if not path.suffix)
TOKEN = "abcdef.0123456789abcdef." + "0" * 64


def script(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("path", [*SCRIPTS, PROJECT / ".ci" / "run"], ids=lambda path: path.name)
def test_every_script_can_be_run_and_is_sound(path: Path) -> None:
    assert path.stat().st_mode & 0o111
    assert script("bash", "-n", str(path)).stderr == ""


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.name != "build-images"], ids=lambda path: path.name)
def test_help_explains_and_does_nothing(path: Path) -> None:
    said = script(str(path), "--help")
    assert said.returncode == 0
    assert f"usage: scripts/{path.name}" in said.stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["prepare", "nothing"], "there is nothing to prepare for 'nothing'"),
        (["uninstall", "--keep"], "usage: scripts/uninstall"),
        (["uninstall", "--keep-state", "more"], "usage: scripts/uninstall"),
        (["build-images", "nginx"], "usage: scripts/build-images"),
        (["install-agent"], "--server is missing"),
        (["install-agent", "--server"], "--server needs a value"),
        (["install-agent", "--server", "https://10.0.0.1:6443"], "--token is missing"),
        (["install-agent", "--config"], "--config needs a value"),
        (["install-agent", "--config=no/such.yaml"], "there is no no/such.yaml"),
        (["install-agent", "--server", "10.0.0.1", "--token", TOKEN], "a URL like https://"),
        (["install-agent", "--server=https://10.0.0.1:6443", "--token=x"], "no token of orca token create"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_refused_before_anything_is_done(argv: list[str], message: str) -> None:
    said = script(f"scripts/{argv[0]}", *argv[1:])
    assert said.returncode != 0
    assert message in said.stderr
