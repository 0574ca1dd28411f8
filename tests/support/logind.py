"""A made-up systemd-logind on a private message bus: as much of it as holding up a shutdown takes."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    message_bus,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import Proxy, open_dbus_connection

from tests.support.patience import PATIENCE
from tests.support.ports import listens

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"""


class FakeLogind:
    """`address` is the bus's; `settings` the directory whose InhibitDelayMaxSec is read anew at SIGHUP."""

    def __init__(self, directory: Path, *, delay: float = 5.0, obeys: bool = True) -> None:
        self.delay = delay
        self.settings = directory / "logind.conf.d"
        self.address = f"unix:path={directory / 'bus'}"
        self.inhibited: list[tuple[str, ...]] = []
        self._obeys = obeys
        self._locks: list[int] = []
        self._handed_over: list[int] = []
        (directory / "bus.conf").write_text(CONFIG.format(socket=directory / "bus"))
        self._daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={directory / 'bus.conf'}", "--nofork", "--nopidfile"]
        )
        deadline = time.monotonic() + PATIENCE
        while not listens(directory / "bus"):
            assert time.monotonic() < deadline, "no message bus"
            time.sleep(0.02)
        self._bus = open_dbus_connection(self.address, enable_fds=True)
        for name in ("org.freedesktop.login1", "org.freedesktop.systemd1"):
            Proxy(message_bus, self._bus).RequestName(name)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def locked(self) -> int:
        """How many locks are held: a lock is let go when its other end is closed."""
        held = 0
        for end in self._locks:
            try:
                held += os.read(end, 1) != b""
            except BlockingIOError:
                held += 1
        return held

    def prepare_for_shutdown(self, *, active: bool) -> None:
        """Tell everybody."""
        manager = DBusAddress("/org/freedesktop/login1", interface="org.freedesktop.login1.Manager")
        self._bus.send(new_signal(manager, "PrepareForShutdown", "b", (active,)))

    def stop(self) -> None:
        self._daemon.kill()
        self._daemon.wait()
        self._thread.join(5)
        while self._locks:
            os.close(self._locks.pop())

    def _serve(self) -> None:
        while True:
            try:
                message = self._bus.receive()
            except (OSError, EOFError):
                return
            if message.header.message_type is MessageType.method_call:
                self._bus.send(self._answer(message))
                while self._handed_over:
                    os.close(self._handed_over.pop())  # the receiver has its own

    def _answer(self, message: Message) -> Message:
        member: Any = message.header.fields.get(HeaderFields.member)
        match member:
            case "Get":
                return new_method_return(message, "v", (("t", int(self.delay * 1e6)),))
            case "Inhibit":
                self.inhibited.append(tuple(message.body))
                end, lock = os.pipe()
                os.set_blocking(end, False)
                self._locks.append(end)
                self._handed_over.append(lock)
                return new_method_return(message, "h", (lock,))
            case "KillUnit":
                assert message.body == ("systemd-logind.service", "all", 1)
                if self._obeys:
                    texts = [path.read_text() for path in self.settings.glob("*.conf")]
                    self.delay = float(re.findall(r"InhibitDelayMaxSec=(\d+)", "".join(texts))[-1])
                return new_method_return(message)
        return new_error(message, "org.freedesktop.DBus.Error.UnknownMethod")
