"""Does what the plan says, and tells it what becomes of that.

Every engine has one task for its whole life, the daemon has one, and all of them speak to the plan through one queue.
Assumes to be the process's only task, below `init`. Must never decide anything, and must never end an engine's process
before its MPS server was asked to let go of it, nor one that serves before the router sends it nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, assert_never

from aiohttp import web
from slm_core.failure import EngineFault, ProfileError
from slm_core.pack_pod import METRICS_BYTES_PER_ENGINE
from slm_core.sharing import sharing_of

from slm_runtime.engine_process import COMPLETIONS, FIRST_ANSWER_SECONDS
from slm_runtime.ledger import read_config
from slm_runtime.processes import group_of
from slm_runtime.prompts import text_tokens
from slm_runtime.serve.agent import Agent
from slm_runtime.serve.daemon_keeper import DaemonKeeper
from slm_runtime.serve.init import ENDING
from slm_runtime.serve.narration import doing, former_pack, hearing
from slm_runtime.serve.pack import (
    Answered,
    Death,
    Doomed,
    End,
    EndAsked,
    Exit,
    Fell,
    Gone,
    Healthy,
    Phase,
    Probe,
    Probed,
    Start,
    StartDaemon,
    StopDaemon,
    death_of,
)
from slm_runtime.serve.plan import heard, new_pack, step
from slm_runtime.serve.start import begin
from slm_runtime.serve.status import View, application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable

    from slm_runtime.engine_process import EngineProcess
    from slm_runtime.nvml import Device
    from slm_runtime.serve.memory_watch import MemoryWatch
    from slm_runtime.serve.output import Output
    from slm_runtime.serve.pack import Action, Event, Pack, Patience
    from slm_runtime.serve.settings import Settings

TICK_SECONDS = 0.5
"""The longest between two looks at what waits for time or memory."""
HEALTH_SECONDS = 5.0
"""Between two health checks of an engine."""
MEMORY_SECONDS = 5.0
"""Between two looks at the container's memory."""
METRICS_SECONDS = 5.0
"""How long an engine's metrics are waited for: less than whoever reads the page waits for all."""
LAST_WORDS_SECONDS = 1.0
"""For what a dead engine has written to arrive."""


class Supervisor:
    """One pack, from its first start to its end."""

    def __init__(
        self, settings: Settings, device: Device | None, output: Output, patience: Patience, memory: MemoryWatch
    ) -> None:
        self._settings = settings
        self._device = device
        self._output = output
        self._memory = memory
        self._agent = Agent(settings.engines, lambda index: self.pack.engines[index].phase is Phase.READY)
        self._reading = asyncio.Lock()
        self._tokens = text_tokens(read_config(settings.model))
        self._events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._engines: dict[int, EngineProcess] = {}
        self._to_end: dict[int, asyncio.Future[bool]] = {}
        """By engine: set once it is to end, and whether it may drain."""
        self._keeper = DaemonKeeper(self._events.put_nowait, self._go)
        self._free_bytes: int | None = None
        self.pack: Pack = new_pack(
            settings.engines,
            patience,
            asyncio.get_running_loop().time(),
            need_bytes=settings.need_bytes(device.memory_bytes) if device else 0,
            needs_daemon=sharing_of(settings.mode).daemon is not None,
        )

    async def run(self) -> int:
        """Serve until the plan ends it. Returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in ENDING:
            loop.add_signal_handler(number, self._events.put_nowait, EndAsked())
        self._say(former_pack(self._memory.former, self._memory.ending))
        async with self._ports(), self._memory_watched():
            while True:
                self._look_at_device()
                self.pack, actions = step(self.pack, loop.time(), self._free_bytes)
                for action in actions:
                    if isinstance(action, Exit):
                        return action.status
                    self._begin(action)
                    self._say(doing(self.pack, action, self._settings))
                with contextlib.suppress(TimeoutError):
                    event = await asyncio.wait_for(self._events.get(), TICK_SECONDS)
                    if isinstance(event, BaseException):  # a mistake of ours: `init` ends what is left
                        raise event
                    self._hear(event)

    def view(self) -> View:
        """What is said of the pack."""
        return View(
            pack=self.pack,
            settings=self._settings,
            device=self._device,
            free_bytes=self._free_bytes,
            now=asyncio.get_running_loop().time(),
            sizes=self._memory.sizes,
            former=self._memory.former,
            ending=self._memory.ending,
            router_asks=self._agent.is_asked if self._settings.agent_port else None,
            pids={index: engine.pid for index, engine in self._engines.items()},
        )

    async def pages(self) -> dict[int, str]:
        """The metrics of those engines that answer. NB: for one reader at a time, however many ask."""
        async with self._reading:
            engines = dict(self._engines)
            found = await asyncio.gather(
                *(one.metrics_page(METRICS_BYTES_PER_ENGINE, METRICS_SECONDS) for one in engines.values())
            )
        return {index: page for index, page in zip(engines, found, strict=True) if page is not None}

    def _hear(self, event: Event) -> None:
        before = self.pack
        self.pack = heard(before, event, asyncio.get_running_loop().time())
        self._say(hearing(before, self.pack, event, self._settings))

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._output.say(line)

    def _look_at_device(self) -> None:
        if self._device is None:
            return
        try:
            self._free_bytes = self._device.memory_bytes - self._device.read().used_bytes
        except ProfileError as error:
            if self.pack.fatal is None:
                self._hear(Doomed(death_of(error)))

    @contextlib.asynccontextmanager
    async def _ports(self) -> AsyncIterator[None]:
        runner = web.AppRunner(application(self.view, self.pages), access_log=None)
        async with contextlib.AsyncExitStack() as open_ports:
            open_ports.push_async_callback(runner.cleanup)
            await runner.setup()
            await web.TCPSite(runner, None, self._settings.status_port).start()
            if self._settings.agent_port:
                await open_ports.enter_async_context(self._agent.serving(self._settings.agent_port))
            yield

    @contextlib.asynccontextmanager
    async def _memory_watched(self) -> AsyncIterator[None]:
        """NB: whoever ends the pack waits for the last look, for nothing may be written after the last word."""
        is_over = asyncio.Event()
        watching = self._go(self._watch_memory(is_over))
        try:
            yield
        finally:
            is_over.set()
            await asyncio.wait({watching})

    async def _watch_memory(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            now = asyncio.get_running_loop().time()
            await asyncio.to_thread(self._memory.look, self.pack, dict(self._engines), now)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), MEMORY_SECONDS)

    def _begin(self, action: Action) -> None:
        match action:
            case StartDaemon():
                self._go(self._keeper.start())
            case StopDaemon():
                self._go(self._keeper.stop())
            case Start(index=index):
                self._to_end[index] = asyncio.get_running_loop().create_future()
                self._go(self._live(index))
            case End(index=index, drains=drains):
                if not self._to_end[index].done():
                    self._to_end[index].set_result(drains)
            case Probe(daemon=daemon, indices=indices):
                self._go(self._probe(daemon, indices))
            case Exit():
                pass
            case _:
                assert_never(action)

    def _go(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._events.put_nowait(error)

    async def _probe(self, daemon: int, indices: tuple[int, ...]) -> None:
        answers = await asyncio.gather(*(self._answers(index) for index in indices))
        self._events.put_nowait(Probed(daemon, any(answers)))

    async def _answers(self, index: int) -> bool:
        """Whether an engine still computes. One that has no room for a request now has others that it computes."""
        engine = self._engines.get(index)
        if engine is None:
            return False
        with contextlib.suppress(EngineFault):
            status, _ = await engine.ask(
                "POST", COMPLETIONS, self._request(tokens=1), timeout_seconds=FIRST_ANSWER_SECONDS
            )
            return status < 500 or status == 503
        return False

    # An engine.

    async def _live(self, index: int) -> None:
        """One engine, from its start until nothing of it is left."""
        following: asyncio.Task[None] | None = None
        try:
            engine, following = await begin(self._settings, index, self._device, self._keeper.daemon, self._output)
        except (ProfileError, EngineFault) as error:
            self._events.put_nowait(Fell(index, death_of(error)))
            self._events.put_nowait(Gone(index))
            return
        self._engines[index] = engine
        serving = asyncio.create_task(self._serve(index, engine, following))
        to_end = self._to_end[index]
        either: set[asyncio.Future[Any]] = {serving, to_end}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            self._keeper.note_losses()  # before the death that follows from it
            self._events.put_nowait(Fell(index, serving.result()))
        else:
            serving.cancel()
            await asyncio.wait({serving})
            if to_end.result():
                if self._settings.agent_port:
                    await self._agent.hand_over(index)
                await engine.drain(self._settings.drain_seconds)
        await engine.stop(self._keeper.daemon.let_go if self._keeper.daemon else None)
        while group_of(engine.pid):  # noqa: ASYNC110 - a driver may hold a process long after it was killed
            await asyncio.sleep(TICK_SECONDS)
        del self._engines[index]
        await asyncio.wait({following}, timeout=LAST_WORDS_SECONDS)
        following.cancel()
        self._events.put_nowait(Gone(index))

    async def _serve(self, index: int, engine: EngineProcess, following: asyncio.Task[None]) -> Death:
        """Have it answer, watch over it, and say why it ended."""
        try:
            await self._make_answer(index, engine)
            while not await engine.ends(HEALTH_SECONDS):
                if await engine.is_healthy():
                    self._events.put_nowait(Healthy(index))
        except (ProfileError, EngineFault) as error:
            if not await engine.is_dying():
                return death_of(error)
        await asyncio.wait({following}, timeout=LAST_WORDS_SECONDS)
        return death_of(engine.death())

    async def _make_answer(self, index: int, engine: EngineProcess) -> None:
        free_before = self._free_bytes
        await engine.ready(self._settings.startup_seconds)
        # NB: kernels are compiled at its first request, and that allocates memory too: no client is to wait for it.
        await engine.complete(self._request(tokens=8))
        if self._keeper.daemon:
            await self._keeper.daemon.verify([group_of(engine.pid)])
        self._look_at_device()
        took = 0 if free_before is None or self._free_bytes is None else max(0, free_before - self._free_bytes)
        self._events.put_nowait(Answered(index, took))

    def _request(self, tokens: int) -> dict[str, object]:
        prompt = list(self._tokens[:1] * 8)
        return {"model": self._settings.served_name, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
