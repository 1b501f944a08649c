"""Runs real engines for the search: starts them under the cluster's limits, loads them, reads what they say.

The only implementation of `search_loop.Rig` that touches processes, sockets and clocks. Assumes one device (a GPU, or
the whole machine without one) that nobody else uses meanwhile. Must never decide what to measure next, and must leave
no process, daemon or file behind, whatever happens.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from slm_core.engines.registry import engine_of
from slm_core.failure import EngineFault, Failure, ProfileError
from slm_core.search.steps import EngineReport
from slm_core.sharing import sharing_of

from slm_runtime import host, mps
from slm_runtime.datasets import Conversations, counted, read_dataset
from slm_runtime.engine_process import start_engine
from slm_runtime.launches import Launches
from slm_runtime.ledger import Observed, make_ledger, read_config, weights_on_disk
from slm_runtime.measuring import Measurement, Running
from slm_runtime.processes import group_of
from slm_runtime.prompts import text_tokens
from slm_runtime.tokenizer import count_tokens, identify
from slm_runtime.workload import Lengths, usable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from slm_core.configuration import EngineConfiguration
    from slm_core.measurements import Ledger, MeasurementDocument, Point
    from slm_core.search.steps import Measure

    from slm_runtime.engine_process import EngineProcess
    from slm_runtime.launches import Subject
    from slm_runtime.measuring import Conditions
    from slm_runtime.nvml import Device

PORT_TRIES = 3


class EngineRig:
    """See `search_loop.Rig`."""

    def __init__(
        self,
        subject: Subject,
        lengths: Lengths | str,
        conditions: Conditions,
        device: Device | None,
        note: Callable[[str], None],
    ) -> None:
        """`lengths`: a str is a dataset's path; its token lengths are known once an engine with a tokenizer runs."""
        self._subject = subject
        self.kind = engine_of(subject.command)
        read = lengths if isinstance(lengths, Lengths) else read_dataset(lengths)
        self._conversations = read if isinstance(read, Conversations) else None
        self._conditions = conditions
        self._device = device
        self._note = note
        if not isinstance(lengths, Lengths):
            note(f"requests are as in {read.source}")
        config = read_config(subject.model)
        self._launches = Launches(subject, config, device)
        self._launches.lengths = read if isinstance(read, Lengths) else None
        self.source = read.source
        """Of the lengths, in words, before anything is left out of them."""
        self._tokens = text_tokens(config)
        self._seeds = random.Random(conditions.seed)  # noqa: S311 - of prompts, not of secrets
        self._engines: list[EngineProcess] = []
        self._daemon: mps.MpsDaemon | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._on: EngineConfiguration | None = None
        self._ledger: Ledger | None = None
        self._said: set[str] = set()
        self._began: float | None = None
        self._downloaded_seconds = 0.0
        self._former_version: str | None = None
        self.version = "unknown"
        self.fault: Failure | None = None
        """Class of the last EngineFault, for the exit status."""
        self.remedy: str | None = None
        """What to do about just that fault; None: what its class says."""

    @property
    def lengths(self) -> Lengths | None:
        """The workload, once it is known."""
        return self._launches.lengths

    @property
    def args(self) -> tuple[str, ...]:
        """Words of the sweep's engine, ours and the user's."""
        return self._launches.args

    def know(self, former: MeasurementDocument) -> None:
        """What engines of a former session showed of themselves: a pack may start before any lone engine does."""
        if former.ledger is not None:
            self._launches.context_bytes = former.ledger.context_bytes
        self._former_version = former.engine.version

    def gpu_seconds(self) -> float:
        """Wall time since the first start."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def budget_seconds(self) -> float:
        """What of it the budget counts: all but the model's download."""
        return max(0.0, self.gpu_seconds() - self._downloaded_seconds)

    def download_seconds(self) -> float:
        """See Rig. As long as somebody has seen the model grow on the disk."""
        return self._downloaded_seconds

    def add_download(self, seconds: float) -> None:
        """The model has been growing for so long since this was last said."""
        self._downloaded_seconds += seconds

    async def start(self, on: EngineConfiguration) -> EngineReport:
        """See Rig."""
        self._began = self._began or time.monotonic()
        self._on = on
        try:
            async with self._causes_named():
                return await self._start(on)
        except EngineFault as fault:
            # NB: on a GPU fewer sequences save no memory of the machine.
            hopeless = {Failure.MEMORY, Failure.HOST_MEMORY} if self._device else {Failure.MEMORY}
            if fault.failure in hopeless and on.kv_cache_bytes is None and fault.batch_size_limit is None:
                raise ProfileError(fault.failure, str(fault), fault.remedy) from fault
            raise

    @asynccontextmanager
    async def _causes_named(self) -> AsyncIterator[None]:
        """Whatever fails inside fails by the death of an engine, where it was only the first sign of one."""
        try:
            yield
        except (EngineFault, ProfileError) as sign:
            dying = await asyncio.gather(*(engine.is_dying() for engine in self._engines))
            for engine, dies in zip(self._engines, dying, strict=True):
                if dies:
                    death = engine.death()
                    self.fault, self.remedy = death.failure, death.remedy
                    raise death from sign
            self.fault, self.remedy = sign.failure, sign.remedy
            raise

    async def _start(self, on: EngineConfiguration) -> EngineReport:
        if sharing_of(on.sharing_mode).daemon:
            self._daemon = await mps.start_daemon()
        self._note_once(self._launches.shortages(on.engines_per_gpu))
        before = self._device.read().used_bytes if self._device else None
        seconds = []
        for index in range(on.engines_per_gpu):
            # One after the other: engines that start together mis-size each other.
            began = self.budget_seconds()
            self._engines.append(await self._start_known(on, index))
            # NB: before its memory is read: what the first request allocates stays allocated.
            await self._engines[-1].complete(self._first_request())
            seconds.append(self.budget_seconds() - began)
            if index == 0:
                self._ledger = await self._read_ledger(on, before)
                await self._learn()
        if self._daemon:
            await self._daemon.verify([group_of(engine.pid) for engine in self._engines])
        assert self._ledger, "read with the first engine"
        return EngineReport(
            ledger=self._ledger, max_model_len=self._launches.model_len, version=self.version, seconds=tuple(seconds)
        )

    async def _start_known(self, on: EngineConfiguration, index: int) -> EngineProcess:
        """Start one, again without each flag of serving that it refuses and can do without: an old engine is measured too."""
        try:
            return await self._start_one(on, index)
        except ProfileError as refusal:
            known = self.kind.optional_flags.keys() - set(self._launches.left_out)
            refused = sorted(flag for flag in known if refusal.failure is Failure.ARGUMENTS and flag in str(refusal))
            if not refused:
                raise
            self._launches.left_out += tuple(refused)
            for flag in refused:
                self._note(f"the engine does not know {flag}: {self.kind.optional_flags[flag]}")
        return await self._start_known(on, index)

    async def _start_one(self, on: EngineConfiguration, index: int) -> EngineProcess:
        launch = self._launches.of(on, index, self._daemon)
        for tries_left in reversed(range(PORT_TRIES)):
            try:
                return await start_engine(launch)
            except EngineFault as fault:
                if fault.failure is not Failure.PORT or not tries_left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    def _note_once(self, notes: Iterable[str]) -> None:
        for note in notes:
            if note not in self._said:
                self._said.add(note)
                self._note(note)

    async def _read_ledger(self, on: EngineConfiguration, used_before: int | None) -> Ledger:
        engine = self._engines[0]
        if self._device:
            total, used = self._device.memory_bytes, self._device.read().used_bytes - (used_before or 0)
        else:
            total, used = host.memory_bytes(), host.resident_bytes(group_of(engine.pid))
        report = await engine.memory()
        if self._device and on.kv_cache_bytes is None and report.log.activation_peak is None:
            raise ProfileError(
                Failure.LOG, "the engine's log does not say where its memory went: no ledger can be made"
            )
        seen = Observed(
            report=report,
            computed_kv_bytes_per_token=self._launches.kv_bytes_per_token(report.kv_dtype),
            weights_on_disk=weights_on_disk(self._subject.model),
            device_bytes=total,
            used_bytes=used,
            is_gpu=self._device is not None,
        )
        ledger, notes = make_ledger(seen)
        if on.kv_cache_bytes is None:
            self._launches.context_bytes = ledger.context_bytes
            for note in notes:
                self._note(note)
        return ledger

    async def _learn(self) -> None:
        """What only a running engine knows: its version, the longest sequence, and the tokens of a dataset's texts."""
        engine = self._engines[0]
        await engine.counters()  # a missing metric ends the search before any load
        itself = await identify(engine)
        launches = self._launches
        self.version, launches.model_len = itself.version, itself.max_model_len or launches.model_len
        if self._former_version not in (None, self.version):
            was = f"the former measurements are of {self.kind.name} {self._former_version}, these are of {self.version}"
            self._note_once((f"{was}: they are compared all the same",))
        lengths = launches.lengths
        if self._conversations:
            flat = [text for pair in self._conversations.texts for text in pair]
            counts = await count_tokens(engine, self._subject.served_name, flat)
            lengths = counted(self._conversations, counts)
            if None in counts:
                self._note(f"requests are as in {lengths.source}")
            self._conversations = None
        assert lengths, "given, or counted just now"
        launches.lengths = usable(lengths.pairs, lengths.source, launches.model_len or 2**31)

    def _first_request(self) -> dict[str, object]:
        return {"model": self._subject.served_name, "prompt": self._tokens[:1] * 8, "max_tokens": 8, "ignore_eos": True}

    async def measure(self, step: Measure) -> Point:
        """See Rig."""
        assert self._on, "the search measures what it has started"
        assert self._ledger, "read with the first engine"
        assert self.lengths, "learned from the first engine"
        running = Running(
            engines=tuple(self._engines),
            on=self._on,
            kv_pool_bytes=self._ledger.kv_pool_bytes,
            served_name=self._subject.served_name,
            tokens=self._tokens,
            lengths=self.lengths,
            device=self._device,
        )
        measurement = Measurement(running, step, self._conditions, self._seeds.getrandbits(64))
        async with self._causes_named():
            point = await measurement.take()
        for said in measurement.notes(point):
            self._note(f"B={point.batch_size}: {said}")
        return point

    async def stop(self) -> None:
        """See Rig. Once begun it goes on to its end, also when whoever waits for it is cancelled."""
        if self._engines or self._daemon:
            self._stopping = asyncio.create_task(_stop(self._engines, self._daemon))
            self._engines, self._daemon = [], None
        if self._stopping:
            await asyncio.shield(self._stopping)


async def _stop(engines: list[EngineProcess], daemon: mps.MpsDaemon | None) -> None:
    await asyncio.gather(*(engine.stop(daemon.let_go if daemon else None) for engine in engines))
    if daemon:
        await daemon.stop()
