"""Flags of ``orca server`` that name addresses, ranges and files: what is wrong is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orca.cli import main
from orca.cli.server import command, refuse_overlap
from orca.server.health import version_info


def refusal(*flags: str) -> str:
    """What is said of flags that are refused."""
    done = CliRunner().invoke(command, [*flags, "--data-dir=/nonexistent/orca"])
    assert done.exit_code == 2, done.output
    return done.output.splitlines()[-1]


def test_a_name_is_no_address_to_advertise() -> None:
    said = refusal("--advertise-address=orca.example.com")
    assert said == "Error: Invalid value for '--advertise-address': 'orca.example.com' is not an IP address"


def test_a_file_without_certificates_is_no_client_ca(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_text("no certificate")
    said = refusal(f"--client-ca-file={path}")
    assert said.startswith(f"Error: Invalid value for '--client-ca-file': {path}: no certificates in PEM can be read: ")


def test_pods_and_services_have_ranges_of_their_own() -> None:
    refuse_overlap("10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:96::/108")
    with pytest.raises(click.UsageError, match=r"--cluster-cidr 10\.0\.0\.0/8 .* 10\.96\.0\.0/16 overlap"):
        refuse_overlap("10.0.0.0/8", "10.96.0.0/16")


def test_the_version_is_asked_for_as_of_other_programs() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert (done.exit_code, done.output.strip()) == (0, version_info()["gitVersion"])
