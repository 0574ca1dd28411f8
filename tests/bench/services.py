"""``python -m tests.bench services``: what many services cost on a host, beside figures measured of kube-proxy.

Each row is a process of its own in a network namespace of its own, with the real `Proxy` on informers of an API in
memory (``servicehost.py``). Needs root.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

REPOSITORY = Path(__file__).resolve().parents[2]
KUBE_PROXY = {
    # kube-proxy v1.36, 10,000 services × 3 endpoints on a machine of this size: seconds until rules are complete,
    # seconds until one change of an endpoint is live, MB resident
    "nftables": (45.0, 4.0, 190.0),
    "iptables": (None, 1.8, 211.0),
}
GOALS = "goals at 10,000: cold sync ≤ 10 s, change ≤ 100 ms and ≤ 1.5 × that at 1,000, first packet ≤ 1.1 × direct"


@click.command()
@click.option("--mode", "modes", multiple=True, default=("nftables",), show_default=True)
@click.option("--services", default="100,1000,5000,10000", show_default=True, help="Sizes, separated by commas.")
@click.option("--changes", default=31, show_default=True, help="Changes of one endpoint; the median is shown.")
@click.option("--connections", default=2000, show_default=True, help="Connections to each target.")
def command(modes: tuple[str, ...], services: str, changes: int, connections: int) -> None:
    """Print a table for each mode."""
    for mode in modes:
        rows = [_measure(mode, int(count), changes, connections) for count in services.split(",")]
        _show(mode, rows)


def _measure(mode: str, services: int, changes: int, connections: int) -> dict[str, Any]:
    argv = ["unshare", "--net", sys.executable, "-m", "tests.bench.servicehost"]
    asked = {"mode": mode, "services": services, "changes": changes, "connections": connections}
    done = subprocess.run(
        [*argv, json.dumps(asked)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True, timeout=1800
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _show(mode: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{mode}: services × 3 endpoints")
    print(
        f"{'services':>9} {'cold sync':>10} {'CPU':>7} {'restart':>8} {'change':>9} {'p99':>8} {'CPU':>8}"
        f" {'connect':>9} {'first':>6} {'last':>6} {'RSS':>7} {'rules':>7}"
    )
    for row in rows:
        direct = row["direct"]
        print(
            f"{row['services']:>9,} {row['cold']:>8.2f} s {row['cold_cpu']:>5.2f} s {row['restart']:>6.2f} s"
            f" {row['change'] * 1e3:>6.1f} ms {row['change_p99'] * 1e3:>5.1f} ms {row['change_cpu'] * 1e3:>5.1f} ms"
            f" {direct * 1e6:>6.1f} µs {row['first'] / direct:>5.2f}× {row['last'] / direct:>5.2f}×"
            f" {row['rss']:>4.0f} MB {row['rss_rules']:>4.0f} MB"
        )
    print("cold sync: from the start of the proxy, with its look at all objects; restart: the same with rules in place")
    print("change: from the event to the kernel; connect: TCP to the pod; first, last: through a service, as a ratio")
    print("rules: what of the memory came with the proxy; the rest is the interpreter and the objects, held twice here")
    last = rows[-1]
    if last["services"] == 10_000 and mode in KUBE_PROXY:
        cold, change, memory = KUBE_PROXY[mode]
        against = [f"change {change / last['change']:.0f} × faster", f"{last['rss'] / memory:.2f} × the memory"]
        if cold is not None:
            against.insert(0, f"cold sync {cold / last['cold']:.1f} × faster")
        print(f"beside kube-proxy in this mode: {', '.join(against)}")
        small = next((row for row in rows if row["services"] == 1_000), None)
        if small:
            print(f"change at 10,000 ÷ change at 1,000: {last['change'] / small['change']:.2f}; {GOALS}")
