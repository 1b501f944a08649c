"""Whether the replicas answer, and the reason and remedy when they do not, read from the Deployment and its pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.wording import several

from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.partitioning import partitioning_of
from slm_operator.partitioning.base import UNSHARED
from slm_operator.planning.containers import former_end, more_of, remedy
from slm_operator.planning.deployment.gpu_spread import spread

if TYPE_CHECKING:
    from slm_operator.api.parts import EngineSpec
    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.views import DeploymentView
    from slm_operator.watch.records import PodRecord


def availability(view: DeploymentView, wanted: int, made_for: SliceClass = UNSHARED) -> Finding:
    """The Available condition for `wanted` engines, which share GPUs in this way."""
    workload, way = view.workload, partitioning_of(made_for)
    if wanted == 0:
        return _finding(reason=Reason.SCALED_TO_ZERO, message="spec.replicas is 0", holds=True)
    if workload is None:
        return _finding(reason=Reason.STARTING, message=f"{several(wanted, 'replica')} to be created")
    pods, per_pod = way.pods_for(wanted, made_for), way.engines_per_pod(made_for)
    counted = _counted(workload.ready, pods, per_pod, wanted) + _silent(view)
    # NB: former pods answer too, so their number says nothing of their successors while any of them is left.
    current = workload.observed_generation >= workload.meta.generation and workload.existing <= workload.updated
    if current and workload.replicas == pods and workload.ready >= pods and workload.updated >= pods:
        parts = [counted, None if way.runs_packs else spread(view.pods, made_for.engines_per_gpu)]
        return _finding(reason=Reason.AVAILABLE, message="; ".join(filter(None, parts)), holds=True)
    spec = view.deployment.spec
    for pod in view.pods:
        trouble = _trouble(pod, spec.engine if spec is not None else None)
        if trouble is not None:
            reason, message = trouble
            return _finding(reason=reason, message=f"{counted}; {message}")
    if workload.stalled_because is not None:
        return _finding(reason=Reason.STALLED, message=f"{counted}; {workload.stalled_because}")
    return _finding(
        reason=Reason.STARTING,
        message=f"{counted}; the others are starting (an engine is silent until its model is loaded)",
    )


def _counted(ready: int, pods: int, per_pod: int, wanted: int) -> str:
    if per_pod == 1:
        return f"{ready} of {pods} replicas answer"
    return f"{ready} of {several(pods, 'pack')} answer, each of {per_pod} engines in one pod, for {several(wanted, 'replica')}"


def _silent(view: DeploymentView) -> str:
    """NB: a pack answers while one engine does, so this takes nothing from Available."""
    silent = {pod.meta.key.name: pod.engines - view.serving_in(pod) for pod in view.pods if pod.ready}
    return "".join(
        f"; not serving in pod {name}: {several(count, 'engine')} (kubectl logs {name} says why)"
        for name, count in silent.items()
        if count > 0
    )


def _trouble(pod: PodRecord, engine: EngineSpec | None) -> tuple[str, str] | None:
    name = pod.meta.key.name
    if pod.failed_because is not None:
        return Reason.ADMISSION_FAILED, f"pod {name} was refused by the kubelet: {pod.failed_because}"
    if pod.node is None and pod.unscheduled_because is not None:
        return Reason.UNSCHEDULABLE, f"pod {name} cannot be placed: {pod.unscheduled_because}"
    if pod.stuck is not None:
        last = former_end(pod)
        ended = f" (last: {last})" if last else ""
        said = f"pod {name} waits: {pod.stuck}{ended}{_remedy(pod, engine)}; see {more_of(pod, pod.stuck)}"
        return pod.stuck.reason, said
    if pod.restarts and pod.terminated is not None and not pod.ready:
        said = (
            f"pod {name} starts again after {pod.terminated}{_remedy(pod, engine)}; see {more_of(pod, pod.terminated)}"
        )
        return Reason.ENGINE_ENDED, said
    return None


def _remedy(pod: PodRecord, engine: EngineSpec | None) -> str:
    found = remedy(pod, engine)
    return "" if found is None else f"; {found}"


def _finding(*, reason: str, message: str, holds: bool = False) -> Finding:
    return Finding(type=Condition.AVAILABLE, holds=holds, reason=reason, message=message)
