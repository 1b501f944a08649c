"""What is known of a pack, what is heard of it, and what can be done: the words of `plan`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slm_core.failure import EngineFault, Failure, ProfileError


class Phase(StrEnum):
    """Of an engine."""

    DOWN = "Down"
    STARTING = "Starting"
    READY = "Ready"
    ENDING = "Ending"


class Daemon(StrEnum):
    """The state of the program that the sharing mode needs beside the engines."""

    NOT_NEEDED = "NotNeeded"
    DOWN = "Down"
    STARTING = "Starting"
    RUNNING = "Running"
    ORPHANED = "Orphaned"
    """The control process is gone, and its server serves the clients that it has."""
    BROKEN = "Broken"
    """The server is gone or has faulted: no client of it works any more."""
    ENDING = "Ending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long what may last. Seconds."""

    backoff_seconds: float = 10.0
    """Before the second start in a row that follows a failure; then twice that, and so on. The first one is at once."""
    most_backoff_seconds: float = 300.0
    steady_seconds: float = 600.0
    """Whoever has served so long has no failures behind it."""
    silent_seconds: float = 30.0
    """An engine whose health check was not answered for so long is not counted as ready."""
    hung_seconds: float = 300.0
    """One that answered none for so long is ended: as for the liveness of a single replica, busy is not hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Why something ended that should not have."""

    failure: Failure
    message: str
    remedy: str | None = None
    """None: what its class says."""


def death_of(error: ProfileError | EngineFault) -> Death:
    """As an error has it."""
    return Death(failure=error.failure, message=str(error), remedy=error.remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """One engine of the pack."""

    phase: Phase = Phase.DOWN
    since: float = 0.0
    """When this phase began."""
    starts: int = 0
    failures: int = 0
    """In a row."""
    not_before: float = 0.0
    healthy_at: float = 0.0
    death: Death | None = None
    """Its last one."""
    deaths: tuple[tuple[Failure, int], ...] = ()
    """How many by class, in the order in which they first came."""

    def serves(self, now: float, patience: Patience) -> bool:
        """Whether clients may be sent to it."""
        return self.phase is Phase.READY and now - self.healthy_at < patience.silent_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """All that is remembered."""

    engines: tuple[EngineState, ...]
    patience: Patience = field(default_factory=Patience)
    need_bytes: int = 0
    """Memory that must be free on the device before an engine starts."""
    daemon: Daemon = Daemon.NOT_NEEDED
    daemon_starts: int = 0
    daemon_failures: int = 0
    daemon_not_before: float = 0.0
    is_probe_due: bool = False
    """An engine fell: whether the server still works is to be asked of its neighbours."""
    is_warm: bool = False
    """An engine has answered: the caches are full."""
    is_draining: bool = False
    stepped_at: float | None = None
    """When the last step was made."""
    fatal: Death | None = None
    """What ends the pack, because no start can help."""

    @property
    def is_ending(self) -> bool:
        """Nothing is started any more."""
        return self.is_draining or self.fatal is not None

    @property
    def all_down(self) -> bool:
        """No engine has a process."""
        return all(one.phase is Phase.DOWN for one in self.engines)

    def ready(self, now: float) -> int:
        """How many engines serve."""
        return sum(one.serves(now, self.patience) for one in self.engines)


# What is heard of the world.


@dataclass(frozen=True, slots=True)
class DaemonRuns:
    """The daemon has opened its pipe."""


@dataclass(frozen=True, slots=True)
class DaemonGone:
    """Nothing of the daemon is left: it was ended, or could not start, and why."""

    death: Death | None = None


@dataclass(frozen=True, slots=True)
class ControlLost:
    """The daemon's control process is gone."""


@dataclass(frozen=True, slots=True)
class ServerLost:
    """A process that served engines as the daemon's server is gone."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An engine that was started has answered a request."""

    index: int
    took_bytes: int = 0
    """Of the device since its start; its own where it started alone."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """An engine says that it is well."""

    index: int


@dataclass(frozen=True, slots=True)
class Fell:
    """An engine has died, or could not start; what is left of it is being removed."""

    index: int
    death: Death


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is left of an engine."""

    index: int


@dataclass(frozen=True, slots=True)
class Probed:
    """Engines that had been ready were asked for an answer each, because one beside them fell."""

    daemon: int
    """As Probe had it."""
    any_answered: bool


@dataclass(frozen=True, slots=True)
class Doomed:
    """Something is no more without which no engine can be started: the device can no longer be read."""

    death: Death


@dataclass(frozen=True, slots=True)
class EndAsked:
    """The supervisor is to drain and to end."""


Event = (
    DaemonRuns | DaemonGone | ControlLost | ServerLost | Answered | Healthy | Fell | Gone | Probed | Doomed | EndAsked
)


# What is done. What becomes of it is heard.


@dataclass(frozen=True, slots=True)
class StartDaemon:
    """Heard of: DaemonRuns or DaemonGone."""


@dataclass(frozen=True, slots=True)
class StopDaemon:
    """Heard of: DaemonGone."""


@dataclass(frozen=True, slots=True)
class Start:
    """Heard of: Answered or Fell."""

    index: int


@dataclass(frozen=True, slots=True)
class End:
    """Heard of: Gone."""

    index: int
    drains: bool
    """It may first finish what it has begun."""
    death: Death | None = None
    """Why it has to go, where that is its own fault."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask each of these engines for an answer. Heard of: Probed."""

    daemon: int
    """Which daemon they have, by its number."""
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of the supervisor."""

    status: int


Action = StartDaemon | StopDaemon | Start | End | Probe | Exit
