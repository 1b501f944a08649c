"""The checks that only the advisor makes: they know the user's settings, memory and slices.

Those that the search makes too are `slm_core.decision` and `slm_core.point_checks`. Must never look at other candidates.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from slm_core.candidates import Check, CheckName
from slm_core.decision import Further
from slm_core.sharing import allows_packs, sharing_of
from slm_core.units import GIB

from slm_operator.advisor import memory
from slm_operator.advisor.explain import without_mps

if TYPE_CHECKING:
    from slm_core.measurements import Point

    from slm_operator.advisor.context import Context


def sharing(context: Context, point: Point) -> Check:
    """What the user allows."""
    s = context.settings
    name = CheckName.SHARING
    if not allows_packs(s.mode):
        return Check(name, False, f"the user allows no sharing (mode {s.mode})")
    if s.mode is not None and s.mode is not point.sharing_mode:
        return Check(name, False, f"the user requested {s.mode}, this is {point.sharing_mode}")
    if s.against_mps is not None and sharing_of(point.sharing_mode).daemon is not None:
        return Check(name, False, without_mps(s.against_mps))
    own, most = s.engines_per_gpu, s.max_engines_per_gpu
    if own is not None and own != point.replicas:
        return Check(name, False, f"the user requested {own} per GPU", point.replicas, own)
    if most is not None and point.replicas > most:
        return Check(name, False, f"the user allows at most {most} per GPU", point.replicas, most)
    return Check(name, True, "the user allows it")


def slice_limit(context: Context, point: Point) -> Check:
    """What the device plugin can make."""
    limit = context.settings.plugin_max_replicas
    enough = point.replicas <= limit
    because = f"the device plugin makes {'up to' if enough else 'only'} {limit} slices of a GPU"
    return Check(CheckName.SLICE_LIMIT, enough, because, point.replicas, limit)


def fits(context: Context, point: Point) -> Check:
    """Weights, activations, graphs, context and KV bytes of one engine inside its slice."""
    kv = memory.kv_bytes(context, point)
    if context.ledger is None or kv is None:
        return Check(CheckName.MEMORY, True, "not judged: the document has no memory ledger")
    share = memory.slice_bytes(context, point.replicas, proven=memory.is_proven(context, point)) / GIB
    need = (context.fixed_bytes + kv) / GIB
    if need <= share and kv > 0:
        because = f"needs {need:.2f} GiB of the {share:.2f} GiB that an engine may use"
        return Check(CheckName.MEMORY, True, because, need, share)
    need = max(need, share)  # NB: where nothing is left for KV, less than the share was computed
    return Check(CheckName.MEMORY, False, f"needs {need:.2f} GiB, an engine may use {share:.2f} GiB", need, share)


def further(context: Context) -> Further:
    """What the advisor asks besides what the search asks (`slm_core.decision`)."""
    return Further(
        of_packs=(partial(sharing, context), partial(slice_limit, context)),
        of_all=(partial(fits, context),),
    )
