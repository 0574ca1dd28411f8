"""What the agent loads: every host holds it in memory for good."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

HEAVY = (
    *("rich", "pygments", "pyroute2", "docker", "numpy", "jsonschema_rs", "kubernetes_validate", "sqlite3"),
    *("cryptography", "_cffi_backend", "prometheus_client", "dnslib", "jwt", "jeepney", "grpc", "google"),
    *("orca.api.validation", "orca.api.schema", "cel_expr_python", "re2", "nacl"),
)


STARTS = """
import asyncio, sys
from pathlib import Path
import agents.cli
import agents.network.iptables, agents.proxy.iptables, agents.proxy.nftables  # what is written with by default
from agents.node import certificates
from agents.node.keyring import CLIENT, Keyring
from agents.node.requesting import prepare
from agents.probes.handlers import Handlers
from agents.runtime import Runtime

async def main(directory):
    keyring = Keyring(Path(directory))
    made = await prepare(keyring.pending_key(CLIENT), "host-1", ["host-1", "172.30.0.11"])
    keyring.keep_pending_key(CLIENT, made.key)
    certificates.request_name(made.public_key, "host-1", certificates.CLIENT_SIGNER)
    assert keyring.certificate(CLIENT) is None
    certificates.certificates_by_key(b"")
    Handlers(Runtime("/nonexistent/docker.sock"))
    agents.cli.heap.settle()
    print(*sys.modules)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Modules of a fresh process that has imported the agent's command, and done what an agent does when it joins."""
    argv = [sys.executable, "-c", STARTS, str(tmp_path_factory.mktemp("pki"))]
    return set(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split())


def test_the_agent_starts_without_libraries_it_does_not_need(loaded: set[str]) -> None:
    assert loaded.isdisjoint(HEAVY), loaded.intersection(HEAVY)


def test_there_is_every_library_that_the_agent_does_without() -> None:
    """A name that is misspelt above would be found nowhere."""
    assert not [module for module in HEAVY if find_spec(module) is None]


def test_the_agent_has_the_messages_of_netlink_all_the_same(loaded: set[str]) -> None:
    assert "pyroute2.netlink.rtnl.ifinfmsg" in loaded


def test_who_wants_the_whole_library_gets_it() -> None:
    code = "import agents.network; from pyroute2 import IPRoute; import rich; print(IPRoute.__name__)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "IPRoute\n"
