"""Slices of a real systemd: its user instance, in namespaces and a cgroup of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jeepney import DBusAddress, MatchRule, Properties, message_bus
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection

from agents.resources.limits import UNLIMITED, Limits
from agents.resources.paths import Driver, Layout
from agents.resources.slices import Systemd, fixed_properties, properties_of
from orca.lab import cgroups
from tests.support.patience import PATIENCE
from tests.support.ports import listens

SYSTEMD = Path("/lib/systemd/systemd")
GROUP = f"orca-test-systemd-{os.getpid()}"
BUS = "org.freedesktop.systemd1"
UNITS = {
    "default.target": "[Unit]\nWants=dbus.service\nAfter=dbus.service\n",
    "basic.target": "[Unit]\n",
    "shutdown.target": "[Unit]\n",
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream={bus}\n",
    "dbus.service": "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\n"
    "ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile\n",
}
SCRIPT = """
for root in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ -e "$root/cgroup.procs" ]; then mkdir -p "$root/{group}"; echo $$ > "$root/{group}/cgroup.procs"; fi
done
exec unshare -m --propagation private -p -f --kill-child --mount-proc sh -c '
    mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/user/0
    export XDG_RUNTIME_DIR=/run/user/0 DBUS_SESSION_BUS_ADDRESS=unix:path={bus} SYSTEMD_UNIT_PATH={units}
    {systemd} --user & wait'
"""

pytestmark = pytest.mark.skipif(
    not SYSTEMD.exists() or shutil.which("dbus-daemon") is None, reason="systemd or dbus-daemon is not installed"
)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    """Path of the bus on which that systemd is."""
    units, path = tmp_path / "units", tmp_path / "bus"
    units.mkdir()
    for name, text in UNITS.items():
        (units / name).write_text(text.format(bus=path))
    script = SCRIPT.format(group=GROUP, bus=path, units=units, systemd=SYSTEMD)
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        # Who listens first is systemd for the bus; it has its name there a little later.
        while not listens(path) or not _is_there(path):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield str(path)
    finally:
        process.kill()
        process.wait()
        cgroups.kill(GROUP)
        cgroups.remove(GROUP)


def _is_there(path: Path) -> bool:
    with open_dbus_connection(f"unix:path={path}") as connection:
        return bool(Proxy(message_bus, connection).NameHasOwner(BUS)[0])


@pytest.mark.parametrize("version", [2, 1])
def test_a_real_systemd_takes_what_it_is_told(bus: str, version: int) -> None:
    def connect() -> DBusConnection:
        connection = open_dbus_connection(f"unix:path={bus}")
        rule = MatchRule(
            type="signal", interface=f"{BUS}.Manager", member="JobRemoved", path="/org/freedesktop/systemd1"
        )
        Proxy(message_bus, connection).AddMatch(rule)
        return connection

    def shown(*names: str) -> list[object]:
        slice_ = "/org/freedesktop/systemd1/unit/a_2dkubepods_2dburstable_2dpodx_5f1_2eslice"
        properties = Properties(DBusAddress(slice_, BUS, f"{BUS}.Slice"))
        with connect() as connection:
            return [connection.send_and_get_reply(properties.get(name)).body[0][1] for name in names]

    layout = Layout(Driver.SYSTEMD, version, "/a")
    pod = {"metadata": {"uid": "x-1"}, "spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}}
    unit = layout.parent(layout.pod_name(pod))
    names = ("CPUWeight", "MemoryMax") if version == 2 else ("CPUShares", "MemoryLimit")
    weights = (100, 59) if version == 2 else (1024, 512)
    systemd = Systemd(connect)
    first, second = (Limits(shares, 25_500, memory=size << 20, pids=64) for shares, size in ((1024, 64), (512, 32)))
    systemd.start(unit, [*fixed_properties(unit), *properties_of(first, version)])
    assert shown(*names, "TasksMax", "CPUQuotaPerSecUSec") == [weights[0], 64 << 20, 64, 260_000]
    # Where we take it to be is where systemd has it.
    assert str(shown("ControlGroup")[0]).endswith(layout.pod_cgroup(pod))
    # Again, as an agent that was killed does.
    systemd.start(unit, [*fixed_properties(unit), *properties_of(second, version)])
    assert shown(*names) == [weights[1], 32 << 20]
    systemd.change(unit, properties_of(Limits(cpu_quota=UNLIMITED, memory=UNLIMITED), version))
    assert shown(names[1], "CPUQuotaPerSecUSec") == [(1 << 64) - 1, (1 << 64) - 1]
    systemd.stop(unit)
    systemd.stop(unit)
