"""systemd's side of the cgroup tree: slices as transient units, over D-Bus.

Where systemd owns the tree, a cgroup that it does not know of would be taken away, and a limit that it does not know
of would be put back at its next reload. Calls block; they are made in threads. Reference: opencontainers/cgroups
``systemd`` (startUnit, genV2ResourcesProperties).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from agents.resources.limits import UNLIMITED, Limits, weight_of

if TYPE_CHECKING:
    from jeepney.io.blocking import DBusConnection

MICROSECONDS = 1_000_000
NO_LIMIT = (1 << 64) - 1
QUOTA_STEP = 10_000
"""systemd counts quotas in whole hundredths of a cpu."""
JOB_SECONDS = 30.0
_MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
_EXISTS = "org.freedesktop.systemd1.UnitExists"
_MISSING = "org.freedesktop.systemd1.NoSuchUnit"

Property = tuple[str, tuple[str, Any]]
"""Name, and (type's signature, value)."""


class SliceError(OSError):
    """systemd refused, or does not answer; ``kind`` is the name of its error on the bus, "" when there is none."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class Units(Protocol):
    """What the tree needs of systemd."""

    def start(self, unit: str, properties: list[Property]) -> None:
        """Have the slice; one that is there gets the properties. Raises SliceError."""

    def change(self, unit: str, properties: list[Property]) -> None:
        """Raises SliceError."""

    def stop(self, unit: str) -> None:
        """Harmless when there is none. Raises SliceError."""


def fixed_properties(unit: str) -> list[Property]:
    """What every slice of ours is: below its parent, with its accounts kept, independent of shutdown's order."""
    parent = unit.removesuffix(".slice").rpartition("-")[0]
    found: list[Property] = [
        ("Description", ("s", f"orca: cgroup of pods {unit}")),
        ("DefaultDependencies", ("b", False)),
        *((f"{account}Accounting", ("b", True)) for account in ("CPU", "Memory", "Tasks", "IO")),
    ]
    if parent:
        found.append(("Wants", ("as", [f"{parent}.slice"])))
    return found


def properties_of(limits: Limits, version: int) -> list[Property]:
    """Limits in systemd's words; huge pages it does not know."""
    found: list[Property] = []
    if limits.cpu_shares is not None:
        weight = ("CPUWeight", weight_of(limits.cpu_shares)) if version == 2 else ("CPUShares", limits.cpu_shares)
        found.append((weight[0], ("t", weight[1])))
    if limits.cpu_quota is not None:
        a_second = NO_LIMIT
        if limits.cpu_quota != UNLIMITED:
            a_second = -(-limits.cpu_quota * MICROSECONDS // limits.cpu_period // QUOTA_STEP) * QUOTA_STEP
            if version == 2:
                found.append(("CPUQuotaPeriodUSec", ("t", limits.cpu_period)))
        found.append(("CPUQuotaPerSecUSec", ("t", a_second)))
    if limits.memory is not None:
        amount = NO_LIMIT if limits.memory == UNLIMITED else limits.memory
        found.append(("MemoryMax" if version == 2 else "MemoryLimit", ("t", amount)))
    if limits.pids is not None:
        found.append(("TasksMax", ("t", NO_LIMIT if limits.pids == UNLIMITED else limits.pids)))
    return found


class Systemd:
    """The manager of the system bus; connects at the first call, and again after a failure."""

    def __init__(self, connect: Callable[[], DBusConnection] | None = None) -> None:
        self._connect = connect or _system_bus
        self._connection: DBusConnection | None = None

    def __repr__(self) -> str:
        return "<Systemd>"

    def start(self, unit: str, properties: list[Property]) -> None:
        """Have the slice; one that is there gets the properties."""
        if self._job("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "replace", properties, [])) == _EXISTS:
            fixed = {name for name, _ in fixed_properties(unit)}
            self.change(unit, [one for one in properties if one[0] not in fixed])

    def change(self, unit: str, properties: list[Property]) -> None:
        """For as long as the unit is there."""
        if properties:
            self._call("SetUnitProperties", "sba(sv)", (unit, True, properties))

    def stop(self, unit: str) -> None:
        """End the slice and whatever is in it."""
        self._job("StopUnit", "ss", (unit, "replace"))

    def _job(self, method: str, signature: str, arguments: tuple[Any, ...]) -> str:
        """Start a job and wait for its end; the name of an error that is none to our callers, else ""."""
        from jeepney import MatchRule

        rule = MatchRule(type="signal", interface=_MANAGER[2], member="JobRemoved", path=_MANAGER[0])
        connection = self._open()
        with connection.filter(rule) as jobs:
            try:
                answer = self._call(method, signature, arguments)
            except SliceError as error:
                if error.kind in (_EXISTS, _MISSING):
                    return error.kind
                raise
            try:
                while True:
                    _, job, unit, result = connection.recv_until_filtered(jobs, timeout=JOB_SECONDS).body
                    if job == answer[0]:
                        break
            except (OSError, TimeoutError) as error:
                self._close()
                raise SliceError(f"systemd does not end {method}: {error}") from error
        if result not in ("done", "skipped"):
            raise SliceError(f"systemd: {method} of {unit}: {result}")
        return ""

    def _call(self, method: str, signature: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Raises SliceError."""
        from jeepney import DBusAddress, MessageType, new_method_call
        from jeepney.low_level import HeaderFields

        path, name, interface = _MANAGER
        message = new_method_call(DBusAddress(path, name, interface), method, signature, arguments)
        try:
            answer = self._open().send_and_get_reply(message, timeout=JOB_SECONDS)
        except (OSError, TimeoutError) as error:
            self._close()
            raise SliceError(f"systemd does not answer: {error}") from error
        if answer.header.message_type is MessageType.error:
            text = answer.body[0] if answer.body else ""
            raise SliceError(f"systemd: {method}: {text}", answer.header.fields.get(HeaderFields.error_name, ""))
        body: tuple[Any, ...] = answer.body
        return body

    def _open(self) -> DBusConnection:
        if self._connection is None:
            try:
                self._connection = self._connect()
                self._call("Subscribe", "", ())
            except OSError as error:
                self._close()
                raise SliceError(f"systemd cannot be reached: {error}") from error
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _system_bus() -> DBusConnection:
    """A connection that hears of finished jobs."""
    from jeepney import MatchRule, message_bus
    from jeepney.io.blocking import Proxy, open_dbus_connection

    connection = open_dbus_connection("SYSTEM")
    rule = MatchRule(type="signal", interface=_MANAGER[2], member="JobRemoved", path=_MANAGER[0])
    Proxy(message_bus, connection).AddMatch(rule)
    return connection
