"""One GPU wanted twice: by a profile, and by replicas that go on serving until it is measured.

Replicas are never stopped for a measurement, and a profile takes nobody's GPU. Where both want the same ones, neither
gives way by itself, and only a person can decide: so it must be said that they do, of which replicas, and what helps.
Must never be said where a GPU becomes free by itself: somebody else's pod ends, another profile is measured, a node is
being given back. Nor may it name replicas that the reader must not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.manifests.metadata import label_value
from slm_operator.partitioning.whole_gpus import WHOLE_GPUS
from slm_operator.planning.fleet.node.state import is_replica
from slm_operator.planning.profile.gpu import opted_in, unfit
from slm_operator.planning.reader import AboutPods, reader_in, text_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.api.profile import GpuSpec
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import PodRecord

SHOWN_REPLICAS = 5
_IMPORT = "import a measurement (kubectl slm profile import)"


def replicas_in_the_way(view: ProfileView, gpu: GpuSpec, settings: Settings) -> tuple[PodRecord, ...]:
    """The replicas that hold every GPU that would do. None where one is free, or anything else has to end first."""
    could = [
        state
        for state in opted_in(view, settings)
        if unfit(state, gpu, settings) is None and _can_have_whole_gpus(state)
    ]
    held = [_replicas_alone(state) for state in could]
    return tuple(pod for pods in held for pod in pods) if all(held) else ()


def both_want(view: ProfileView, replicas: tuple[PodRecord, ...], settings: Settings) -> str:
    """What to say of a profile that these replicas keep from its GPU."""
    reader = reader_in(view.profile.meta.key.namespace, settings)
    known = [pod for pod in replicas if reader.may_know(pod.meta.key.namespace)]
    shown = [*known, *(pod for pod in replicas if pod not in known)][:SHOWN_REPLICAS]
    more = f" and {len(replicas) - len(shown)} more" if len(replicas) > len(shown) else ""
    held = AboutPods(before="Every GPU that would do is held by ", pods=tuple(shown), after=more, noun="replica")
    whose = "" if known else ", which is for the owner of one of them to do"
    return (
        f"{text_for(held, reader)}: profile and replicas want the same GPUs at once, and neither gives way by itself. "
        f"Scale replicas down for the measurement and up again afterwards ({_scaled_down(known)}{whose}), opt in another "
        f"node (kubectl label node NODE {settings.nodes.opt_in_label}=true), or {_IMPORT}"
    )


def both_in_a_quota(view: ProfileView) -> str:
    """What to say where Kubernetes makes no pod for a profile's Job, and a quota may be why."""
    namespace = view.profile.meta.key.namespace
    counted = [
        pod
        for pod in view.gpu_pods
        if pod.meta.key.namespace == namespace and is_replica(pod) and WHOLE_GPUS.resource in pod.gpu_requests
    ]
    return (
        f"Where a quota bears no more GPUs than replicas hold (kubectl describe quota --namespace {namespace}), profile and "
        "replicas need the same one at once: scale replicas down for the measurement and up again afterwards "
        f"({_scaled_down(counted)}), have the quota raised, or {_IMPORT}"
    )


def _can_have_whole_gpus(state: NodeState) -> bool:
    """Whether a whole GPU can be had there once nobody serves from it. NB: of slices that others made none ever can."""
    if state.changing:
        return True
    is_sliced = names.SERVES_LABEL in state.node.meta.labels
    return state.switched if is_sliced else state.whole_gpus > 0


def _replicas_alone(state: NodeState) -> tuple[PodRecord, ...]:
    """The replicas there, if nothing but them keeps a whole GPU from being had. A pod that is ending keeps nothing."""
    staying = tuple(pod for pod in (*state.busy_pods, *state.our_pods) if not pod.meta.deleting)
    if state.changing or not all(map(is_replica, staying)):
        return ()
    is_sliced = names.SERVES_LABEL in state.node.meta.labels
    held = sum(pod.gpu_requests.get(WHOLE_GPUS.resource, 0) for pod in staying)
    return staying if is_sliced or held >= state.whole_gpus else ()


def _scaled_down(replicas: Iterable[PodRecord]) -> str:
    """The command, with names where all replicas are of one namespace and their label is their deployment's whole name."""
    of = {(pod.meta.key.namespace, pod.replica_of or "") for pod in replicas}
    namespaces = {namespace for namespace, _ in of}
    deployments = sorted(label for _, label in of if label_value(label) == label)[:SHOWN_REPLICAS]
    if len(namespaces) != 1 or not deployments:
        return "kubectl scale slmd NAME --replicas=0"
    return f"kubectl scale slmd {' '.join(deployments)} --namespace {namespaces.pop()} --replicas=0"
