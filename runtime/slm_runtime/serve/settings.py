"""What a pack is served with, and what of that cannot work: said before anything is started, each with its remedy. Pure.

Every value follows from an advice; nothing is chosen here. Defaults are only for what no measurement decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.engines.base import Options, ServingOptions
from slm_core.engines.registry import engine_of
from slm_core.measurements import SharingMode
from slm_core.pack_pod import (
    FIRST_ENGINE_PORT,
    HANDOVER_SECONDS,
    KILL_SECONDS,
    STATUS_PORT,
    SUPERVISOR_GRACE_SECONDS,
)
from slm_core.sharing import PACKED, sharing_of, word_of
from slm_core.sharing.base import EQUAL_SHARES, Limits
from slm_core.units import MIB
from slm_core.wording import several

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slm_core.engines.base import Engine

    from slm_runtime.device_checks import Choice

LAST_PORT = 65535
EXCLUSIVE = SharingMode.EXCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """What of the settings cannot work, and what to do about it."""

    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One pack."""

    model: str
    """Folder, or a name that the engine resolves."""
    served_name: str
    command: tuple[str, ...]
    """The engine's."""
    arguments: tuple[str, ...] = ()
    """The user's, after the command: `Options.fixed`."""
    engines: int
    mode: SharingMode
    limits: Limits = EQUAL_SHARES
    batch_size: int
    kv_bytes: int | None = None
    max_num_batched_tokens: int | None = None
    memory_fraction: float | None = None
    """None: as replicas have it whose profile has no ledger."""
    max_in_flight: int | None = None
    """None: as replicas have it, a batch that runs and one that waits."""
    left_out: tuple[str, ...] = ()
    """Flags that the engine does not know, as it was measured without them: `Options.left_out`."""
    host: str
    """Where engines listen."""
    first_port: int = FIRST_ENGINE_PORT
    """Engines have this one and those that follow."""
    status_port: int = STATUS_PORT
    agent_port: int | None = None
    """Where a router asks, on loopback, which engines may have requests. None: there is no router."""
    state_file: Path | None = None
    """Where it is kept what a successor must know. None: nowhere."""
    termination_file: Path | None = None
    """Where the reason of the end is written. None: nowhere."""
    grace_seconds: int = SUPERVISOR_GRACE_SECONDS
    """From SIGTERM until everything has ended."""
    startup_seconds: float
    device: Choice
    gpu_product: str | None = None
    gpu_memory_bytes: int | None = None

    @property
    def kind(self) -> Engine:
        """Which engine it is."""
        return engine_of(self.command)

    @property
    def ports(self) -> range:
        """Of the engines, in order."""
        return range(self.first_port, self.first_port + self.engines)

    @property
    def drain_seconds(self) -> int:
        """What of the grace requests in flight have."""
        return self.grace_seconds - self.spent_seconds

    @property
    def spent_seconds(self) -> int:
        """What of the grace is for other than draining."""
        return KILL_SECONDS + (HANDOVER_SECONDS if self.agent_port else 0)

    @property
    def fraction(self) -> float:
        """Of the device's memory, what each engine may count as its own."""
        given = self.memory_fraction
        return self.kind.fraction_while_serving(self.engines, None) if given is None else given

    def need_bytes(self, device_bytes: int) -> int:
        """Memory without which an engine refuses to start."""
        return math.ceil(self.fraction * device_bytes)

    def words(self, index: int) -> tuple[str, ...]:
        """The command line of one engine, by the writer of every command line."""
        service = ServingOptions(
            host=self.host,
            port=self.ports[index],
            max_in_flight=self.max_in_flight or 2 * self.batch_size,
            drain_seconds=self.drain_seconds,
        )
        options = Options(
            model=self.model,
            served_name=self.served_name,
            batch_size=self.batch_size,
            max_num_batched_tokens=self.max_num_batched_tokens,
            kv_bytes=self.kv_bytes,
            memory_fraction=self.fraction,
            fixed=self.arguments,
            service=service,
            left_out=self.left_out,
        )
        return (*self.command, *self.kind.arguments(self.command, options))


def mistakes(settings: Settings) -> tuple[Mistake, ...]:
    """All that can be known to be wrong without looking at the machine."""
    return (*_of_sharing(settings), *_of_sizes(settings), *_of_ports(settings))


def mistakes_on(settings: Settings, device_bytes: int | None) -> tuple[Mistake, ...]:
    """All that can be known to be wrong with this device. None: the CPU."""
    return tuple(_of_device(settings, device_bytes))


def _of_sharing(settings: Settings) -> Iterator[Mistake]:
    sharing, engines = sharing_of(settings.mode), settings.engines
    modes = " or ".join(f"--sharing-mode {one.word}" for one in PACKED)
    if engines > 1 and not sharing.allows_packs:
        yield Mistake(message=f"{engines} engines cannot have a GPU with {sharing.title}", remedy=f"give {modes}")
    if engines == 1 and sharing.allows_packs:
        yield Mistake(
            message=f"one engine shares with nobody, and {sharing.title} was asked for",
            remedy=f"leave --sharing-mode out, or give it as {word_of(EXCLUSIVE)}",
        )
    most = sharing.most_engines(None)
    if most is not None and engines > most:
        yield Mistake(message=f"{sharing.title} serves {most} clients, not {engines}", remedy="lower --engines-per-gpu")
    if settings.limits != EQUAL_SHARES and not sharing.is_limited:
        held = " or ".join(f"--sharing-mode {one.word}" for one in PACKED if one.is_limited)
        yield Mistake(
            message=f"nothing holds an engine to a limit with {sharing.title}",
            remedy=f"leave --memory-limit-bytes and --active-thread-percentage out, or give {held}",
        )


def _of_sizes(settings: Settings) -> Iterator[Mistake]:
    tokens, optional = settings.max_num_batched_tokens, settings.kind.optional_flags
    for flag in settings.left_out:
        if flag not in optional:
            yield Mistake(
                message=f"{settings.kind.name} does not serve as advised without {flag}",
                remedy=f"give none but {', '.join(f'--leave-out={one}' for one in optional)}",
            )
    if settings.engines > 1 and settings.kv_bytes is None:
        yield Mistake(
            message="engines that start together would mis-size each other's KV pools",
            remedy="give --kv-cache-bytes: kvCacheBytes of the advice",
        )
    if tokens is not None and tokens < settings.batch_size:
        yield Mistake(
            message=f"a step of {tokens} tokens has no room for {settings.batch_size} sequences",
            remedy="raise --max-num-batched-tokens to --batch-size at least",
        )
    if settings.engines * settings.fraction > 1:
        yield Mistake(
            message=f"{settings.engines} engines would want {settings.fraction:g} of the GPU's memory each",
            remedy=f"lower --gpu-memory-fraction to {math.floor(100 / settings.engines) / 100:g}, or leave it out",
        )
    if settings.drain_seconds < 1:
        yield Mistake(
            message=f"{settings.spent_seconds} s of the grace are for engines that have to be killed: nothing is left to drain",
            remedy=f"raise --grace-seconds above {settings.spent_seconds}, and what waits for the supervisor's end with it",
        )


def _of_ports(settings: Settings) -> Iterator[Mistake]:
    ports = settings.ports
    if ports[-1] > LAST_PORT:
        yield Mistake(
            message=f"{several(len(ports), 'engine')} from port {ports[0]} on would need port {ports[-1]}",
            remedy=f"lower --port to {LAST_PORT + 1 - len(ports)}",
        )
    for flag, whose, port in (
        ("--status-port", "the status's", settings.status_port),
        ("--agent-port", "the router's to ask", settings.agent_port),
    ):
        if port in ports:
            yield Mistake(
                message=f"port {port} is an engine's, and {whose}",
                remedy=f"give {flag} outside of {ports[0]} to {ports[-1]}",
            )
    if settings.agent_port == settings.status_port:
        yield Mistake(
            message=f"port {settings.status_port} is the status's, and the router's to ask",
            remedy="give --agent-port another one",
        )


def _of_device(settings: Settings, device_bytes: int | None) -> Iterator[Mistake]:
    sharing, limit = sharing_of(settings.mode), settings.limits.memory_bytes
    if device_bytes is None and sharing.daemon is not None:
        cpu = " or ".join(f"--sharing-mode {one.word}" for one in PACKED if one.daemon is None)
        yield Mistake(
            message=f"{sharing.title} needs a GPU, and there is none", remedy=f"give {cpu}: on a CPU each has its cores"
        )
    if device_bytes is not None and limit is not None and settings.engines * limit > device_bytes:
        yield Mistake(
            message=f"{several(settings.engines, 'engine')} of {limit // MIB} MiB each are more than the "
            f"{device_bytes // MIB} MiB of this GPU",
            remedy=f"lower --memory-limit-bytes to {device_bytes // settings.engines}, or leave it out",
        )
