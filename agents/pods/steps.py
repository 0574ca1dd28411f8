"""What a decision may ask for: one class an action, and the plan that holds them. Data only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime

from agents.pods.lifecycle import Life
from agents.pods.memory import Doom
from agents.pods.pulls import VOLUME_PREFIX
from agents.pods.sizes import Changes, Update


@dataclass(frozen=True, slots=True)
class Action(ABC):
    """Something to do; at most one action of a key runs at a time."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Of what it does something to, as in "start:web"."""


@dataclass(frozen=True, slots=True)
class MakeSandbox(Action):
    """Create and start the pause container and wire it."""

    attempt: int

    @property
    def key(self) -> str:
        return "sandbox"


@dataclass(frozen=True, slots=True)
class Wire(Action):
    """Attach a sandbox that was found running to the network again; answers its addresses."""

    @property
    def key(self) -> str:
        return "network"


@dataclass(frozen=True, slots=True)
class PrepareVolumes(Action):
    @property
    def key(self) -> str:
        return "volumes"


@dataclass(frozen=True, slots=True)
class EnsureImage(Action):
    """Have the image of a container that is to be started, by its pull policy."""

    container: str

    @property
    def key(self) -> str:
        return f"image:{self.container}"


@dataclass(frozen=True, slots=True)
class EnsureVolume(Action):
    """Have the image that is a volume, and mount it."""

    volume: str

    @property
    def key(self) -> str:
        return f"image:{VOLUME_PREFIX}{self.volume}"


@dataclass(frozen=True, slots=True)
class StartContainer(Action):
    container: str
    attempt: int

    @property
    def key(self) -> str:
        return f"start:{self.container}"


@dataclass(frozen=True, slots=True)
class StopContainer(Action):
    """preStop, stop signal, SIGKILL after ``grace`` seconds in all."""

    container: str
    id: str
    grace: float
    why: str
    resized: bool = False
    """To be made anew with other sizes, whatever its restart policy says."""
    replaced: bool = False
    """Likewise as another definition says."""
    hook: bool = True
    """Run preStop first, and say that the container is ended; False when both is done already."""

    @property
    def key(self) -> str:
        return f"stop:{self.container}"


@dataclass(frozen=True, slots=True)
class PreStop(Action):
    """The preStop hook of a sidecar: run when the pod begins to end, long before the sidecar gets its signal."""

    container: str
    id: str
    limit: float

    @property
    def key(self) -> str:
        return f"prestop:{self.id}"


@dataclass(frozen=True, slots=True)
class SaveSizes(Action):
    """Put what was allotted on disk."""

    @property
    def key(self) -> str:
        return "sizes"


@dataclass(frozen=True, slots=True)
class Resize(Action):
    """Give running containers other limits, in this order; the first that fails ends it."""

    updates: tuple[Update, ...]
    placements: tuple[Update, ...] = ()

    @property
    def key(self) -> str:
        return "resize"


@dataclass(frozen=True, slots=True)
class KillContainer(Action):
    """The grace period was shortened or has run out although a stop is under way."""

    id: str

    @property
    def key(self) -> str:
        return f"kill:{self.id}"


@dataclass(frozen=True, slots=True)
class Remove(Action):
    """Delete a container that is not needed any more (a sandbox may still run)."""

    id: str

    @property
    def key(self) -> str:
        return f"remove:{self.id}"


@dataclass(frozen=True, slots=True)
class Release(Action):
    """Give back addresses and volumes; with ``files`` everything else the pod has on this host."""

    files: bool

    @property
    def key(self) -> str:
        return "release"


@dataclass(frozen=True, slots=True)
class DeleteObject(Action):
    """Last status, then delete the object from the API with grace 0."""

    @property
    def key(self) -> str:
        return "delete"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container is not there yet: reason and message of its ``waiting`` state."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision. ``doom`` is set when this host gives the pod up (deadline)."""

    life: Life
    actions: tuple[Action, ...]
    wake_at: datetime | None = None
    waiting: dict[str, Waiting] = field(default_factory=dict)
    doom: Doom | None = None
    changes: Changes = field(default_factory=Changes)
    """What running containers lack of the sizes allotted to them."""
