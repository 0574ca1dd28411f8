"""Where everything of a lab lives: names, addresses and paths. Pure: nothing is touched here.

Several labs stand side by side: each has a name, a number, a bridge, a /24 and a state directory of its own.
The default one is called ``lab``; tests make others, so that they never disturb a user's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

STATE_ROOT = Path("/var/lib")
IMAGE_CACHE = Path("/var/cache/orca/images")
DEFAULT_NAME = "lab"
MAX_HOSTS = 100
MAX_SEGMENTS = 8
"""Each has room for its part of the most hosts."""
FIRST_HOST = 10
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR6 = "fd00:10:244::/56"
SERVICE_CIDR6 = "fd00:10:96::/112"


class LabError(Exception):
    """The lab cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host of a lab. ``position`` 0 is the server; ``address`` is its IPv4 address on its segment. Hosts take the
    lab's segments in turn."""

    lab: Lab
    position: int

    @property
    def name(self) -> str:
        return f"host-{self.position}"

    @property
    def is_server(self) -> bool:
        return self.position == 0

    @property
    def segment(self) -> int:
        return self.position % self.lab.segments

    @property
    def address(self) -> str:
        return str(self.lab.segment_range(self.segment)[FIRST_HOST + self.position // self.lab.segments])

    @property
    def address6(self) -> str:
        """Its IPv6 address, "" in a lab without."""
        if not self.lab.dual_stack:
            return ""
        return f"fd30:{self.lab.number:x}:{self.segment + 1:x}::{FIRST_HOST + self.position:x}"

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.address, self.address6)))

    @property
    def gateway(self) -> str:
        return self.lab.segment_gateway(self.segment)

    @property
    def netns(self) -> str:
        return f"{self.lab.bridge}-{self.name}"

    @property
    def link(self) -> str:
        """The host's cable: the veth end that is plugged into the lab's bridge."""
        return f"ol{self.lab.number}h{self.position}"

    @property
    def state(self) -> Path:
        return self.lab.state / self.name

    @property
    def cgroup(self) -> str:
        """The cgroup path, below each hierarchy's root, that holds every process of this host."""
        return f"{self.lab.bridge}/{self.name}"

    def log(self, service: str) -> Path:
        return self.state / "log" / f"{service}.log"

    def pid_file(self, service: str) -> Path:
        return self.state / "pid" / service

    def control_plane_args(self) -> list[str]:
        """Agent flags that keep ordinary pods off the server, as kubeadm does; a lab of one host has no other place."""
        if not self.is_server or self.lab.size == 1:
            return []
        return ["--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule"]


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab's identity. ``number`` picks its /24 (172.30.<number>.0), ``size`` counts its hosts, server included."""

    name: str
    number: int
    size: int
    nat: bool = False
    segments: int = 1
    dual_stack: bool = False

    @property
    def bridge(self) -> str:
        """Of the first segment, where the server is; it gives its name to all that is the lab's."""
        return "orca-lab" if self.name == DEFAULT_NAME else f"orca-{self.name}"

    @property
    def bridges(self) -> tuple[str, ...]:
        """One a segment. Names of labs have no dots, so nobody else's bridge is called like the others."""
        return (self.bridge, *(f"orca-s{segment}.{self.number}" for segment in range(1, self.segments)))

    def segment_range(self, segment: int) -> IPv4Network:
        """The addresses of a segment: an equal part of the lab's /24."""
        whole = IPv4Network(f"{self.prefix}.0/24")
        return list(whole.subnets(prefixlen_diff=(self.segments - 1).bit_length()))[segment]

    def segment_gateway(self, segment: int) -> str:
        """The router between the segments, as hosts of one of them know it."""
        return str(self.segment_range(segment)[1])

    @property
    def prefix(self) -> str:
        return f"172.30.{self.number}"

    @property
    def gateway(self) -> str:
        return self.segment_gateway(0)

    @property
    def table(self) -> str:
        """The lab's own nftables table, named for its bridge."""
        return self.bridge.replace("-", "_")

    @property
    def state(self) -> Path:
        return state_directory(self.name)

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def server_url(self) -> str:
        return f"https://{self.host(0).address}:6443"

    @property
    def hosts(self) -> list[Host]:
        return [Host(self, position) for position in range(self.size)]

    def host(self, which: int | str) -> Host:
        """The host of that position or name; raises ``LabError`` with the names there are."""
        for host in self.hosts:
            if which in (host.position, host.name):
                return host
        raise LabError(f"lab {self.name!r} has no host {which!r}; it has {', '.join(h.name for h in self.hosts)}")

    def save(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        record = asdict(self)
        temporary = self.state / "lab.json.new"
        temporary.write_text(json.dumps(record))
        temporary.replace(self.state / "lab.json")


def state_directory(name: str) -> Path:
    """``/var/lib/orca-lab`` for the default lab, ``/var/lib/orca-lab-<name>`` for others."""
    return STATE_ROOT / ("orca-lab" if name == DEFAULT_NAME else f"orca-lab-{name}")


def load(name: str) -> Lab:
    """Read a lab's record; raises ``LabError`` when there is none."""
    path = state_directory(name) / "lab.json"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise LabError(f"no lab {name!r} is up (no {path}); start one with: orca lab up") from None
    except json.JSONDecodeError as broken:
        raise LabError(f"{path} cannot be read ({broken}); clear it with: orca lab down") from broken
    return Lab(**record)


def plan(
    name: str,
    size: int,
    *,
    nat: bool,
    in_use: Mapping[int, str] | None = None,
    segments: int = 1,
    dual_stack: bool = False,
) -> Lab:
    """A new lab with a free number; an existing one of that name keeps its number.

    ``in_use`` maps the numbers whose addresses this machine uses already to the link that has them: labs whose state
    is kept elsewhere (in a container, in another root) are seen by nothing else.
    Raises ``LabError`` for a name or size that cannot be, or one that differs from what is up.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,7}[a-z0-9])?", name):
        raise LabError(f"lab name {name!r}: use at most 9 lower-case letters, digits and dashes")
    if not 1 <= size <= MAX_HOSTS:
        raise LabError(f"--hosts {size}: a lab has 1 to {MAX_HOSTS} hosts")
    if not 1 <= segments <= MAX_SEGMENTS:
        raise LabError(f"--segments {segments}: a lab has 1 to {MAX_SEGMENTS} segments")
    taken = {}
    for directory in STATE_ROOT.glob("orca-lab*"):
        try:
            record = json.loads((directory / "lab.json").read_text())
            taken[record["name"]] = Lab(**record)
        except (OSError, ValueError, TypeError, KeyError):
            continue
    if name in taken:
        existing = taken[name]
        if existing.size != size:
            raise LabError(f"lab {name!r} is up with {existing.size} hosts; take it down first: orca lab down")
        if (existing.segments, existing.dual_stack) != (segments, dual_stack):
            raise LabError(f"lab {name!r} is up with other segments or families; take it down first: orca lab down")
        return existing
    fresh = Lab(name, 0, size, nat, segments, dual_stack)
    users = {lab.number: lab.bridge for lab in taken.values()} | dict(in_use or {})
    # Number 0 is kept for the default lab, so that its addresses are the ones that people read about.
    wanted = range(1) if name == DEFAULT_NAME else range(1, 256)
    left_behind = [number for number in wanted if users.get(number) == fresh.bridge]  # an up or down was interrupted
    for number in (*left_behind, *wanted):
        if number not in users or number in left_behind:
            return replace(fresh, number=number)
    if name == DEFAULT_NAME:
        raise LabError(
            f"{users[0]} uses {fresh.prefix}.0/24, which is the lab's; choose another: orca lab up --name NAME"
        )
    raise LabError("no free lab number is left; take a lab down first")
