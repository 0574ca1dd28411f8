"""Has anybody changed the host's packet rules? One cheap question to the kernel instead of reading them all.

nf_tables counts every committed change in a generation number, also those made by the iptables commands that are built
on it. With the legacy iptables there is no such number and ``read`` gives None: the caller has to look.
"""

from __future__ import annotations

import socket
import struct

_NETLINK_NETFILTER = 12
_NFT_GETGEN = (10 << 8) | 16
_HEADER = struct.Struct("=IHHIIBBH")
_GENERATION_ID = 1


class RuleGeneration:
    """Reads the generation number of the network namespace it was made in; a call takes some microseconds."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
            self._socket.settimeout(1.0)
            self._socket.bind((0, 0))
        except OSError:
            self.close()

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def read(self) -> int | None:
        """The generation, or None where the kernel has no nf_tables."""
        if not self._socket:
            return None
        try:
            self._socket.send(_HEADER.pack(20, _NFT_GETGEN, 1, 1, 0, 0, 0, 0))
            data = self._socket.recv(4096)
        except OSError:
            self.close()
            return None
        kind = struct.unpack_from("=H", data, 4)[0]
        if kind == 2:
            return None
        offset = 20
        while offset + 4 <= len(data):
            length, attribute = struct.unpack_from("=HH", data, offset)
            if attribute & 0x3FFF == _GENERATION_ID:
                return int(struct.unpack_from(">I", data, offset + 4)[0])
            offset += max((length + 3) & ~3, 4)
        return None
