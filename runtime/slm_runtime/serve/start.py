"""How one engine of a pack begins: with its words, its share of the device, a folder of its own, and its lines followed."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slm_runtime.engine_process import TAIL_BYTES, Launch, Place, begin_engine
from slm_runtime.launches import Share, environment_of
from slm_runtime.serve.output import Tail

if TYPE_CHECKING:
    from slm_runtime.engine_process import EngineProcess
    from slm_runtime.mps import MpsDaemon
    from slm_runtime.nvml import Device
    from slm_runtime.serve.output import Output
    from slm_runtime.serve.settings import Settings


async def begin(
    settings: Settings, index: int, device: Device | None, daemon: MpsDaemon | None, output: Output
) -> tuple[EngineProcess, asyncio.Task[None]]:
    """Its process, and the task that follows its output. Raises ProfileError or EngineFault."""
    share = Share(mode=settings.mode, engines=settings.engines, limits=settings.limits)
    launch = Launch(
        kind=settings.kind,
        command=settings.words(index),
        environment=environment_of(share, index, settings.kind, device, daemon),
    )
    tail = Tail(TAIL_BYTES)
    ours, theirs = os.pipe()
    try:
        place = Place(port=settings.ports[index], folder=_new_folder(index), out=theirs, read_log=tail.text)
        engine = await begin_engine(launch, place)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return engine, asyncio.create_task(output.follow(f"engine {index}", ours, tail))


def _new_folder(index: int) -> Path:
    """NB: an engine's sockets lie in it, and their paths may have 107 characters: it is no deeper than while measuring."""
    folder = Path(tempfile.gettempdir(), str(index))
    folder.mkdir(exist_ok=True)
    return folder
