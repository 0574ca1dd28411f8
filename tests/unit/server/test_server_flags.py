"""Flags of ``orca server`` that name addresses, ranges and files: what is wrong is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orca.cli import main
from orca.cli.flags import etcd_members, host_names
from orca.cli.server import command, refuse_overlap
from orca.server.health import version_info


def refusal(*flags: str) -> str:
    """What is said of flags that are refused."""
    done = CliRunner().invoke(command, [*flags, "--data-dir=/nonexistent/orca"])
    assert done.exit_code == 2, done.output
    return done.output.splitlines()[-1]


@pytest.mark.parametrize("flag", ["--advertise-address", "--bind-address"])
def test_a_name_is_no_address(flag: str) -> None:
    said = refusal(f"{flag}=orca.example.com")
    assert said == f"Error: Invalid value for '{flag}': 'orca.example.com' is not an IP address"


def test_a_file_without_certificates_is_no_client_ca(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_text("no certificate")
    said = refusal(f"--client-ca-file={path}")
    assert said.startswith(f"Error: Invalid value for '--client-ca-file': {path}: no certificates in PEM can be read: ")


@pytest.mark.parametrize(
    "name", ["https://lb.example.com", "lb.example.com:6443", "lb_1", "10.0.0.1,10.0.0.2", "fd00::1%eth0", "", "ü", "*"]
)
def test_a_certificate_names_hosts_only(name: str) -> None:
    said = refusal(f"--tls-san={name}")
    assert said.startswith(f"Error: Invalid value for '--tls-san': {name!r} is neither a DNS name nor an IP address")


def test_addresses_of_a_certificate_are_written_as_it_shows_them() -> None:
    context, parameter = click.Context(command), command.params[0]
    given = ("LB.example.com", "*.example.com", "FD00:0::1", "10.0.0.1")
    assert host_names(context, parameter, given) == ("LB.example.com", "*.example.com", "fd00::1", "10.0.0.1")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ("bogus", "'bogus' names no port"),
        ("https://10.0.0.1", "'https://10.0.0.1' names no port"),
        ("https://10.0.0.1:2379,https://[fd00::1]", "'https://[fd00::1]' names no port"),
        ("10.0.0.1:http", "'10.0.0.1:http' has 'http' for a port"),
        ("10.0.0.1:70000", "'10.0.0.1:70000' has '70000' for a port"),
        ("ftp://10.0.0.1:2379", "'ftp://10.0.0.1:2379' has the scheme ftp, which is none of etcd over the network"),
        ("fd00::1:2379", "'fd00::1:2379' has an IPv6 address without brackets"),
        ("[fd00]:2379", "'[fd00]:2379' has '[fd00]', which is no IPv6 address"),
        ("a b:2379", "'a b:2379' has 'a b', which is no name of a host"),
        (":2379", "':2379' has '', which is no name of a host"),
    ],
)
def test_members_of_etcd_have_a_host_and_a_port(members: str, said: str) -> None:
    assert refusal(f"--etcd-servers={members}") == (
        f"Error: Invalid value for '--etcd-servers': {said}; name members like https://10.0.0.1:2379"
    )


def test_members_of_etcd_as_people_write_them() -> None:
    context, parameter = click.Context(command), command.params[0]
    given = "https://etcd_1:2379/, http://[fd00::1]:2379,10.0.0.1:2379,"
    assert etcd_members(context, parameter, given) == "https://etcd_1:2379/,http://[fd00::1]:2379,10.0.0.1:2379"
    assert etcd_members(context, parameter, "") == ""
    assert "names no member" in refusal("--etcd-servers=,")


def test_pods_and_services_have_ranges_of_their_own() -> None:
    refuse_overlap("10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:96::/108")
    with pytest.raises(click.UsageError, match=r"--cluster-cidr 10\.0\.0\.0/8 .* 10\.96\.0\.0/16 overlap"):
        refuse_overlap("10.0.0.0/8", "10.96.0.0/16")


def test_the_version_is_asked_for_as_of_other_programs() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert (done.exit_code, done.output.strip()) == (0, version_info()["gitVersion"])


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--service-account-jwks-uri=http://keys.example.com", "'http://keys.example.com' is no https URL"),
        ("--service-account-max-token-expiration=59m", "must be between 1 hour and 2^32 seconds"),
        ("--service-account-issuer=https://[::1", "'https://[::1' contains a colon and is no URL"),
        ("--service-account-issuer=", "an issuer needs a name"),
        ("--service-account-key-file=/nowhere", "File '/nowhere' does not exist"),
        ("--service-account-key-file=/etc/hostname", "/etc/hostname: data does not contain any valid RSA or ECDSA"),
    ],
)
def test_tokens_of_service_accounts_are_made_as_somebody_can_mean_it(flag: str, said: str) -> None:
    assert refusal(flag).startswith(f"Error: Invalid value for '{flag.partition('=')[0]}': {said}")
