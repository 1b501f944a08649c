"""Which GPU a profile's pod is sent to, and why none is free: what the scheduler does not know or does not say.

A profile takes any whole GPU of the right kind and never evicts anybody for it. Which of several is a wish to the
scheduler, made when the Job is made: a node where nobody holds a GPU first, because co-tenants disturb a measurement;
then one with a GPU free beside others; and last one that the fleet is about to change, which then waits for the profile
to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.manifests.profile import Preference
from slm_operator.partitioning.discovery import PRODUCT_LABEL
from slm_operator.partitioning.whole_gpus import WHOLE_GPUS
from slm_operator.planning.fleet.node.states import node_states
from slm_operator.planning.fleet.tolerations import is_for_long, tolerates, tolerations_of
from slm_operator.planning.reader import AboutPods, AboutServed, reader_in, text_for
from slm_operator.planning.views import FleetView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.api.profile import GpuSpec
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.reader import Sentence
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings

SHOWN_NODES = 5
NAMED_NODES = 50
"""Nodes that one wish names: it is written into every pod."""
_HOSTNAME = "kubernetes.io/hostname"
ALONE, BESIDE_OTHERS = 100, 50
"""Weights of the wishes, of 100. The scheduler adds its own, so the first must be worth clearly more than the second."""


def preferences(view: ProfileView, gpu: GpuSpec, settings: Settings) -> tuple[Preference, ...]:
    """Nodes with a free GPU that nobody is about to change, best first. None of them need be there."""
    fit = [
        one
        for one in opted_in(view, settings)
        if _obstacle(one, gpu, settings) is None and one.name not in view.about_to_change
    ]
    wishes = {
        ALONE: [one for one in fit if not (one.busy_pods or one.our_pods)],
        BESIDE_OTHERS: [one for one in fit if one.busy_pods or one.our_pods],
    }
    named = {weight: [one.node.meta.labels.get(_HOSTNAME) for one in states] for weight, states in wishes.items()}
    return tuple(
        Preference(weight=weight, hostnames=tuple(hosts))
        for weight, found in named.items()
        if (hosts := [host for host in found if host is not None][:NAMED_NODES])
    )


def hosts_with_parts(view: ProfileView, settings: Settings) -> tuple[str, ...]:
    """Nodes whose GPUs others have divided: what shows that is not always a label, which is all that the scheduler sees."""
    hosts = (one.node.meta.labels.get(_HOSTNAME) for one in opted_in(view, settings) if one.partitioned_externally)
    return tuple(host for host in hosts if host is not None)[:NAMED_NODES]


def gpu_wait(view: ProfileView, gpu: GpuSpec, settings: Settings) -> str:
    """One sentence over the nodes that the profile could run on."""
    states = opted_in(view, settings)
    if not states:
        pod = view.pod
        by_scheduler = f": {pod.unscheduled_because}" if pod is not None and pod.unscheduled_because else ""
        return (
            f"no node opted in, so any with {WHOLE_GPUS.resource} would do, and the scheduler finds none{by_scheduler}"
        )
    other = "has a GPU, and something else keeps the pod away: see its events"
    reader = reader_in(view.profile.meta.key.namespace, settings)
    found = sorted(((state.name, _obstacle(state, gpu, settings) or other) for state in states), key=_is_no_taken_gpu)
    said = [f"node {name} {text_for(obstacle, reader)}" for name, obstacle in found[:SHOWN_NODES]]
    more = f"; and {len(found) - SHOWN_NODES} more" if len(found) > SHOWN_NODES else ""
    return (
        _gone(states, gpu) + "; ".join(said) + more + _would_do([one[0] for one in found if not _is_no_taken_gpu(one)])
    )


def _gone(states: list[NodeState], gpu: GpuSpec) -> str:
    there = {one.node.meta.labels.get(PRODUCT_LABEL) for one in states}
    if gpu.product is None or not there.isdisjoint({gpu.product, None}):
        return ""
    return f"no node that opted in has {gpu.product}: add one, or have another product measured (spec.accelerator.products). "


def _is_no_taken_gpu(found: tuple[str, Sentence]) -> bool:
    """Whether more keeps the profile from a node than that its GPUs are taken."""
    return not isinstance(found[1], AboutPods)


def _would_do(nodes: list[str]) -> str:
    """Where a GPU of the right kind is, once whoever has it gives it back."""
    if not nodes:
        return ""
    named = ", ".join(nodes[:SHOWN_NODES]) + (f" and {len(nodes) - SHOWN_NODES} more" if nodes[SHOWN_NODES:] else "")
    return f". A GPU that becomes free on {named} would do"


def opted_in(view: ProfileView, settings: Settings) -> list[NodeState]:
    """The nodes that an administrator has given us."""
    seen = FleetView(demands=(), nodes=view.nodes, pods=view.gpu_pods, config_map=view.config_map, daemons=view.daemons)
    return [state for state in node_states(seen, settings) if state.opted_in]


def is_selected(state: NodeState, gpu: GpuSpec) -> bool:
    """Whether the profile's pod may run there, whoever is there now."""
    labels = state.node.meta.labels
    return (
        not state.partitioned_externally
        and not _missing(state, gpu)
        and gpu.product in {None, labels.get(PRODUCT_LABEL)}
    )


def _missing(state: NodeState, gpu: GpuSpec) -> list[str]:
    labels = state.node.meta.labels
    return [f"{name}={value}" for name, value in gpu.node_selector.items() if labels.get(name) != value]


def _obstacle(state: NodeState, gpu: GpuSpec, settings: Settings) -> Sentence | None:
    return unfit(state, gpu, settings) or next((words for applies, words in _taken(state) if applies), None)


def unfit(state: NodeState, gpu: GpuSpec, settings: Settings) -> str | None:
    """Why the profile may not run there, whoever holds its GPUs; None: it may."""
    labels, missing = state.node.meta.labels, _missing(state, gpu)
    obstacles = (
        (not state.node.ready, "is not ready"),
        (state.upgrading is not None, "has its driver upgraded"),
        (state.node.unschedulable, "is cordoned"),
        (
            gpu.product is not None and labels.get(PRODUCT_LABEL) != gpu.product,
            f"has {labels.get(PRODUCT_LABEL)}, not {gpu.product}",
        ),
        (bool(missing), f"lacks label {', '.join(missing)}"),
        (state.partitioned_externally, state.parts.because if state.parts is not None else ""),
        *_taints(state, gpu, settings),
    )
    return next((words for applies, words in obstacles if applies), None)


def _taken(state: NodeState) -> tuple[tuple[bool, Sentence], ...]:
    holders = (*state.busy_pods, *state.our_pods)
    whole = state.whole_gpus
    held = sum(pod.gpu_requests.get(WHOLE_GPUS.resource, 0) for pod in holders)
    served = state.node.meta.labels.get(names.SERVES_LABEL)
    return (
        (state.changing, "is being repartitioned or given back"),
        (served is not None, AboutServed(before="is partitioned into slices for ", serves=served or "")),
        (bool(holders) and held >= whole, AboutPods(before="has its GPU held by ", pods=holders)),
        (whole == 0, f"has no {WHOLE_GPUS.resource} allocatable"),
    )


def _taints(state: NodeState, gpu: GpuSpec, settings: Settings) -> Iterable[tuple[bool, str]]:
    tolerations = tolerations_of(one.given() for one in (*gpu.tolerations, *settings.defaults.tolerations))
    for taint in state.node.taints:
        if taint.key == names.CHANGING_TAINT:  # ours, for as long as the node changes, which is said instead
            continue
        yield (
            is_for_long(taint) and not tolerates(tolerations, taint),
            f"has taint {taint.key}, which spec.gpu.tolerations of the profile lacks",
        )
