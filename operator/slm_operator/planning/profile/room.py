"""What the nodes that a profile may run on can hold: how large a pack is measured there, and the memory of their GPUs.

A pod that measures R engines needs the CPU and memory of R replicas. Where no node has as much, no node could serve
them either: fewer are measured, and it is said. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.units import MIB
from slm_core.wording import several

from slm_operator.manifests.profile import Where
from slm_operator.manifests.resources import Room, engine_resources, engines_that_fit, largest_pack, requested
from slm_operator.partitioning.discovery import MEMORY_LABEL, number
from slm_operator.partitioning.whole_gpus import WHOLE_GPUS
from slm_operator.planning.profile.gpu import hosts_with_parts, is_selected, opted_in, preferences

if TYPE_CHECKING:
    from slm_operator.api.profile import GpuSpec, SLMProfileSpec
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings


def bounded_by_room(view: ProfileView, spec: SLMProfileSpec, settings: Settings) -> tuple[SLMProfileSpec, str]:
    """The profile with no larger pack than some node can hold, and the end of a sentence that says so; empty: as asked."""
    wanted = largest_pack(spec.search)
    engine = engine_resources(WHOLE_GPUS.resource, spec.pod_template or {})
    rooms = [Room(cpus=s.node.cpus, memory_bytes=s.node.memory_bytes) for s in _selected(view, spec.gpu, settings)]
    fitting = engines_that_fit(engine, wanted, rooms)
    if fitting == wanted:
        return spec, ""
    exactly = None if spec.search.engines_per_gpu is None else fitting
    search = spec.search.model_copy(update={"max_engines_per_gpu": fitting, "engines_per_gpu": exactly})
    each = " and ".join(f"{text} of {name}" for name, text in requested(engine).items() if name in {"cpu", "memory"})
    said = (
        f", for at most {several(fitting, 'engine')} a GPU and not {wanted}: no node has more room for engines that request {each}; "
        "podTemplate can lower that"
    )
    return spec.model_copy(update={"search": search}), said


def place(view: ProfileView, gpu: GpuSpec, settings: Settings) -> Where:
    """Where the profile's pod is sent, and what it must find there."""
    return Where(
        # NB: the label is consent to be reconfigured. Where nobody gave it to any node, measuring needs none.
        opt_in_label=settings.nodes.opt_in_label if opted_in(view, settings) else None,
        preferred=preferences(view, gpu, settings),
        device=settings.profiling.device.lower(),
        excluded=hosts_with_parts(view, settings),
        gpu_memory_bytes=_gpu_memory_bytes(view, gpu, settings),
    )


def _gpu_memory_bytes(view: ProfileView, gpu: GpuSpec, settings: Settings) -> int | None:
    """Memory of each GPU there as feature discovery has it; None where the nodes differ or do not say."""
    found = {number(state.node.meta.labels.get(MEMORY_LABEL)) for state in _selected(view, gpu, settings)}
    return found.pop() * MIB or None if len(found) == 1 else None


def _selected(view: ProfileView, gpu: GpuSpec, settings: Settings) -> list[NodeState]:
    return [state for state in opted_in(view, settings) if is_selected(state, gpu)]
