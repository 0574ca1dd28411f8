"""Speaking with systemd: the real client against a manager made of a socket."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    Parser,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import DBusConnection

from agents.resources.limits import UNLIMITED, Limits
from agents.resources.slices import SliceError, Systemd, fixed_properties, properties_of

OBJECT = DBusAddress("/org/freedesktop/systemd1", interface="org.freedesktop.systemd1.Manager")
UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"


class Manager:
    """Answers calls, and tells of the end of jobs, as systemd does."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.errors: dict[str, str] = {}
        self.result = "done"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.connection = DBusConnection(theirs)

    def _serve(self) -> None:
        parser, job = Parser(), 0
        while data := self._socket.recv(65536):
            parser.add_data(data)
            while (message := parser.get_next_message()) is not None:
                method = message.header.fields[HeaderFields.member]
                if method == "Hello":
                    self._send(new_method_return(message, "s", (":1.1",)))
                    continue
                self.calls.append((method, message.body))
                if method in self.errors:
                    self._send(new_error(message, self.errors[method], "s", ("no",)))
                    continue
                if method not in ("StartTransientUnit", "StopUnit"):
                    self._send(new_method_return(message))
                    continue
                job += 1
                path = f"/org/freedesktop/systemd1/job/{job}"
                # Of somebody else's job first.
                for which, unit in ((path + "9", "other.slice"), (path, message.body[0])):
                    ended = new_signal(OBJECT, "JobRemoved", "uoss", (job, which, unit, self.result))
                    if which == path:
                        self._send(new_method_return(message, "o", (path,)))
                    self._send(ended)

    def _send(self, message: Message) -> None:
        self._socket.sendall(message.serialise(serial=len(self.calls) + 1000 + message.header.message_type.value))

    def close(self) -> None:
        self.connection.close()
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def manager() -> Any:
    made = Manager()
    yield made
    made.close()


def test_a_slice_is_started_changed_and_stopped(manager: Manager) -> None:
    systemd = Systemd(lambda: manager.connection)
    systemd.start("a-b.slice", [*fixed_properties("a-b.slice"), *properties_of(Limits(1024, 50_000), 2)])
    systemd.change("a-b.slice", properties_of(Limits(memory=5), 2))
    systemd.change("a-b.slice", [])
    systemd.stop("a-b.slice")
    methods = [method for method, _ in manager.calls]
    assert methods == ["Subscribe", "StartTransientUnit", "SetUnitProperties", "StopUnit"]
    unit, mode, properties, _ = manager.calls[1][1]
    assert (unit, mode) == ("a-b.slice", "replace")
    told = dict(properties)
    assert told["Wants"] == ("as", ["a.slice"])
    assert told["CPUWeight"] == ("t", 100)
    assert told["CPUQuotaPerSecUSec"] == ("t", 500_000)
    assert manager.calls[2][1] == ("a-b.slice", True, [("MemoryMax", ("t", 5))])


def test_a_slice_that_is_there_gets_the_properties(manager: Manager) -> None:
    manager.errors["StartTransientUnit"] = UNIT_EXISTS
    Systemd(lambda: manager.connection).start("a.slice", [*fixed_properties("a.slice"), ("TasksMax", ("t", 7))])
    assert manager.calls[-1] == ("SetUnitProperties", ("a.slice", True, [("TasksMax", ("t", 7))]))


def test_one_that_is_gone_is_stopped_already(manager: Manager) -> None:
    manager.errors["StopUnit"] = NO_SUCH_UNIT
    Systemd(lambda: manager.connection).stop("a.slice")


def test_refusals_and_failed_jobs_are_errors(manager: Manager) -> None:
    systemd = Systemd(lambda: manager.connection)
    manager.errors["SetUnitProperties"] = "org.freedesktop.DBus.Error.InvalidArgs"
    with pytest.raises(SliceError, match="systemd: SetUnitProperties: no"):
        systemd.change("a.slice", [("TasksMax", ("t", 7))])
    manager.result = "failed"
    with pytest.raises(SliceError, match=r"StartTransientUnit of a\.slice: failed"):
        systemd.start("a.slice", [])


def test_a_bus_that_is_not_there_is_told_and_tried_again(manager: Manager) -> None:
    tries = iter([OSError("no bus"), manager.connection])

    def connect() -> DBusConnection:
        found = next(tries)
        if isinstance(found, OSError):
            raise found
        return found

    systemd = Systemd(connect)
    with pytest.raises(SliceError, match="systemd cannot be reached: no bus"):
        systemd.stop("a.slice")
    systemd.stop("a.slice")


def test_limits_in_systemds_words() -> None:
    none = (1 << 64) - 1
    limits = Limits(2, UNLIMITED, memory=UNLIMITED, pids=UNLIMITED, huge_pages={"2MB": 0})
    assert properties_of(limits, 1) == [
        ("CPUShares", ("t", 2)),
        ("CPUQuotaPerSecUSec", ("t", none)),
        ("MemoryLimit", ("t", none)),
        ("TasksMax", ("t", none)),
    ]
    # Whole hundredths of a cpu, and never less than what was asked for.
    assert ("CPUQuotaPerSecUSec", ("t", 130_000)) in properties_of(Limits(cpu_quota=12_345), 2)
