"""`shutdown.Inhibitor` by systemd-logind: its delay lock and its signal PrepareForShutdown, over the system bus.

The library is loaded, and a thread waits, only on hosts whose configuration asks for a graceful shutdown: its blocking
interface is the one that can take the file descriptor of a lock.
See https://systemd.io/INHIBITOR_LOCKS/.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agents.node.shutdown import InhibitorError

if TYPE_CHECKING:
    from jeepney.io.blocking import DBusConnection

SERVICE = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
INTERFACE = "org.freedesktop.login1.Manager"
SETTINGS = Path("/etc/systemd/logind.conf.d")
CALL_SECONDS = 10.0
RELOAD_PAUSES = (0.1, 0.2, 0.5, 1.0)
"""Between telling logind to read its settings anew and seeing that it has."""
_FILE = "99-orca-agent.conf"

T = TypeVar("T")


async def forget_settings(settings: Path = SETTINGS) -> None:
    """Take back what was written for logind; it waits as long as before once it is restarted."""
    await asyncio.to_thread((settings / _FILE).unlink, missing_ok=True)


class Logind:
    """One connection; used once. Every call runs in a thread of its own, one at a time."""

    def __init__(self, settings: Path = SETTINGS) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "logind")
        self._bus: DBusConnection | None = None
        self._lock = -1
        self._closing = False

    def __repr__(self) -> str:
        return f"<Logind {'held' if self._lock >= 0 else 'not held'}>"

    async def hold(self, seconds: float) -> None:
        await self._call(lambda: self._hold(seconds))

    async def next(self) -> bool:
        return await self._call(self._next)

    async def release(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    async def close(self) -> None:
        self._closing = True
        await self.release()
        bus, self._bus = self._bus, None
        if bus is not None:
            # Wakes the thread that waits for a signal; it closes the connection when it has noticed.
            with contextlib.suppress(OSError):
                bus.sock.shutdown(socket.SHUT_RDWR)
            self._thread.submit(bus.close)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[], T]) -> T:
        from jeepney import DBusErrorResponse

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except DBusErrorResponse as error:
            raise InhibitorError(f"logind answers {error.name}: {error.data}") from error
        except (OSError, EOFError, TimeoutError, KeyError) as error:
            raise InhibitorError(f"the system bus: {error or type(error).__name__}") from error

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _hold(self, seconds: float) -> None:
        bus = self._connected()
        if self._delay(bus) < seconds:
            self._allow(bus, seconds)
            for pause in RELOAD_PAUSES:
                if (have := self._delay(bus)) >= seconds:
                    break
                time.sleep(pause)
            else:
                raise InhibitorError(f"logind lets a shutdown wait {have:g} s, not the {seconds:g} s asked for")
        [descriptor] = self._ask(bus, "Inhibit", "ssss", ("shutdown", "orca-agent", "ending pods", "delay"))
        before, self._lock = self._lock, descriptor.to_raw_fd()
        if before >= 0:
            os.close(before)

    def _connected(self) -> DBusConnection:
        from jeepney import MatchRule, message_bus
        from jeepney.io.blocking import Proxy, open_dbus_connection

        bus = self._bus
        if bus is None:
            if self._closing:
                raise EOFError("closed")  # while this was about to begin: nobody would end another connection
            bus = open_dbus_connection("SYSTEM", enable_fds=True)
            rule = MatchRule(type="signal", interface=INTERFACE, member="PrepareForShutdown", path=PATH)
            Proxy(message_bus, bus, timeout=CALL_SECONDS).AddMatch(rule)
            self._signals = bus.filter(rule, bufsize=100).__enter__()
            self._bus = bus
            if self._closing:
                self._bus = None
                bus.close()
                raise EOFError("closed")
        return bus

    def _next(self) -> bool:
        try:
            bus = self._connected()
            message = bus.recv_until_filtered(self._signals)
        except (OSError, EOFError):
            if self._closing:
                return False
            raise
        return bool(message.body[0])

    def _delay(self, bus: DBusConnection) -> float:
        """Seconds for which logind lets a lock delay a shutdown."""
        from jeepney import DBusAddress, Properties

        manager = DBusAddress(PATH, bus_name=SERVICE, interface=INTERFACE)
        reply = bus.send_and_get_reply(Properties(manager).get("InhibitDelayMaxUSec"), timeout=CALL_SECONDS)
        return float(_body(reply)[0][1]) / 1e6

    def _allow(self, bus: DBusConnection, seconds: float) -> None:
        """Have logind wait that long."""
        from jeepney import DBusAddress, new_method_call

        self._settings.mkdir(parents=True, exist_ok=True)
        text = f"# Written by orca-agent for its shutdownGracePeriod.\n[Login]\nInhibitDelayMaxSec={seconds:.0f}\n"
        (self._settings / _FILE).write_text(text)
        systemd = DBusAddress(
            "/org/freedesktop/systemd1",
            bus_name="org.freedesktop.systemd1",
            interface="org.freedesktop.systemd1.Manager",
        )
        hangup = new_method_call(systemd, "KillUnit", "ssi", ("systemd-logind.service", "all", 1))
        _body(bus.send_and_get_reply(hangup, timeout=CALL_SECONDS))

    def _ask(self, bus: DBusConnection, method: str, signature: str, body: tuple[Any, ...]) -> tuple[Any, ...]:
        from jeepney import DBusAddress, new_method_call

        manager = DBusAddress(PATH, bus_name=SERVICE, interface=INTERFACE)
        return _body(bus.send_and_get_reply(new_method_call(manager, method, signature, body), timeout=CALL_SECONDS))


def _body(reply: Any) -> tuple[Any, ...]:
    from jeepney.wrappers import unwrap_msg

    answered: tuple[Any, ...] = unwrap_msg(reply)
    return answered
