"""``orca validate`` on files of the server itself."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from orca.cli.validate import command


def test_the_servers_own_files_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "files.yaml"
    file.write_text(
        "{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, "
        "resources: [{resources: [secrets], providers: [{aesgcm: {keys: [{name: k, secret: c2hvcnQ=}]}}]}]}\n---\n"
        "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}\n"
    )
    done = CliRunner().invoke(command, ["-f", str(file)])
    assert done.exit_code == 1
    assert "resources[0].providers[0].aesgcm.keys[0].secret: Invalid value" in done.output
    assert "c2hvcnQ=" not in done.output
    assert "document 2: Policy is valid" in done.output
