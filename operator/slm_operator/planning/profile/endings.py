"""How a try to measure ends without a result, and what each ending means for the next try: one table.

What the cluster does to a pod (it pre-empts, evicts or loses it, or never lets it begin) is no finding about the model: such
a try is made again, after a pause and inside the budget. What the model or its spec does is one, and is not repeated by
itself: GPU time is the user's money. Must never read a sentence: Kubernetes' reasons decide, and exit statuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core.failure import EXIT_STATUS, Failure

from slm_operator.api.conditions import moment
from slm_operator.watch.records import NO_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from slm_operator.planning.views import ProfileView
    from slm_operator.watch.records import Cause, JobRecord, PodRecord

STUCK = timedelta(minutes=10)
"""How long a pod that holds a GPU may wait for an image that cannot be pulled, or a container that cannot be made."""
OVERDUE = timedelta(minutes=1)
"""How long after its grace period a pod that is being deleted counts as ended: the kubelet of a lost node never says so."""
SIGTERM_STATUS = 143
"""Exit status of a process that was asked to end and had no answer for it: 128 + 15."""


class Ending(StrEnum):
    """A row each. The value stands in status as the last ending."""

    PREEMPTED = "Preempted"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    NODE_SHUT_DOWN = "NodeShutdown"
    NOT_ADMITTED = "NotAdmitted"
    NEVER_BEGAN = "NeverBegan"
    IMAGE_LATE = "ImageLate"
    NOT_CREATED = "ContainerNotCreated"
    INTERRUPTED = "Interrupted"
    POD_GONE = "PodGone"
    OUT_OF_TIME = "DeadlineExceeded"
    OUT_OF_MEMORY = "OutOfMemory"
    ENGINE_FAILED = "EngineFailed"
    UNEXPLAINED = "Unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """What follows from an ending."""

    meaning: str
    again: bool
    """Whether it is tried again by itself. If not: when spec changes, or a person asks for it."""
    spends: bool
    """Whether the GPU time of the try counts. If not, nothing ran."""
    first_pause: timedelta = timedelta(0)
    """Pause before the next try; it doubles with every further one."""


_MINUTE = timedelta(minutes=1)
CONSEQUENCES: dict[Ending, Consequence] = {
    Ending.PREEMPTED: Consequence(
        meaning="a pod of higher priority took its place", again=True, spends=True, first_pause=_MINUTE
    ),
    Ending.EVICTED: Consequence(meaning="it was evicted from its node", again=True, spends=True, first_pause=_MINUTE),
    Ending.NODE_LOST: Consequence(meaning="its node was lost", again=True, spends=True, first_pause=_MINUTE),
    Ending.NODE_SHUT_DOWN: Consequence(meaning="its node was shut down", again=True, spends=True, first_pause=_MINUTE),
    Ending.NOT_ADMITTED: Consequence(
        meaning="the kubelet refused it before anything was measured",
        again=True,
        spends=False,
        first_pause=timedelta(seconds=10),  # a device plugin that restarts is back in seconds
    ),
    Ending.NEVER_BEGAN: Consequence(
        meaning="its deadline passed before the measurement had begun", again=True, spends=False, first_pause=_MINUTE
    ),
    Ending.IMAGE_LATE: Consequence(
        meaning="an image of it cannot be pulled", again=True, spends=False, first_pause=_MINUTE
    ),
    Ending.NOT_CREATED: Consequence(
        meaning="a container of it cannot be made", again=True, spends=False, first_pause=_MINUTE
    ),
    Ending.INTERRUPTED: Consequence(
        meaning="it was asked to end before it was done", again=True, spends=True, first_pause=_MINUTE
    ),
    Ending.POD_GONE: Consequence(
        meaning="its pod or Job was deleted, and nobody knows why", again=True, spends=True, first_pause=_MINUTE
    ),
    Ending.OUT_OF_TIME: Consequence(
        meaning="its deadline passed although the measurement had begun: raise spec.search.maxGpuMinutes, or keep the "
        "model in a claim or the image",
        again=False,
        spends=True,
    ),
    Ending.OUT_OF_MEMORY: Consequence(
        meaning="it ran out of host memory: raise it in spec.podTemplate of the SLMDeployment, or of a profile of your own",
        again=False,
        spends=True,
    ),
    Ending.ENGINE_FAILED: Consequence(meaning="the engine or its spec failed", again=False, spends=True),
    Ending.UNEXPLAINED: Consequence(meaning="it ended without a result: see its log", again=False, spends=True),
}

_OF_KUBERNETES: dict[str, Ending] = {
    # Reasons of the condition DisruptionTarget (docs: concepts/workloads/pods/disruptions).
    "PreemptionByScheduler": Ending.PREEMPTED,
    "EvictionByEvictionAPI": Ending.EVICTED,
    "DeletionByTaintManager": Ending.NODE_LOST,
    "DeletionByPodGC": Ending.NODE_LOST,
    "TerminationByKubelet": Ending.EVICTED,
    # Reasons of a pod that the kubelet, or for it the node controller, has failed (status.reason).
    "Preempting": Ending.PREEMPTED,
    "Evicted": Ending.EVICTED,
    "NodeLost": Ending.NODE_LOST,
    "Terminated": Ending.NODE_SHUT_DOWN,
    "Shutdown": Ending.NODE_SHUT_DOWN,
    "NodeShutdown": Ending.NODE_SHUT_DOWN,
    "UnexpectedAdmissionError": Ending.NOT_ADMITTED,
    "NodeAffinity": Ending.NOT_ADMITTED,
    "DeadlineExceeded": Ending.OUT_OF_TIME,
}
_OF_CONTAINERS: dict[str, Ending] = {
    "OOMKilled": Ending.OUT_OF_MEMORY,
    # What is found after a node or its runtime restarted, by the kubelet and by containerd.
    "ContainerStatusUnknown": Ending.NODE_LOST,
    "Unknown": Ending.NODE_LOST,
    "StartError": Ending.NOT_CREATED,
    "ContainerCannotRun": Ending.NOT_CREATED,
}
_NO_REASON = "Failed"
"""What a record says for a failed pod whose kubelet gave no reason: its containers ended by themselves."""
_INTERRUPTED_STATUS = frozenset({SIGTERM_STATUS, EXIT_STATUS[Failure.INTERRUPTED]})


@dataclass(frozen=True, slots=True)
class Ended:
    """How a try has ended, and who says so in which words."""

    ending: Ending
    said: str = ""

    @property
    def consequence(self) -> Consequence:
        """Its row of the table."""
        return CONSEQUENCES[self.ending]

    def __str__(self) -> str:
        return f"{self.consequence.meaning} ({self.said})" if self.said else self.consequence.meaning


def ending_of(view: ProfileView, now: datetime, *, has_begun: bool) -> Ended | None:
    """How the try has ended; None while it goes on. `has_begun`: whether the runtime is known to have said anything."""
    if view.job is None or view.log.is_cut:
        return None
    stuck = _stuck_for_long(view.job, view.pod, now)
    if stuck is not None:
        return Ended(Ending.IMAGE_LATE if stuck.reason in NO_IMAGE else Ending.NOT_CREATED, str(stuck))
    if not (view.log.failure is not None or _is_over(view.job, view.pod, now)):
        return None
    ended = _by_kubernetes(view.job, view.pod) or _by_the_runtime(view) or _by_its_containers(view)
    if ended.ending is Ending.OUT_OF_TIME and not has_begun:
        return Ended(Ending.NEVER_BEGAN, ended.said)
    return ended


def _stuck_for_long(job: JobRecord, pod: PodRecord | None, now: datetime) -> Cause | None:
    if pod is None or pod.node is None or pod.phase != "Pending" or pod.stuck is None:
        return None
    since = moment(pod.accepted or job.created)
    return pod.stuck if since is not None and now - since > STUCK else None


def _is_over(job: JobRecord, pod: PodRecord | None, now: datetime) -> bool:
    if pod is None:
        return job.finished
    if pod.phase in {"Succeeded", "Failed"}:
        return True
    if pod.meta.deleting:  # its last words may still come
        gone_by = moment(pod.gone_by)
        return gone_by is not None and now > gone_by + OVERDUE
    return job.finished


def _by_kubernetes(job: JobRecord, pod: PodRecord | None) -> Ended | None:
    for cause in _causes(job, pod):
        found = _OF_KUBERNETES.get(cause.reason)
        if found is None and cause.reason.startswith("OutOf"):  # OutOfcpu, OutOfnvidia.com/gpu
            found = Ending.NOT_ADMITTED
        if found is not None:
            return Ended(found, str(cause))
    return None


def _causes(job: JobRecord, pod: PodRecord | None) -> Iterator[Cause]:
    """NB: the pod's own comes first: of a shutdown and of pressure the condition says the same, TerminationByKubelet."""
    of_pod = (pod.failed_because, pod.disrupted_because) if pod is not None else ()
    yield from (cause for cause in (*of_pod, job.failed_because) if cause is not None)


def _by_the_runtime(view: ProfileView) -> Ended | None:
    log = view.log
    if log.failure is None:
        return None
    if log.failure_class == Failure.INTERRUPTED:
        return Ended(Ending.INTERRUPTED, log.failure)
    return Ended(Ending.ENGINE_FAILED, f"{log.failure}: {log.remedy}" if log.remedy else log.failure)


def _by_its_containers(view: ProfileView) -> Ended:
    pod, job = view.pod, view.job
    if pod is None:
        because = job.failed_because if job is not None else None
        return Ended(Ending.POD_GONE, str(because) if because is not None else "")
    ended, refused = pod.terminated, pod.failed_because
    if ended is None:
        if pod.meta.deleting:
            return Ended(Ending.POD_GONE)
        if (
            refused is not None and refused.reason != _NO_REASON
        ):  # a word that is not in the table: of an admission plugin
            return Ended(Ending.NOT_ADMITTED, str(refused))
        return Ended(Ending.UNEXPLAINED)
    by_signal = ended.exit_code in _INTERRUPTED_STATUS or pod.meta.deleting
    otherwise = Ending.INTERRUPTED if by_signal else Ending.UNEXPLAINED
    return Ended(_OF_CONTAINERS.get(ended.reason, otherwise), str(ended))
