"""Which GPU product a profile is measured on where its spec names none: chosen before its Job is made, and said.

Left to the scheduler it would be whichever GPU is free first, and who asks again would be answered for another kind. What was
measured before a try stays on its product, so that no point is lost. Must never choose by chance: equal views, equal products.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from slm_operator.partitioning.discovery import PRODUCT_LABEL
from slm_operator.partitioning.whole_gpus import WHOLE_GPUS
from slm_operator.planning.fleet.product import measured_product
from slm_operator.planning.profile.former import former_of
from slm_operator.planning.profile.gpu import is_selected, opted_in, unfit

if TYPE_CHECKING:
    from slm_operator.api.profile import GpuSpec, SLMProfileSpec
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings

SHOWN_PRODUCTS = 5


class Choice(NamedTuple):
    """A product, and the end of a sentence that says why; empty where there is no other."""

    product: str | None
    because: str = ""


def chosen(view: ProfileView, gpu: GpuSpec, settings: Settings) -> Choice:
    """The product that a profile is to be measured on. None: no node says what it has, or no GPU is measured at all."""
    if gpu.product is not None or settings.profiling.device != "Gpu":
        return Choice(gpu.product)
    may_be_free, all_of = _counted(view, gpu, settings)
    if not all_of:
        return Choice(None)
    former = former_of(view.profile)
    before = measured_product(former) if former is not None else None
    if before in all_of:
        return Choice(before, f", on {before}, as what was measured before" if len(all_of) > 1 else "")
    # NB: by name in the end, so that it is the same one every time.
    product = min(all_of, key=lambda one: (-may_be_free[one], -all_of[one], one))
    if len(all_of) == 1:
        return Choice(product)
    counts = ", ".join(f"{one} {may_be_free[one]} of {count}" for one, count in sorted(all_of.items())[:SHOWN_PRODUCTS])
    return Choice(product, f", on {product}, of which most GPUs are free or will be by themselves ({counts})")


def on_product(spec: SLMProfileSpec, product: str | None) -> SLMProfileSpec:
    """The profile as it is measured on that product alone."""
    if product is None or spec.gpu.product is not None:
        return spec
    return spec.model_copy(update={"gpu": spec.gpu.model_copy(update={"product": product})})


def has_left(view: ProfileView, product: str | None, settings: Settings) -> bool:
    """Whether no node has the product any more, and all have others."""
    there = {one.node.meta.labels.get(PRODUCT_LABEL) for one in opted_in(view, settings)}
    return product is not None and bool(there) and there.isdisjoint({product, None})


def _counted(view: ProfileView, gpu: GpuSpec, settings: Settings) -> tuple[Counter[str], Counter[str]]:
    """GPUs that are free or will be by themselves, and all, of each product."""
    may_be_free, all_of = Counter[str](), Counter[str]()
    for state in opted_in(view, settings):
        product = state.node.meta.labels.get(PRODUCT_LABEL)
        if product is None or not is_selected(state, gpu):
            continue
        count = state.whole_gpus or state.gpus
        all_of[product] += count
        if unfit(state, gpu, settings) is None:
            may_be_free[product] += max(0, count - _held(state, count))
    return may_be_free, all_of


def _held(state: NodeState, count: int) -> int:
    """GPUs in the hands of pods that do not end by themselves, as profiles do. NB: a node with a slice in use stays as it is."""
    staying = [pod for pod in (*state.busy_pods, *state.our_pods) if pod.measures is None]
    if any(pod.gpu_requests.keys() - {WHOLE_GPUS.resource} for pod in staying):
        return count
    return sum(pod.gpu_requests.get(WHOLE_GPUS.resource, 0) for pod in staying)
