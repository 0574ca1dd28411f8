"""Runs the table for the modes named and prints what did not come out as it should. See the package."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from agents.proxy.model import Family
from tests.cluster.packets.connections import Attempt, Servers, has_sctp, make_all
from tests.cluster.packets.oracle import WAYS, Expected, destination, expected
from tests.cluster.packets.services import STRAY, TARGET, Case, cases, objects
from tests.cluster.packets.topology import Place, Topology, made
from tests.support.patience import PATIENCE

STICKY_REPEATS = 6
TELLING = 8
"""From so many flows on, that all of a kind lost their first datagram is no accident."""
FAMILIES: tuple[Family, ...] = (4, 6)


class Hosts:
    """The proxies of both hosts, in one mode."""

    def __init__(self, topology: Topology, mode: str, options: dict[str, Any]) -> None:
        self._processes = [
            subprocess.Popen(
                [
                    *("nsenter", f"--net=/run/netns/{host.netns}", sys.executable, "-m", "tests.cluster.packets.host"),
                    *(mode, host.name, ",".join(host.ips.values()), json.dumps(options)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for host in topology.hosts
        ]

    def tell(self, command: Any) -> list[dict[str, Any]]:
        for process in self._processes:
            assert process.stdin
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        answers = []
        for process in self._processes:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                raise AssertionError(f"the proxy of a host has ended with {process.wait()}")
            answers.append(json.loads(line))
        return answers

    def close(self) -> None:
        for process in self._processes:
            if process.stdin:
                process.stdin.close()
            process.wait(PATIENCE)


def rows(
    topology: Topology, mode: str, protocols: tuple[str, ...], only: str
) -> Iterator[tuple[Case, str, Place, str, Family, Expected]]:
    """Every row of the table: case, way, client, protocol, family, what is promised."""
    for case in cases():
        for way in WAYS:
            for client in topology.places.values():
                for family in FAMILIES:
                    promise = expected(case, way, client, family, topology, mode=mode)
                    if promise is None:
                        continue
                    for protocol in protocols:
                        # SCTP is a protocol like the others to all rules: over IPv4, and only where it can differ.
                        if protocol == "SCTP" and (family == 6 or case.name not in ("both-cc", "both-cl", "both-ll")):
                            continue
                        if only in f"{case.name} {way} {client.name} {protocol} {family}":
                            yield case, way, client, protocol, family, promise


def run(
    topology: Topology, mode: str, protocols: tuple[str, ...], *, patience: float, only: str, repeats: int
) -> dict[str, Any]:
    """One pass over the table."""
    began = time.monotonic()
    table = list(rows(topology, mode, protocols, only))
    attempts: list[Attempt] = []
    # Those that nobody answers first: they wait beside the others.
    for row in sorted(table, key=lambda row: (bool(row[5].answers), row[2].name)):
        case, way, client, protocol, family, promise = row
        address, port = destination(case, way, protocol, family, topology)
        count = 1 if not promise.answers else STICKY_REPEATS if case.affinity else repeats
        wait = patience * 20 if promise.answers or promise.refused else patience
        attempts += [Attempt(client.netns, protocol, address, port, wait, tag=row) for _ in range(count)]
    make_all(attempts)
    again = _lost(attempts)
    make_all(again)
    by_row: dict[int, list[str]] = defaultdict(list)
    for attempt in attempts:
        by_row[id(attempt.tag)].append(attempt.outcome)
    failures = []
    answered: dict[tuple[str, str], set[str]] = defaultdict(set)
    promised: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in table:
        case, way, client, protocol, family, promise = row
        outcomes = by_row[id(row)]
        wrong = [outcome for outcome in outcomes if not _is_right(outcome, promise)]
        if not wrong and case.affinity and len({outcome.split()[0] for outcome in outcomes}) > 1:
            wrong = outcomes
        if wrong:
            where = f"{case.name} {way} from {client.name} {protocol} IPv{family}"
            failures.append(f"{where}: {', '.join(sorted(set(wrong)))} instead of {promise}")
        if way == "cluster" and not case.affinity:
            promised[(case.name, protocol)] |= set(promise.answers)
            answered[(case.name, protocol)] |= {outcome.split()[0] for outcome in outcomes if " " in outcome}
    failures += [
        f"{name} {protocol}: {', '.join(sorted(names - answered[(name, protocol)]))} is never chosen"
        for (name, protocol), names in promised.items()
        if not only and names - answered[(name, protocol)]
    ]
    resent = sum(one.sent > 1 for one in attempts if _answered(one))
    # Other flows in place of those: a machine that stops for a moment loses the first ones of all that are under way,
    # once.
    judged = [_anew(one) if one.sent > 1 and _answered(one) else one for one in attempts]
    make_all(one for one in judged if not one.outcome)
    failures += first_lost(judged)
    seconds = round(time.monotonic() - began, 1)
    found = {
        "rows": len(table),
        "connections": len(attempts),
        "again": len(again),
        "resent": resent,
        "seconds": seconds,
    }
    return {**found, "failures": failures}


def _anew(one: Attempt) -> Attempt:
    """The same again, by another flow."""
    return Attempt(one.netns, one.protocol, one.address, one.port, one.timeout, tag=one.tag)


def _lost(attempts: list[Attempt]) -> list[Attempt]:
    """Those that somebody should have answered and nobody did, to be tried once more when hundreds of others do not
    fill queues and tables of connections at the same time: rules that drop do so every time."""
    lost = [one for one in attempts if _is_lost(one) and isinstance(one.tag, tuple) and one.tag[5].answers]
    for one in lost:
        one.outcome, one.received = "", b""
    return lost


def _is_lost(one: Attempt) -> bool:
    """SCTP gives an association up that is not heard of for some seconds, and says so to the other end."""
    return one.outcome == "dropped" or (one.protocol == "SCTP" and one.outcome == "ECONNRESET")


def first_lost(attempts: Iterable[Attempt]) -> list[str]:
    """Kinds of UDP flows of which each one was answered only when its datagram was sent again. A full queue loses one
    here and there; a rule that drops the first packet of a flow, all that it is for. ``tag`` is the row of each."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for one in attempts:
        if one.protocol == "UDP" and _answered(one) and isinstance(one.tag, tuple):
            case, way, client, _, family, _ = one.tag
            for kind in (f"{case.name} {way}", f"{way} from {client.name}", f"{way} IPv{family}"):
                kinds[kind].append(one.sent > 1)
    return [
        f"{kind} UDP: the first datagram of each of {len(resent)} flows is lost"
        for kind, resent in kinds.items()
        if len(resent) >= TELLING and all(resent)
    ]


def _answered(one: Attempt) -> bool:
    return " " in one.outcome


def _is_right(outcome: str, promise: Expected) -> bool:
    if not promise.answers:
        if promise.either:
            return outcome in ("refused", "dropped")
        return outcome == ("refused" if promise.refused else "dropped")
    name, _, source = outcome.partition(" ")
    return source in promise.answers.get(name, ())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.packets")
    parser.add_argument("modes", nargs="+")
    parser.add_argument("--patience", type=float, default=0.8, help="seconds after which no answer means dropped")
    parser.add_argument("--repeats", type=int, default=2, help="connections for a row that somebody answers")
    parser.add_argument("--only", default="", help="rows whose text has this in it")
    parser.add_argument("--options", type=json.loads, default={}, help="fields of HostView")
    parser.add_argument("--show", default="", help="a shell command to run in host-1 once rules are written")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    protocols = ("TCP", "UDP", "SCTP") if has_sctp() else ("TCP", "UDP")
    with made() as topology:
        servers = Servers([(p.name, p.netns, TARGET if p.pod else STRAY) for p in topology.places.values()], protocols)
        serving = multiprocessing.get_context("fork").Process(target=servers.serve, daemon=True)
        serving.start()
        everything = [obj for case in cases() for obj in objects(case, topology, protocols)]
        for mode in arguments.modes:
            hosts = Hosts(topology, mode, arguments.options)
            try:
                written = hosts.tell(everything)
                if arguments.show:
                    netns = topology.places["host-1"].netns
                    subprocess.run(["ip", "netns", "exec", netns, "sh", "-c", arguments.show], check=False)
                result = run(
                    topology,
                    mode,
                    protocols,
                    patience=arguments.patience,
                    only=arguments.only,
                    repeats=arguments.repeats,
                )
                result |= {"mode": mode, "protocols": protocols, "written": written, "removed": hosts.tell("remove")}
            finally:
                hosts.close()
            print(json.dumps(result), flush=True)
        serving.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
