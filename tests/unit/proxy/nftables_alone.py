"""Run by test_nftables.py in a network namespace of its own: loads services by netlink, prints what the kernel has."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

from agents.network.nftables import Kernel
from agents.proxy.backend import HostView
from agents.proxy.model import Family
from agents.proxy.nftables.reading import read
from agents.proxy.nftables.state import Services
from tests.unit.proxy.test_nftables import DAMAGES, HOSTS, MARK, many, some_changes


def loaded(kernel: Kernel, family: Family, host: HostView) -> Services:
    services = Services(host, family)
    kernel.check(services.rebuild())
    kernel.commit(services.rebuild())
    kernel.commit(services.take(many(family)))
    return services


def restored(kernel: Kernel, services: Services) -> Iterator[str]:
    """What there is to restore, until there is nothing."""
    for _ in range(3):
        there = read(kernel, 2 if services.family == 4 else 10, services.static_sets())
        batch = services.restore(there) if there is not None else None
        if batch is not None and not batch:
            yield "nothing to restore"
            return
        kernel.commit(batch if batch is not None else services.rebuild())
        yield "restored"


def listings(kernel: Kernel, family: Family) -> str:
    found = []
    for host in HOSTS:
        loaded(kernel, family, host)
        found.append(
            subprocess.run(["nft", "-s", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
        )
    return MARK.join(found)


def damages(kernel: Kernel, family: Family) -> str:
    services = loaded(kernel, family, HOSTS[0])
    told = [f"written: {', '.join(restored(kernel, services))}"]
    random_ = random.Random(3)
    for _ in range(60):
        kernel.commit(services.take(some_changes(random_, family)))
    told.append(f"changed: {', '.join(restored(kernel, services))}")
    kernel.commit(services.take(many(family)))
    for damage in DAMAGES:
        command = damage.replace("{}", "ip" if family == 4 else "ip6").replace("{{", "{").replace("}}", "}")
        subprocess.run(["bash", "-c", command], check=True)
        told.append(f"{command}: {', '.join(restored(kernel, services))}")
    return "\n".join(told)


def main(what: str, family: Family) -> None:
    print({"listings": listings, "damages": damages}[what](Kernel(), family))


if __name__ == "__main__":
    main(sys.argv[1], 6 if sys.argv[2] == "6" else 4)
