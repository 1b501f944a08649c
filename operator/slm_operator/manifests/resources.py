"""What an engine's container is given of a machine, and what the pod needs that measures several of them at once.

A pack is measured in one container: with the CPU of one replica for all of them it would lose to a single engine, and
nobody would know why. Must never put a measured figure into what names a profile: see `profile.profile_key`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from slm_core.sharing import allows_packs, asked_mode
from slm_core.units import GIB

from slm_operator.manifests.engine import CONTAINER
from slm_operator.manifests.overlay import merge
from slm_operator.quantity import amount, cpu_quantity, memory_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from slm_operator.api.profile import SearchSpec

CPUS = 2
HOST_BYTES, LEAST_HOST_BYTES = 6 * GIB, 8 * GIB
"""Host memory of an engine beside its weights (Python, torch, CUDA libraries, compile workers), and the least it gets."""
OWN: Mapping[str, Fraction] = {"cpu": Fraction(1), "memory": Fraction(GIB)}
"""What runs beside the engines: the profiler and its load generator, or the supervisor; and the MPS daemon."""
USABLE_FRACTION = Fraction(9, 10)
"""Of what a node can allocate: daemons take the rest."""
_WRITTEN: Mapping[str, Callable[[Fraction], str]] = {"cpu": cpu_quantity, "memory": memory_quantity}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What pods may take of a node: CPUs and bytes."""

    cpus: float
    memory_bytes: int


def resources(gpu: str, weights_bytes: int | None = None) -> dict[str, Any]:
    """Resources of an engine: integer CPUs, equal requests and limits, so that a static CPU manager can pin cores.

    Weights pass through host memory when they are loaded, so a model of many GiB needs as much there for a moment.
    """
    memory = max(LEAST_HOST_BYTES, (weights_bytes or 0) + HOST_BYTES)
    amounts = {"cpu": str(CPUS), "memory": f"{-(-memory // GIB)}Gi", gpu: "1"}
    return {"requests": dict(amounts), "limits": amounts}


def engine_resources(gpu: str, overlay: Mapping[str, Any], weights_bytes: int | None = None) -> dict[str, Any]:
    """Those of a replica whose pod template a user has merged over ours."""
    own = resources(gpu, weights_bytes)
    merged = merge({"spec": {"containers": [{"name": CONTAINER, "resources": own}]}}, dict(overlay))
    found: dict[str, Any] = next(c for c in merged["spec"]["containers"] if c["name"] == CONTAINER)
    return found.get("resources") or {}


def pack_resources(engine: Mapping[str, Any], engines: int) -> dict[str, Any]:
    """Resources of the container that runs so many engines like this one, and what measures or keeps them."""
    scaled = {part: _for_pack(part, engine[part] or {}, engines) for part in ("requests", "limits") if part in engine}
    return dict(engine) | scaled


def _for_pack(part: str, amounts: Mapping[str, Any], engines: int) -> dict[str, Any]:
    scaled = {}
    for name, written in _WRITTEN.items():
        one = amount(amounts.get(name))
        if one is not None:
            # Whoever requests less than all for an engine wants it to fit where little is free: so must the load.
            own = min(OWN[name], one) if part == "requests" else OWN[name]
            scaled[name] = written(one * engines + own)
    return dict(amounts) | scaled


def requested(engine: Mapping[str, Any]) -> dict[str, Any]:
    """What the scheduler looks for: a limit is a request too, unless another is made."""
    return (engine.get("limits") or {}) | (engine.get("requests") or {})


def largest_pack(search: SearchSpec) -> int:
    """Most engines that a profile may run at once."""
    if not allows_packs(asked_mode(search.mode)):
        return 1
    return search.engines_per_gpu or search.max_engines_per_gpu


def engines_that_fit(engine: Mapping[str, Any], wanted: int, rooms: Iterable[Room]) -> int:
    """As many of the engines wanted as the roomiest node can hold beside their load, at least one; all where none is known."""
    asked = requested(engine)
    known = [room for room in rooms if room.cpus and room.memory_bytes]
    if not known:
        return wanted
    return max(1, *(min(wanted, _fits(asked, room)) for room in known))


def _fits(asked: Mapping[str, Any], room: Room) -> int:
    counts = []
    for name, there in (("cpu", Fraction(room.cpus)), ("memory", Fraction(room.memory_bytes))):
        one = amount(asked.get(name))
        if one:
            counts.append(int((there * USABLE_FRACTION - min(OWN[name], one)) // one))
    return min(counts, default=10**6)
