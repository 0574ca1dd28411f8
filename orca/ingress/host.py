"""What the configuration of nginx depends on besides the cluster: files, ports, limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Host:
    """Of the process and its surroundings, not of the cluster."""

    state: Path
    """Directory of sockets, certificates and temporary files."""
    lua: tuple[Path, ...]
    """Directories with Lua modules: ours, and those of Debian's packages."""
    modules: Path = Path("/usr/lib/nginx/modules")
    http_port: int = 8080
    https_port: int = 8443
    user: str = ""
    """Whom workers run as; "" where nginx is started by somebody without rights."""
    workers: str = "auto"
    connections: int = 16384
    files: int = 0
    """Limit of open files for workers; 0 leaves it."""
    ipv6: bool = False
    resolvers: tuple[str, ...] = ()
    """Name servers for Services of type ExternalName."""
    trusted: tuple[str, ...] = ()
    """Networks of load balancers whose ``X-Forwarded-*`` are believed."""
    drain_seconds: int = 240
    """How long connections of a former configuration may go on."""
    live_memory: str = "16m"

    @property
    def control(self) -> Path:
        return self.state / "control.sock"

    @property
    def live(self) -> Path:
        """What changes without a reload, for an nginx that starts."""
        return self.state / "live"

    def certificate(self, file: str) -> Path:
        return self.state / "certificates" / (file or "default.pem")
