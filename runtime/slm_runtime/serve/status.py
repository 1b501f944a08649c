"""What a pack says of itself, on a port of its own: GET and nothing else.

    /healthz   200 as long as the supervisor lives, whatever becomes of its engines: for liveness
    /readyz    200 while an engine serves, else 503: for readiness
    /status    JSON, stable:

    {"state": "Starting"|"Serving"|"Degraded"|"Draining", "enginesReady": int, "enginesNotReady": int,
     "sharingMode": str, "daemon": str,
     "gpu": null | {"product": str, "uuid": str, "memoryBytes": int, "freeBytes": int},
     "failure": null | {"class": str, "message": str, "remedy": str},       what ends the pack
     "engines": [{"index": int, "port": int, "pid": int|null, "phase": "Down"|"Starting"|"Ready"|"Ending",
                  "serves": bool, "seconds": float, "starts": int, "failuresInRow": int,
                  "waitsFor": null | str, "lastDeath": null | {"class": ..., "message": ..., "remedy": ...}}]}

A reader ignores keys that it does not know. Must never offer anything that changes the pack, nor stand on an engine's port.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from slm_runtime.serve.narration import remedy_of
from slm_runtime.serve.pack import Phase
from slm_runtime.serve.plan import waits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slm_runtime.nvml import Device
    from slm_runtime.serve.pack import Death, EngineState, Pack
    from slm_runtime.serve.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that is said of a pack, at one moment."""

    pack: Pack
    settings: Settings
    device: Device | None
    free_bytes: int | None
    now: float
    pids: Mapping[int, int] = field(default_factory=dict)
    """Of the engines that have a process."""


def status_of(view: View) -> dict[str, Any]:
    """The JSON of /status."""
    pack, settings, device = view.pack, view.settings, view.device
    ready = pack.ready(view.now)
    return {
        "state": _state(pack, ready),
        "enginesReady": ready,
        "enginesNotReady": len(pack.engines) - ready,
        "sharingMode": str(settings.mode),
        "daemon": str(pack.daemon),
        "gpu": device
        and {
            "product": device.product,
            "uuid": device.uuid,
            "memoryBytes": device.memory_bytes,
            "freeBytes": view.free_bytes,
        },
        "failure": _death(pack.fatal, settings),
        "engines": [_engine(view, index, engine) for index, engine in enumerate(pack.engines)],
    }


def _state(pack: Pack, ready: int) -> str:
    if pack.is_ending:
        return "Draining"
    if ready == len(pack.engines):
        return "Serving"
    return "Degraded" if all(one.starts for one in pack.engines) else "Starting"


def _engine(view: View, index: int, engine: EngineState) -> dict[str, Any]:
    return {
        "index": index,
        "port": view.settings.ports[index],
        "pid": view.pids.get(index),
        "phase": str(engine.phase),
        "serves": engine.serves(view.now, view.pack.patience),
        "seconds": round(view.now - engine.since, 1),
        "starts": engine.starts,
        "failuresInRow": engine.failures,
        "waitsFor": waits_for(view.pack, index, view.now, view.free_bytes) if engine.phase is Phase.DOWN else None,
        "lastDeath": _death(engine.death, view.settings),
    }


def _death(death: Death | None, settings: Settings) -> dict[str, str] | None:
    if death is None:
        return None
    return {"class": str(death.failure), "message": death.message, "remedy": remedy_of(death, settings)}


def application(view: Callable[[], View]) -> web.Application:
    """The port's routes."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        now = view()
        ready = 0 if now.pack.is_ending else now.pack.ready(now.now)
        return web.Response(status=200 if ready else 503, text=f"{ready} of {len(now.pack.engines)} engines serve\n")

    async def status(_: web.Request) -> web.Response:
        return web.json_response(status_of(view()))

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/status", status)])
    return app
