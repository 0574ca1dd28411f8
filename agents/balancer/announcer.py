"""`Announcer`: answers for the addresses that this node is to announce, as long as nobody else does.

What is announced is kept in a file: an agent that starts while the API is away goes on with it, after it has asked
whether somebody else answers by now. Costs nothing while the node has nothing to announce.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import orjson
import structlog

from agents.balancer import frames, model
from agents.balancer.interfaces import interface_for
from agents.balancer.segment import Heard, Segment, routes
from agents.durable import read_object, write_file
from orca.api.objects import Obj, key
from orca.client.clock import Clock, rest
from orca.client.informer import Informer

log = structlog.get_logger()

PATIENCE_SECONDS = 2.0
"""For the API to tell what is announced, before what is remembered counts."""
PROBE_SECONDS = 1.0
RETRY_SECONDS = 2.0
RECONSIDER_SECONDS = 10.0
"""From when the API is in reach again, for the news of what was another one's meanwhile to arrive."""
FILE = "announced.json"


class Heart(Protocol):
    """``agents.node.LeaseHeart``."""

    @property
    def silent_seconds(self) -> float: ...

    def hurry(self, wanted: bool) -> None: ...


class Wire(Protocol):
    """``segment.Segment``."""

    @property
    def mac(self) -> bytes: ...

    @property
    def stale(self) -> bool: ...

    def listen_for(self, address: str) -> None: ...

    def forget(self, address: str) -> None: ...

    def send(self, frame: bytes) -> None: ...

    def close(self) -> None: ...


class Announcer:
    """See the module. ``open_wire`` and ``way`` (the two texts of routes) are the I/O."""

    def __init__(
        self,
        services: Informer,
        node_name: str,
        heart: Heart,
        *,
        root: Path,
        clock: Clock,
        open_wire: Callable[[str, Heard], Wire] = Segment,
        way: Callable[[], tuple[str, str]] = routes,
    ) -> None:
        self._services = services
        self._node_name = node_name
        self._heart = heart
        self._directory = root / "balancer"
        self._clock = clock
        self._open_wire = open_wire
        self._way = way
        self._wires: dict[str, Wire] = {}
        self._announced: dict[str, model.Announced] = {}
        self._probing: set[str] = set()
        self._given_up: dict[str, float] = {}
        """Somebody else answers, and the API has not said since that it is ours -> when it was out of reach last."""
        self._problems: dict[str, str] = {}
        self._assigned: dict[str, str] = {}
        self._known: dict[str, dict[str, str]] = {}
        self._wake = asyncio.Event()
        self._saved: dict[str, str] | None = None
        services.on_add(self._service_changed)
        services.on_update(lambda _, new: self._service_changed(new))
        services.on_delete(self._service_gone)

    def __repr__(self) -> str:
        return f"<Announcer of {', '.join(self._announced) or 'nothing'}>"

    @property
    def addresses(self) -> frozenset[str]:
        """What this host answers for now."""
        return frozenset(self._announced)

    async def run(self) -> None:
        """Until cancelled; with it ends all announcing."""
        try:
            await self._go_on()
            await self._services.synced()
            while True:
                self._wake.clear()
                self._assigned = {ip: owner for found in self._known.values() for ip, owner in found.items()}
                pause = self._adjust()
                await self._save()
                if pause is None:
                    await self._wake.wait()
                else:
                    await rest(self._clock, pause, self._wake)
        finally:
            for wire in self._wires.values():
                wire.close()
            self._wires.clear()
            self._announced.clear()

    # --- what the API says -------------------------------------------------------------------------------------------

    def _service_changed(self, service: Obj) -> None:
        owner = key(service)
        found = model.assigned([service], self._node_name)
        if found != self._known.get(owner, {}):
            # The API has spoken anew: what was given up may be ours again.
            for address in found:
                self._given_up.pop(address, None)
            if found:
                self._known[owner] = found
            else:
                self._known.pop(owner, None)
            self._wake.set()

    def _service_gone(self, service: Obj) -> None:
        if self._known.pop(key(service), None):
            self._wake.set()

    async def _go_on(self) -> None:
        """With what was announced before, while the API does not tell, as far as nobody else answers for it."""
        remembered = await asyncio.to_thread(self._read)
        if not remembered:
            return
        self._heart.hurry(True)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._services.synced()
                return
        except TimeoutError:
            pass
        log.warning("the API does not tell what to announce; going on with what was", addresses=sorted(remembered))
        telling = asyncio.ensure_future(self._services.synced())
        try:
            # An interface may come up later, or whoever answers for an address may go, like the API.
            while not telling.done():
                await self._take_up(remembered)
                self._keep_up(self._clock.monotonic())
                pause = asyncio.ensure_future(self._clock.sleep(RETRY_SECONDS))
                try:
                    await asyncio.wait({telling, pause}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    pause.cancel()
        finally:
            telling.cancel()

    async def _take_up(self, remembered: dict[str, str]) -> None:
        """Announces what nobody answers for."""
        now = self._clock.monotonic()
        never = float("-inf")
        self._probing = {
            address
            for address in remembered
            if address not in self._announced and now - self._given_up.get(address, never) >= RECONSIDER_SECONDS
        }
        if not self._probing:
            return
        asked = set()
        for address in self._probing:
            wire = self._wire_for(address)
            if wire is not None:
                wire[1].send(frames.probe(address, wire[1].mac))
                asked.add(address)
        await self._clock.sleep(PROBE_SECONDS)
        now = self._clock.monotonic()
        for address in asked:
            wire = self._wire_for(address)
            if address not in self._probing:
                self._given_up[address] = now
            elif wire is not None:
                # Quietly: whoever knows where it was has not been told otherwise.
                told = len(model.TOLD_AT)
                self._announced[address] = model.Announced(address, remembered[address], wire[0], now, told, now)
        self._probing = set()

    def _read(self) -> dict[str, str]:
        try:
            return {str(ip): str(owner) for ip, owner in read_object(self._directory / FILE).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("what was announced cannot be read", error=str(error))
            return {}

    async def _save(self) -> None:
        wanted = {ip: one.service for ip, one in self._announced.items()}
        if wanted != (self._saved or {}) or (self._saved is None and not wanted):
            try:
                await asyncio.to_thread(self._write, wanted)
            except OSError as error:
                log.warning("what is announced cannot be saved", error=str(error))
                return
            self._saved = wanted

    def _write(self, wanted: dict[str, str]) -> None:
        if not wanted:
            (self._directory / FILE).unlink(missing_ok=True)
        else:
            write_file(self._directory, FILE, orjson.dumps(wanted).decode())

    # --- what is announced -------------------------------------------------------------------------------------------

    def _adjust(self) -> float | None:
        """Begin, go on and end; seconds until something is due, None when nothing is."""
        now = self._clock.monotonic()
        self._reconsider(now)
        wanted = {ip: owner for ip, owner in self._assigned.items() if ip not in self._given_up}
        self._heart.hurry(bool(self._assigned))
        for address in [ip for ip in self._announced if ip not in wanted]:
            self._end(address, "another host announces it, or none")
        retry = False
        for address, owner in wanted.items():
            if address not in self._announced:
                retry |= not self._begin(address, owner, now)
        self._close_unused()
        due = [now + RETRY_SECONDS] if retry or self._given_up else []
        if not self._keep_up(now):
            return 0.0
        due += [one.due() for one in self._announced.values()]
        return max(min(due) - now, 0.0) if due else None

    def _keep_up(self, now: float) -> bool:
        """Tells everybody what is due. False when an interface went, which came back as another one of that name."""
        stale = [name for name, wire in self._wires.items() if wire.stale]
        if stale:
            for address in [ip for ip, one in self._announced.items() if one.interface in stale]:
                self._end(address, "its interface is gone")
            self._close_unused()
            return False
        for one in self._announced.values():
            if one.due() <= now:
                self._tell(one)
                one.tell(now)
        return True

    def _reconsider(self, now: float) -> None:
        """What the API, in reach again, has gone on to call ours is ours: the other was a stranger."""
        out_of_reach = self._heart.silent_seconds >= model.FORSAKEN_SECONDS
        for address, since in list(self._given_up.items()):
            if address not in self._assigned or (not out_of_reach and now - since >= RECONSIDER_SECONDS):
                del self._given_up[address]
            elif out_of_reach:
                self._given_up[address] = now

    def _begin(self, address: str, owner: str, now: float) -> bool:
        wire = self._wire_for(address)
        if wire is None:
            return False
        self._announced[address] = model.Announced(address, owner, wire[0], now)
        log.info("announcing", address=address, service=owner, interface=wire[0])
        return True

    def _wire_for(self, address: str) -> tuple[str, Wire] | None:
        interface = interface_for(address, *self._way())
        try:
            if not interface:
                raise OSError("there is no route to it")
            if interface not in self._wires:
                self._wires[interface] = self._open_wire(interface, self._heard)
            self._wires[interface].listen_for(address)
        except OSError as error:
            if self._problems.get(address) != str(error):
                log.error("an address cannot be announced", address=address, interface=interface, error=str(error))
            self._problems[address] = str(error)
            return None
        self._problems.pop(address, None)
        return interface, self._wires[interface]

    def _end(self, address: str, why: str) -> None:
        one = self._announced.pop(address)
        if one.interface in self._wires:
            self._wires[one.interface].forget(address)
        log.info("no longer announcing", address=address, service=one.service, why=why)

    def _close_unused(self) -> None:
        used = {one.interface for one in self._announced.values()}
        for interface in [name for name in self._wires if name not in used]:
            self._wires.pop(interface).close()

    def _tell(self, one: model.Announced) -> None:
        wire = self._wires[one.interface]
        for frame in frames.announcement(one.address, wire.mac):
            wire.send(frame)

    # --- what others say ---------------------------------------------------------------------------------------------

    def _heard(self, interface: str, said: frames.Question | frames.Claim) -> None:
        if isinstance(said, frames.Claim):
            self._probing.discard(said.address)
        one = self._announced.get(said.address)
        if one is None or one.interface != interface:
            return
        wire = self._wires[interface]
        if isinstance(said, frames.Question):
            wire.send(frames.answer(said, wire.mac))
            return
        mac, now = said.mac.hex(":"), self._clock.monotonic()
        # That an address became ours is a word of the API as well.
        silent = min(self._heart.silent_seconds, now - one.since)
        if model.yields(silent=silent, api_says_so=said.address in self._assigned):
            self._given_up[said.address] = now
            self._end(said.address, f"{mac} announces it and the API is out of reach")
            self._wake.set()
        elif one.contested(now):
            log.info("somebody else uses an address that this host announces", address=said.address, mac=mac)
            self._wake.set()
