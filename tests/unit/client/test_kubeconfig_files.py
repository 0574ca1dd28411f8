"""A kubeconfig of several files, as $KUBECONFIG names them: the first to set something wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from orca.cli.cluster import kubeconfig_files
from orca.cli.token import command as token
from orca.client.kubeconfig import Kubeconfig, KubeconfigError


def written(path: Path, *, current: str = "", **kinds: dict[str, dict[str, Any]]) -> Path:
    """A file with these clusters, contexts and users by name."""
    path.parent.mkdir(exist_ok=True)
    content: dict[str, Any] = {"current-context": current} if current else {}
    for kind, named in kinds.items():
        content[f"{kind}s"] = [{"name": name, kind: fields} for name, fields in named.items()]
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "token").write_text("of b\n")
    one = written(
        tmp_path / "a" / "config",
        cluster={"red": {"server": "http://red-a:1"}},
        user={"red": {"as": "ann"}},
        context={"red": {"cluster": "red", "user": "red", "namespace": "here"}},
    )
    two = written(
        tmp_path / "b" / "config",
        current="blue",
        cluster={"red": {"server": "http://red-b:1"}, "blue": {"server": "http://blue:1/"}},
        user={"red": {"token": "never"}, "blue": {"tokenFile": "token"}},
        context={"red": {"cluster": "blue", "user": "blue"}, "blue": {"cluster": "blue", "user": "blue"}},
    )
    three = written(tmp_path / "c", current="red", context={"mixed": {"cluster": "red", "user": "blue"}})
    return [one, tmp_path / "missing", two, three]


def test_the_first_file_to_set_something_wins(files: list[Path]) -> None:
    config = Kubeconfig(files)
    assert (config.load().server, config.namespace()) == ("http://blue:1", "default")
    red = Kubeconfig(files, "red")
    endpoint = red.load()
    assert (endpoint.server, red.namespace()) == ("http://red-a:1", "here")
    assert (endpoint.token, endpoint.headers) == ("", (("Impersonate-User", "ann"),)), "entries are taken as a whole"


def test_paths_are_meant_from_the_file_that_names_them(files: list[Path]) -> None:
    config = Kubeconfig(files, "mixed")
    endpoint = config.load()
    assert (endpoint.server, endpoint.token) == ("http://red-a:1", "of b")
    assert not config.changed()
    (files[2].parent / "token").write_text("of b, renewed\n")
    assert config.changed()
    assert config.load().token == "of b, renewed"
    files[0].write_text(files[0].read_text() + "\n")
    assert config.changed(), "also when it is another of the files"


def test_what_no_file_has_is_told_with_all_of_them(files: list[Path], tmp_path: Path) -> None:
    everything = ":".join(map(str, files))
    with pytest.raises(KubeconfigError) as told:
        Kubeconfig(files, "green").load()
    assert str(told.value) == f"{everything}: there is no context 'green'"
    with pytest.raises(KubeconfigError) as told:
        Kubeconfig([files[0], tmp_path / "missing"]).load()
    assert str(told.value).endswith("missing: there is no current-context")
    with pytest.raises(KubeconfigError) as told:
        Kubeconfig([tmp_path / "x", tmp_path / "y"]).load()
    assert str(told.value) == f"{tmp_path / 'x'}:{tmp_path / 'y'}: none of these files exists"
    with pytest.raises(KubeconfigError, match="No such file"):
        Kubeconfig(tmp_path / "x").load()
    files[3].write_text("[")
    with pytest.raises(KubeconfigError) as told:
        Kubeconfig(files).load()
    assert str(told.value).startswith(f"{files[3]}: "), "one that cannot be read is no less wrong for the others"


def test_commands_take_all_files_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "/a::/b:/a:")
    assert kubeconfig_files(None) == [Path("/a"), Path("/b")]
    assert kubeconfig_files(Path("/c")) == Path("/c")
    said = CliRunner().invoke(token, ["list"])
    assert (said.exit_code, said.output) == (1, "Error: /a:/b: none of these files exists\n")
    said = CliRunner().invoke(token, ["--kubeconfig=/none", "list"])
    assert said.output.startswith("Error: /none does not exist: run this on the server's host")
    for arguments in (["--help"], ["create", "--help"], ["delete"]):
        said = CliRunner().invoke(token, ["--kubeconfig=/none", *arguments])
        assert said.output.startswith("Usage: "), "how a command is used can be read without a cluster"
    monkeypatch.setenv("KUBECONFIG", ":")
    own = tmp_path / ".kube" / "config"
    own.parent.mkdir()
    own.touch()
    assert kubeconfig_files(None) == own
