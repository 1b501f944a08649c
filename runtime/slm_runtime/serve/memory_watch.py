"""Looks at the container's memory, and keeps written down what must be known should all of it be killed now.

Looks are made in a thread, because a file system may stand still and the supervisor must not. Assumes one caller at a time.
Must never write anything after the last word.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

from slm_core.failure import Failure

from slm_runtime import host
from slm_runtime.processes import anonymous_bytes, identity_of
from slm_runtime.serve import files
from slm_runtime.serve.memory import Remembered, Size, Sizes, ending_of, rounded, would_be_to_blame
from slm_runtime.serve.narration import REMEDIES
from slm_runtime.serve.pack import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slm_core.pack_pod import Termination

    from slm_runtime.engine_process import EngineProcess
    from slm_runtime.serve.memory import Ending
    from slm_runtime.serve.pack import Pack
    from slm_runtime.serve.settings import Settings


class MemoryWatch:
    """Of one pack."""

    def __init__(self, settings: Settings) -> None:
        """Reads what a former pack has left here, and removes what it had no time to."""
        self._state, self._last_word = settings.state_file, settings.termination_file
        self._first = identity_of(os.getppid())
        self._remedy = settings.kind.remedies.get(Failure.HOST_MEMORY) or REMEDIES[Failure.HOST_MEMORY]
        self._ready_bytes: dict[int, int] = {}
        self._written: tuple[Remembered, Termination] | None = None
        self.sizes = Sizes(engines={}, used_bytes=0, limit_bytes=host.memory_bytes())
        self.former = files.read_former(self._state) if self._state else None
        self.ending: Ending | None = None
        if self.former:
            self.ending = ending_of(self.former, files.boot_id())
            files.remove_left(self.former)

    @contextlib.contextmanager
    def until_seen_to_end(self) -> Iterator[None]:
        """While the pack runs. However that ends, nobody has to guess it afterwards."""
        try:
            yield
        finally:
            if self._state:
                files.forget(self._state)

    def look(self, pack: Pack, engines: Mapping[int, EngineProcess], now: float) -> None:
        """One look. `engines`: those that have a process; `now`: as the pack's plan has it."""
        self.sizes = self._look(pack, {index: one.pid for index, one in engines.items()})
        shared = {path for one in engines.values() for path in one.shared_memory}
        written = (self._remembered(pack, shared, now), would_be_to_blame(pack, self.sizes, now, self._remedy))
        if written == self._written:
            return
        self._written = written
        if self._state:
            files.remember(self._state, written[0])
        if self._last_word:
            files.leave(self._last_word, written[1])

    def _look(self, pack: Pack, pids: Mapping[int, int]) -> Sizes:
        resident = anonymous_bytes(pids.values())
        for index, pid in pids.items():
            if pack.engines[index].phase is Phase.READY:
                self._ready_bytes.setdefault(pid, resident[pid])
        self._ready_bytes = {pid: size for pid, size in self._ready_bytes.items() if pid in resident}
        engines = {
            index: Size(resident_bytes=resident[pid], grown_bytes=max(0, resident[pid] - self._ready_bytes.get(pid, 0)))
            for index, pid in pids.items()
        }
        return Sizes(engines=engines, used_bytes=host.unreclaimable_bytes(), limit_bytes=host.memory_bytes())

    def _remembered(self, pack: Pack, shared: Iterable[str], now: float) -> Remembered:
        index = self.sizes.grown_most
        size = self.sizes.engines[index] if index is not None else Size(resident_bytes=0, grown_bytes=0)
        return Remembered(
            boot=files.boot_id(),
            pid=self._first.pid if self._first else 0,
            started=self._first.started if self._first else 0,
            scratch=tempfile.gettempdir(),
            is_ending=pack.is_ending,
            served=pack.ready(now),
            engines=len(pack.engines),
            shared=files.joined(shared),
            grown_most=index,
            resident_bytes=rounded(size.resident_bytes),
            grown_bytes=rounded(size.grown_bytes),
            used_bytes=rounded(self.sizes.used_bytes),
            limit_bytes=self.sizes.limit_bytes,
        )
