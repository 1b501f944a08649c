"""How the engines of a rig are started: their words, environments and cores, under the limits that the cluster would impose.

Changes with what the rig learns of its engines: their context, their longest sequence, the flags that they refuse. Asks the
machine for its cores and its free memory, and must start nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slm_core import tuning
from slm_core.architecture import longest_sequence
from slm_core.engines.base import Options
from slm_core.engines.registry import engine_of
from slm_core.failure import Failure, ProfileError
from slm_core.sharing import sharing_of
from slm_core.sharing.base import EQUAL_SHARES, Limits
from slm_core.units import MIB
from slm_core.wording import several

from slm_runtime import host
from slm_runtime.engine_process import Launch
from slm_runtime.ledger import kv_bytes_per_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.configuration import EngineConfiguration
    from slm_core.engines.base import Engine
    from slm_core.measurements import SharingMode

    from slm_runtime.mps import MpsDaemon
    from slm_runtime.nvml import Device
    from slm_runtime.workload import Lengths

CPU_POOL_FRACTION = 0.4
"""Most of the free memory that a sweep's KV pool takes on CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The model and the engine that are measured."""

    model: str
    """Folder, or a name that the engine resolves."""
    served_name: str
    command: tuple[str, ...]
    """The engine's command."""
    arguments: tuple[str, ...] = ()
    """What it always has after the command: `Options.fixed`."""
    max_model_len: int | None = None
    timeout_seconds: float = tuning.STARTUP_SECONDS.default
    replica: host.Share = field(default_factory=host.Share)
    """What a replica of it may use: beside a GPU no engine is measured with more CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How the engines of a pack share a device."""

    mode: SharingMode
    engines: int
    limits: Limits = EQUAL_SHARES
    """Where they are held to something else than equal shares."""


class Launches:
    """What is known of how to start an engine."""

    def __init__(self, subject: Subject, config: Mapping[str, Any], device: Device | None) -> None:
        """`config`: the model's config.json, as far as it can be read."""
        self._subject = subject
        self._kind = engine_of(subject.command)
        self._config = config
        self._device = device
        self.context_bytes = 0
        """What an engine's context takes of the device: known once one has run."""
        self.left_out: tuple[str, ...] = ()
        """Flags of serving that the engine does not know."""
        self.model_len = subject.max_model_len
        self.lengths: Lengths | None = None
        self.args: tuple[str, ...] = ()
        """Words of the sweep's engine, ours and the user's."""

    def of(self, on: EngineConfiguration, index: int, daemon: MpsDaemon | None) -> Launch:
        """The start of one engine of a pack. Raises ProfileError where not even one sequence fits into the machine."""
        return Launch(
            kind=self._kind,
            command=self._words(on),
            environment=self._environment(on, index, daemon),
            timeout_seconds=self._subject.timeout_seconds,
            cores=self._cores(on.engines_per_gpu)[index],
        )

    def shortages(self, engines: int) -> tuple[str, ...]:
        """What keeps so many engines from what replicas would have, a sentence each."""
        if self._device:
            return host.shortages(host.available(), engines, self._subject.replica)
        cores = len(os.sched_getaffinity(0))
        if cores >= engines:
            return ()
        return (f"{engines} engines share {several(cores, 'core')}: what they gain here says little",)

    def kv_bytes_per_token(self, kv_dtype: str) -> int | None:
        """By the model's configuration; None where that does not tell."""
        dtype = self._kind.read_arguments(self._subject.arguments).dtype
        return kv_bytes_per_token(self._config, kv_dtype, dtype or "auto")

    def _cores(self, engines: int) -> tuple[tuple[int, ...], ...]:
        """Cores that each engine is held to beside a GPU; without one they are `_environment`'s to say."""
        each = self._subject.replica.cpus if self._device else None
        return host.cores_of_engines(frozenset(os.sched_getaffinity(0)), engines, each)

    def _words(self, on: EngineConfiguration) -> tuple[str, ...]:
        subject, fraction = self._subject, None
        if self._device and on.engines_per_gpu > 1:
            total = self._device.memory_bytes
            share = sharing_of(on.sharing_mode).memory_share(total, on.engines_per_gpu)
            fraction = self._kind.fraction_while_measuring(total, share, self.context_bytes)
        options = Options(
            model=subject.model,
            served_name=subject.served_name,
            batch_size=on.batch_size,
            max_num_batched_tokens=on.max_num_batched_tokens,
            kv_bytes=self._sweep_pool_bytes(on.batch_size) if on.kv_cache_bytes is None else on.kv_cache_bytes,
            memory_fraction=fraction,
            fixed=subject.arguments,
            left_out=self.left_out,
        )
        args = self._kind.arguments(subject.command, options)
        if on.kv_cache_bytes is None:
            self.args = args
        return (*subject.command, *args)

    def _sweep_pool_bytes(self, batch_size: int) -> int | None:
        """None lets a CUDA engine take what it finds; on CPU it would take the machine, so it gets what the sweep needs."""
        if self._device:
            return None
        per_token = self.kv_bytes_per_token("auto")
        if per_token is None:
            return 1024 * MIB
        model_len = self.model_len or longest_sequence(self._config) or 2048
        longest = min(self.lengths.longest, model_len) if self.lengths else model_len
        tokens = batch_size * self._kind.sequence_kv_tokens(longest + 1)
        most = int(CPU_POOL_FRACTION * host.free_bytes())
        least = self._kind.sequence_kv_tokens(model_len) * per_token
        if least > most:
            raise ProfileError(
                Failure.MEMORY, f"one sequence of {model_len} tokens needs {least} bytes of KV; {most} may be used"
            )
        return max(least, min(most, tokens * per_token))

    def _environment(self, on: EngineConfiguration, index: int, daemon: MpsDaemon | None) -> dict[str, str]:
        share = Share(mode=on.sharing_mode, engines=on.engines_per_gpu)
        return environment_of(share, index, self._kind, self._device, daemon)


def environment_of(
    share: Share, index: int, kind: Engine, device: Device | None, daemon: MpsDaemon | None
) -> dict[str, str]:
    """Variables that give one engine of a pack its share of the device, whether it is measured or serves."""
    made = dict(daemon.environment) if daemon else {}
    if device:
        made |= device.chosen()
        made |= sharing_of(share.mode).limits(device.memory_bytes, share.engines, share.limits)
    elif share.engines > 1:
        cores = frozenset(os.sched_getaffinity(0))
        made |= kind.pinned_to(host.shares(cores, share.engines)[index])
    return made
