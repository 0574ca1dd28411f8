"""Agents of a lab's hosts that begin anew."""

from __future__ import annotations

from orca.lab.host import call
from orca.lab.layout import Host
from tests.support.kubectl import eventually

_METRICS = "http://127.0.0.1:10249/metrics"
_SYNCED = 'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}'


def wait_for_rules(host: Host) -> None:
    """Returns once the host's agent has written the rules of Services: until then those of its forerunner stand, which
    know nothing of what is made meanwhile."""

    def synced() -> bool:
        lines = call(host, "curl", "-s", _METRICS, check=False).splitlines()
        return any(line.startswith(_SYNCED) and float(line.split()[-1]) > 0 for line in lines)

    eventually(synced, what=f"the rules of {host.name} are written")
