"""The MPS daemon of a pack: started and ended when the plan says so, and watched by who its processes are.

NB: its control pipe is asked nothing while it is watched. In a fault it does not answer, and it would start a server that
nobody wants. Must never decide what a loss means.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from slm_core.failure import EngineFault

from slm_runtime import mps
from slm_runtime.serve.pack import ControlLost, DaemonGone, DaemonRuns, ServerLost, death_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from slm_runtime.serve.pack import Event

WATCH_SECONDS = 1.0
"""Between two looks at the daemon's processes."""


class DaemonKeeper:
    """Of one pack."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        go: Callable[[Coroutine[object, object, None]], asyncio.Task[None]],
    ) -> None:
        """`tell`: hears what becomes of the daemon; `go`: starts a task whose mistakes are heard of."""
        self._tell = tell
        self._go = go
        self._watching: asyncio.Task[None] | None = None
        self.daemon: mps.MpsDaemon | None = None
        """While there is one."""

    async def start(self) -> None:
        """Heard of: DaemonRuns or DaemonGone."""
        try:
            self.daemon = await mps.start_daemon()
        except EngineFault as error:
            self._tell(DaemonGone(death_of(error)))
            return
        self._tell(DaemonRuns())
        self._watching = self._go(self._watch())

    async def stop(self) -> None:
        """Heard of: DaemonGone."""
        if self._watching:
            self._watching.cancel()
        if self.daemon:
            await self.daemon.stop()
            self.daemon = None
        self._tell(DaemonGone())

    def note_losses(self) -> bool:
        """Say what of it is gone. Whether there is nothing more to lose."""
        if self.daemon is None:
            return True
        if not self.daemon.has_control:
            self._tell(ControlLost())
        if not self.daemon.has_servers:
            self._tell(ServerLost())
        return not self.daemon.has_servers

    async def _watch(self) -> None:
        while not self.note_losses():  # noqa: ASYNC110 - other processes' lives
            await asyncio.sleep(WATCH_SECONDS)
