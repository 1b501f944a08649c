"""What a pack says of itself, on a port of its own: GET and nothing else.

    /healthz   200 as long as the supervisor lives, whatever becomes of its engines: for liveness
    /readyz    200 while an engine serves, and the router asks where there is one, else 503: for readiness
    /metrics   Prometheus' text: all engines' and the supervisor's own, with the label `engine`
    /status    JSON, stable:

    {"state": "Starting"|"Serving"|"Degraded"|"Draining", "enginesReady": int, "enginesNotReady": int,
     "sharingMode": str, "daemon": str,
     "gpu": null | {"product": str, "uuid": str, "memoryBytes": int, "freeBytes": int},
     "routerAsks": null | bool,                                             null: there is no router
     "memory": {"usedBytes": int, "limitBytes": int, "grownMost": int|null},
     "former": null | {"ending": "OutOfMemory"|"MachineRestarted"|"Overdue"|"Killed", "served": int, "engines": int,
                       "grownMost": int|null, "residentBytes": int, "grownBytes": int, "usedBytes": int, "limitBytes": int},
                                                                            a pack here that did not end in order
     "failure": null | {"class": str, "message": str, "remedy": str},       what ends the pack
     "engines": [{"index": int, "port": int, "pid": int|null, "phase": "Down"|"Starting"|"Ready"|"Ending",
                  "serves": bool, "seconds": float, "starts": int, "failuresInRow": int,
                  "residentBytes": int|null, "grownBytes": int|null,
                  "waitsFor": null | str, "lastDeath": null | {"class": ..., "message": ..., "remedy": ...}}]}

A reader ignores keys that it does not know. Must never offer anything that changes the pack, nor stand on an engine's port.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from aiohttp import web
from slm_core.codec import to_json
from slm_core.pack_pod import LIVE_PATH, METRICS_PATH, READY_PATH, STATUS_PATH

from slm_runtime.serve.exposition import CONTENT_TYPE, merged
from slm_runtime.serve.figures import figures
from slm_runtime.serve.narration import remedy_of
from slm_runtime.serve.pack import Phase
from slm_runtime.serve.plan import waits_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from slm_runtime.nvml import Device
    from slm_runtime.serve.memory import Ending, Remembered, Sizes
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
    sizes: Sizes
    former: Remembered | None = None
    """What a pack has left here that did not end in order."""
    ending: Ending | None = None
    """What became of it."""
    router_asks: bool | None = None
    """None: there is no router."""
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
        "routerAsks": view.router_asks,
        "memory": {
            "usedBytes": view.sizes.used_bytes,
            "limitBytes": view.sizes.limit_bytes,
            "grownMost": view.sizes.grown_most,
        },
        "former": _former(view),
        "failure": _death(pack.fatal, settings),
        "engines": [_engine(view, index, engine) for index, engine in enumerate(pack.engines)],
    }


def _former(view: View) -> dict[str, Any] | None:
    """NB: process, folder and files are nobody's business."""
    if view.former is None:
        return None
    kept = to_json(view.former).items()
    shown = {
        name: value for name, value in kept if name not in {"boot", "pid", "started", "scratch", "shared", "isEnding"}
    }
    return {"ending": view.ending, "grownMost": None} | shown


def _state(pack: Pack, ready: int) -> str:
    if pack.is_ending:
        return "Draining"
    if ready == len(pack.engines):
        return "Serving"
    return "Degraded" if all(one.starts for one in pack.engines) else "Starting"


def _engine(view: View, index: int, engine: EngineState) -> dict[str, Any]:
    size = view.sizes.engines.get(index)
    return {
        "index": index,
        "port": view.settings.ports[index],
        "pid": view.pids.get(index),
        "phase": str(engine.phase),
        "serves": engine.serves(view.now, view.pack.patience),
        "seconds": round(view.now - engine.since, 1),
        "starts": engine.starts,
        "failuresInRow": engine.failures,
        "residentBytes": size and size.resident_bytes,
        "grownBytes": size and size.grown_bytes,
        "waitsFor": waits_for(view.pack, index, view.now, view.free_bytes) if engine.phase is Phase.DOWN else None,
        "lastDeath": _death(engine.death, view.settings),
    }


def _death(death: Death | None, settings: Settings) -> dict[str, str] | None:
    if death is None:
        return None
    return {"class": str(death.failure), "message": death.message, "remedy": remedy_of(death, settings)}


def application(view: Callable[[], View], pages: Callable[[], Awaitable[Mapping[int, str]]]) -> web.Application:
    """The port's routes. `pages`: the metrics of those engines that answer, by index."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        now = view()
        serve = 0 if now.pack.is_ending else now.pack.ready(now.now)
        away = "; no router asks which of them may have requests" if now.router_asks is False else ""
        said = f"{serve} of {len(now.pack.engines)} engines serve{away}\n"
        return web.Response(status=200 if serve and not away else 503, text=said)

    async def status(_: web.Request) -> web.Response:
        return web.json_response(status_of(view()))

    async def metrics(request: web.Request) -> web.StreamResponse:
        found = await pages()
        answer = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await answer.prepare(request)
        for text in chain((figure.text() for figure in figures(view(), found)), merged(found)):
            await answer.write(text.encode())
        return answer

    app = web.Application()
    routes = ((LIVE_PATH, healthz), (READY_PATH, readyz), (STATUS_PATH, status), (METRICS_PATH, metrics))
    app.add_routes([web.get(path, handler) for path, handler in routes])
    return app
