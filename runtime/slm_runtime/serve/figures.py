"""What the supervisor knows of its engines, as figures for monitoring: beside the engines' own on one page. Pure.

Names and labels are a promise to dashboards and alerts; `status` says the same in words. A reason is a label, as a state
is everywhere in Prometheus, and its value a number. Must never leave out an engine that is away: just that is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_runtime.serve.exposition import LABEL, Figure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from slm_runtime.serve.status import View


def figures(view: View, shown: Collection[int]) -> Iterator[Figure]:
    """All of them. `shown`: the engines whose own figures are on the page."""
    pack, every = view.pack, range(len(view.pack.engines))
    yield _each("up", "The engine's own figures are on this page.", [index in shown for index in every])
    yield _each("ready", "The engine serves.", [engine.serves(view.now, pack.patience) for engine in pack.engines])
    yield _each("starts_total", "Starts of the engine.", [engine.starts for engine in pack.engines], kind="counter")
    yield Figure(
        name="slm_pack_engine_failures_total",
        kind="counter",
        means="Failures of the engine, by class.",
        samples=tuple(
            ({LABEL: str(index), "class": str(failure)}, count)
            for index, engine in enumerate(pack.engines)
            for failure, count in engine.deaths
        ),
    )
    yield _each(
        "failures_in_row", "Failures since the engine last served for long.", [e.failures for e in pack.engines]
    )
    sizes = [view.sizes.engines[index].resident_bytes if index in view.sizes.engines else 0 for index in every]
    yield _each("resident_bytes", "Memory of the engine's processes, without pages of files.", sizes)
    yield _one(
        "memory_limit_bytes", "The container's memory, or the machine's where that is less.", view.sizes.limit_bytes
    )
    yield _one("draining", "The pack's end has begun.", pack.is_ending)
    if view.router_asks is not None:
        yield _one("router_asks", "The router asks which engines may have requests.", view.router_asks)


def _each(name: str, means: str, values: list[bool] | list[int], kind: str = "gauge") -> Figure:
    samples = tuple(({LABEL: str(index)}, float(value)) for index, value in enumerate(values))
    return Figure(name=f"slm_pack_engine_{name}", kind=kind, means=means, samples=samples)


def _one(name: str, means: str, value: float) -> Figure:
    return Figure(name=f"slm_pack_{name}", kind="gauge", means=means, samples=(({}, float(value)),))
