"""Packs in pods: what a pod of R engines is made of, how many there are, and how one is replaced by its successor.

A new pod is opened before the former one ends wherever the scheduler finds a whole GPU for it. Where it says that there is
none, status says first that the pack ends before its successor starts, and only then the Deployment is written so.
Must never stop a pack that answers before status has said that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.wording import several

from slm_operator.api.conditions import Finding, condition
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.manifests.overlay import ROUTER_CONTAINER, RUNTIME_CONTAINER
from slm_operator.manifests.replicas import served_pack
from slm_operator.manifests.served import PackMeans, read_served
from slm_operator.partitioning import partitioning_of
from slm_operator.planning.fleet.demand import served_class

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.manifests.engine import Serving
    from slm_operator.manifests.served import Served
    from slm_operator.planning.views import Assignment, DeploymentView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import PodRecord, WorkloadRecord


ANNOUNCED_SECONDS = 5.0
"""Between what status says of a pack's end, and that end: whoever watches has heard it."""
_OF_SETTINGS = frozenset({RUNTIME_CONTAINER, ROUTER_CONTAINER})
"""Containers whose images are settings of the operator."""


def is_pack(assignment: Assignment | None) -> bool:
    """Whether one pod is to run all engines of a GPU."""
    return assignment is not None and assignment.slice_class is not None and assignment.slice_class.in_one_pod


def with_pack(
    view: DeploymentView, spec: SLMDeploymentSpec, serving: Serving, served: Served, settings: Settings
) -> Served:
    """What is served, with the pack's pod where one pod runs all engines of a GPU."""
    if serving.pack_on is None:
        return served
    kept = view.workload if not _waits_for_settings(view) else None
    former = read_served(kept.served) if kept is not None else None
    means = means_of(spec.accelerator.product or serving.pack_on.gpu_product, settings)
    return served.model_copy(update={"pack": served_pack(view.deployment, spec, serving, means, former)})


def _waits_for_settings(view: DeploymentView) -> bool:
    """Whether settings keep a pack from starting, and none of its ReplicaSet answers: what is corrected there is then taken.

    Packs of a former template are no reason to wait: they leave anyway, once a successor answers.
    """
    stuck = {pod.meta.controller for pod in view.pods if pod.stuck is not None and pod.stuck.container in _OF_SETTINGS}
    return bool(stuck - {pod.meta.controller for pod in view.pods if pod.ready})


def means_of(product: str, settings: Settings) -> PackMeans:
    """What a pack's pod has of the settings, on a GPU of this product."""
    labels = ((label, values.get(product)) for label, values in sorted(settings.packs.product_labels.items()))
    return PackMeans(
        supervisor_image=settings.packs.supervisor_image or settings.profiling.image,
        router_image=settings.packs.router_image,
        pull_secrets=settings.profiling.image_pull_secrets,
        device="cpu" if settings.profiling.device == "Cpu" else "gpu",
        product_labels={label: value for label, value in labels if value is not None},
    )


def engines_per_pod(workload: WorkloadRecord | None) -> int:
    """Engines that each pod of a Deployment runs, by what it was made from."""
    served = read_served(workload.served) if workload is not None else None
    if served is None:
        return 1
    made_for = served_class(served)
    return partitioning_of(made_for).engines_per_pod(made_for)


def opens_successor_first(view: DeploymentView) -> bool:
    """Whether a new pod comes before the former one ends."""
    return not (_has_no_room(view) and _is_announced(view))


def successors(view: DeploymentView) -> int:
    """Packs to open beside those that are wanted: one for each that is to leave its node, unless there is no room."""
    return 0 if _has_no_room(view) or _is_announced(view) else len(_leaving(view))


def may_be_away(view: DeploymentView, wanted: int, settings: Settings) -> int:
    """Pods that may be unavailable at once, for so many engines: a pack once its successor answers, or status has said that there is none.

    NB: where no node is seen, nobody opens a successor, and a drain must not be held for ever. Nor may those be in its way
    that have gone and found no place.
    """
    served = read_served(view.workload.served) if view.workload is not None else None
    if settings.namespaces or view.workload is None or served is None or served.pack is None:
        return 1
    pods = min(view.workload.replicas, -(-wanted // engines_per_pod(view.workload)))
    missing = max(0, pods - view.workload.ready)
    if _leaving(view) and _is_announced(view):
        return missing + 1
    return 1 if missing or (_leaving(view) and _elsewhere(view) >= pods) else 0


def outage_ahead(view: DeploymentView) -> Finding | None:
    """What is said before a pack ends for its successor, and until that answers."""
    workload = view.workload
    if workload is None:
        return None
    under_way = bool(_leaving(view)) or workload.updated < workload.replicas or workload.ready < workload.replicas
    if not (_has_no_room(view) or (_is_announced(view) and under_way)):
        return None
    others = _elsewhere(view) if _leaving(view) else max(0, workload.replicas - 1)
    answer = "answers" if others == 1 else "answer"
    meanwhile = f"{several(others, 'other pack')} {answer} meanwhile" if others else "nothing answers meanwhile"
    message = (
        "no whole GPU is free for a second pack, so the one that serves ends before its successor starts, and "
        f"{meanwhile}: free a GPU, or add a node, and the next change opens the successor first"
    )
    return Finding(type=Condition.ALLOCATED, holds=False, reason=Reason.REPLACED_IN_PLACE, message=message)


def is_news(view: DeploymentView, findings: Iterable[Finding]) -> bool:
    """Whether this pass is the first that says so. NB: an own write of status wakes nobody, and the next step is for another pass."""
    return any(one.reason == Reason.REPLACED_IN_PLACE for one in findings) and not _is_announced(view)


def _leaving(view: DeploymentView) -> tuple[PodRecord, ...]:
    """Packs that answer on nodes that are to be emptied."""
    return tuple(pod for pod in view.pods if pod.ready and not pod.meta.deleting and pod.node in view.cordoned)


def _elsewhere(view: DeploymentView) -> int:
    """Packs that answer on nodes where they may stay."""
    return sum(pod.ready and not pod.meta.deleting and pod.node not in view.cordoned for pod in view.pods)


def _has_no_room(view: DeploymentView) -> bool:
    """Whether the scheduler finds no place for a successor while packs are there that it is to follow."""
    waits = any(pod.node is None and pod.unscheduled_because is not None for pod in view.pods)
    replacing = view.workload is not None and view.workload.existing > view.workload.updated
    return waits and (replacing or bool(_leaving(view)))


def _is_announced(view: DeploymentView) -> bool:
    said = condition(view.deployment.status, Condition.ALLOCATED)
    return said is not None and said.get("reason") == Reason.REPLACED_IN_PLACE
