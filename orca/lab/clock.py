"""Setting the wall clock of a lab's server, as an administrator or an NTP client would on its host.

The hosts of a lab have one kernel and so one wall clock. libfaketime (loaded into ``orca server`` alone) answers the
process's questions for the time with an offset that can change while it runs; what it measures durations with stays as
it is. etcd asks the kernel itself, and uses no wall clock.
"""

from __future__ import annotations

import os
from pathlib import Path

from orca.api.durations import parse_duration
from orca.lab import host as hosts
from orca.lab.cluster import wait_for_server
from orca.lab.layout import Host, Lab, LabError
from orca.lab.services import SERVER, server

LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


def set_clock(lab: Lab, offset: str) -> None:
    """Have the server's clock be ``offset`` (as ``1h30m``, ``-90s``, ``0``) from the machine's.

    The first time the server is started anew, so that its clock can be set; from then on it is set while it runs.
    Raises LabError.
    """
    try:
        seconds = parse_duration(offset)
    except ValueError:
        raise LabError(f"clock {offset!r}: say how far from this machine's, as 1h30m, -90s or 0") from None
    host = lab.host(0)
    running = hosts.service_pid(host, SERVER)
    library = _library()
    settable = str(library) in Path(f"/proc/{running}/maps").read_text()
    if seconds == 0 and not settable:
        return
    if not settable:
        _write(host, 0)
        hosts.stop_service(host, SERVER, seconds=1)
        hosts.start_service(host, server(host, clock=(library, _file(host))))
        wait_for_server(lab)
    _write(host, seconds)


def _library() -> Path:
    for pattern in LIBRARIES:
        for found in Path("/").glob(pattern.lstrip("/")):
            return found
    raise LabError("setting a clock needs libfaketime (Debian: apt-get install libfaketime)")


def _file(host: Host) -> Path:
    return host.state / "clock"


def _write(host: Host, seconds: float) -> None:
    fresh = _file(host).with_suffix(".new")
    fresh.write_text(f"{seconds:+f}\n")
    os.replace(fresh, _file(host))
