"""What the agent loads: every host holds it in memory for good."""

import subprocess
import sys

import pytest

HEAVY = (
    *("rich", "pygments", "pyroute2", "docker", "numpy", "jsonschema_rs", "kubernetes_validate", "sqlite3"),
    *("cryptography", "_cffi_backend", "prometheus_client", "dns", "dnslib", "jwt", "jeepney", "grpc", "google"),
    *("orca.api.validation", "orca.api.schema", "celpy"),
)


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Modules of a fresh process that has imported the agent's command."""
    code = "import agents.cli, sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_the_agent_starts_without_libraries_it_does_not_need(loaded: set[str]) -> None:
    assert loaded.isdisjoint(HEAVY), loaded.intersection(HEAVY)


def test_the_agent_has_the_messages_of_netlink_all_the_same(loaded: set[str]) -> None:
    assert "pyroute2.netlink.rtnl.ifinfmsg" in loaded


def test_who_wants_the_whole_library_gets_it() -> None:
    code = "import agents.network; from pyroute2 import IPRoute; import rich; print(IPRoute.__name__)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "IPRoute\n"
