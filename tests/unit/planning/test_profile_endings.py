"""How tries end: who ended each, what it cost, and whether the next one comes by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.planning.profile.endings import CONSEQUENCES, OVERDUE, STUCK, Ending
from slm_operator.watch.records import Cause

from tests import builders as build

from .lives import Life

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURED_FOR = 200.0
"""GPU seconds that each try here says it has cost, where it says anything."""


def placed(**more: Any) -> Life:
    """A profile whose pod a node has taken."""
    life = Life()
    life.look()
    life.gets_a_gpu(**({"accepted": life.now.isoformat()} | more))
    return life


def measuring(**more: Any) -> Life:
    """One whose runtime has said how far it is."""
    life = placed(**more)
    life.prints(doing="B = 8", point=2, gpu_seconds=MEASURED_FOR)
    life.look()
    return life


def failed(reason: str, *, message: str = "", of: Callable[[], Life] = measuring) -> Life:
    """The kubelet, or for it a controller, fails the pod with this reason."""
    life = of()
    life.ends(failed_because=Cause(reason, message))
    return life


def disrupted(reason: str) -> Life:
    """Somebody ends the pod for the cluster's sake, and it ends in time."""
    life = measuring()
    life.ends(disrupted_because=Cause(reason), failed_because=Cause("Failed"), terminated=Cause("Error", exit_code=143))
    life.prints(failure_class="Interrupted", failure="it was asked to end")
    return life


def ended(reason: str, status: int, **said: Any) -> Life:
    """Its container ends, by itself or not."""
    life = measuring()
    life.ends(failed_because=Cause("Failed"), terminated=Cause(reason, exit_code=status))
    life.prints(**said)
    return life


def stuck(reason: str) -> Life:
    life = placed(phase="Pending", waiting=Cause(reason, "the words of the kubelet"))
    life.look()
    assert life.says[:2] == ("Pending", reason)
    return life.later(seconds=STUCK.total_seconds() + 1)


def gone() -> Life:
    """The operator was not there when the pod ended, and nothing is left but a failed Job."""
    life = measuring()
    life.ends()
    life.pod = None
    life.prints(doing=None, point=None, gpu_seconds=None)
    return life


def job_gone() -> Life:
    life = measuring()
    life.job = life.pod = None
    life.prints(doing=None, point=None, gpu_seconds=None)
    return life


def on_a_lost_node() -> Life:
    """The pod is to be deleted, and its kubelet never says that it has ended."""
    life = measuring()
    assert life.pod is not None
    by = life.now.isoformat()
    meta = replace(life.pod.meta, deleting=True)
    life.pod = replace(life.pod, meta=meta, gone_by=by, disrupted_because=Cause("DeletionByTaintManager"))
    return life.later(seconds=OVERDUE.total_seconds() + 1)


def by_an_older_operator() -> Life:
    """Its Job has a deadline of its own, which counted while the pod waited."""
    life = Life()
    life.look()
    assert life.job is not None
    life.pod = None
    life.job = replace(life.job, finished=True, failed_because=Cause("DeadlineExceeded"))
    return life


ENDINGS: dict[str, tuple[Callable[[], Life], Ending]] = {
    "the scheduler pre-empts it": (lambda: disrupted("PreemptionByScheduler"), Ending.PREEMPTED),
    "the kubelet pre-empts it": (lambda: failed("Preempting"), Ending.PREEMPTED),
    "node pressure": (lambda: failed("Evicted", message="The node was low on resource: memory"), Ending.EVICTED),
    "the eviction API": (lambda: disrupted("EvictionByEvictionAPI"), Ending.EVICTED),
    "its node is drained by a taint": (lambda: disrupted("DeletionByTaintManager"), Ending.NODE_LOST),
    "its node is gone": (lambda: failed("NodeLost"), Ending.NODE_LOST),
    "its node was removed": (lambda: disrupted("DeletionByPodGC"), Ending.NODE_LOST),
    "its node never answers again": (on_a_lost_node, Ending.NODE_LOST),
    "its node was rebooted": (lambda: ended("ContainerStatusUnknown", 137), Ending.NODE_LOST),
    "its node is shut down": (lambda: failed("Terminated"), Ending.NODE_SHUT_DOWN),
    "its node is about to be shut down": (lambda: failed("NodeShutdown", of=placed), Ending.NODE_SHUT_DOWN),
    "no healthy device": (lambda: failed("UnexpectedAdmissionError", of=placed), Ending.NOT_ADMITTED),
    "no GPU left": (lambda: failed("OutOfnvidia.com/gpu", of=placed), Ending.NOT_ADMITTED),
    "no CPU left": (lambda: failed("OutOfcpu", of=placed), Ending.NOT_ADMITTED),
    "no memory left": (lambda: failed("OutOfmemory", of=placed), Ending.NOT_ADMITTED),
    "its node was relabelled": (lambda: failed("NodeAffinity", of=placed), Ending.NOT_ADMITTED),
    "a word of admission that is new": (lambda: failed("TopologyAffinityError", of=placed), Ending.NOT_ADMITTED),
    "its deadline, and nothing ran": (lambda: failed("DeadlineExceeded", of=placed), Ending.NEVER_BEGAN),
    "its Job's deadline, by an older operator": (by_an_older_operator, Ending.NEVER_BEGAN),
    "its deadline, and it measured": (lambda: failed("DeadlineExceeded"), Ending.OUT_OF_TIME),
    "its image does not come": (lambda: stuck("ImagePullBackOff"), Ending.IMAGE_LATE),
    "a Secret is missing": (lambda: stuck("CreateContainerConfigError"), Ending.NOT_CREATED),
    "its container cannot be made": (lambda: stuck("CreateContainerError"), Ending.NOT_CREATED),
    "its container cannot be started": (lambda: ended("StartError", 128), Ending.NOT_CREATED),
    "somebody deletes its pod": (
        lambda: ended("Error", 24, failure_class="Interrupted", failure="it was asked to end"),
        Ending.INTERRUPTED,
    ),
    "it is asked to end while it starts": (lambda: ended("Error", 143), Ending.INTERRUPTED),
    "its pod is gone without a word": (gone, Ending.POD_GONE),
    "its Job is gone without a word": (job_gone, Ending.POD_GONE),
    "out of host memory": (lambda: ended("OOMKilled", 137), Ending.OUT_OF_MEMORY),
    "the engine died": (
        lambda: ended("Error", 14, failure_class="EngineDied", failure="exit 1", remedy="a smaller B"),
        Ending.ENGINE_FAILED,
    ),
    "no word at all": (lambda: ended("Error", 1), Ending.UNEXPLAINED),
}


@pytest.mark.parametrize(("made", "ending"), ENDINGS.values(), ids=ENDINGS)
def test_an_ending_has_a_row_that_says_what_follows(made: Callable[[], Life], ending: Ending) -> None:
    life, row = made(), CONSEQUENCES[ending]
    life.look()
    assert life.tries["lastEnding"] == ending
    assert (life.status["phase"], life.is_stalled) == (("Pending", False) if row.again else ("Failed", True))
    assert ("nextTryTime" in life.tries) == row.again
    assert life.tries["gpuSeconds"] in ({0, MEASURED_FOR} if row.spends else {0})
    life.until_it_rests()
    assert life.begun == 1, "no try without a pause"
    life.later(hours=1, seconds=1).until_it_rests()
    assert life.begun == 1 + row.again


def test_only_endings_by_model_or_spec_are_not_repeated() -> None:
    final = {ending for ending, row in CONSEQUENCES.items() if not row.again}
    assert final == {Ending.OUT_OF_TIME, Ending.OUT_OF_MEMORY, Ending.ENGINE_FAILED, Ending.UNEXPLAINED}


def test_only_a_try_that_never_ran_costs_nothing() -> None:
    free = {ending for ending, row in CONSEQUENCES.items() if not row.spends}
    assert free == {Ending.NOT_ADMITTED, Ending.NEVER_BEGAN, Ending.IMAGE_LATE, Ending.NOT_CREATED}


def test_every_ending_is_tried_here() -> None:
    assert {ending for _, ending in ENDINGS.values()} == set(Ending)


def test_gpu_seconds_are_known_when_log_and_pod_are_gone() -> None:
    for made in (gone, job_gone, on_a_lost_node):
        life = made()
        life.look()
        assert (life.tries["gpuSeconds"], life.status["gpuSeconds"]) == (MEASURED_FOR, MEASURED_FOR)


def test_a_pod_that_is_being_ended_has_its_last_word() -> None:
    life = measuring()
    assert life.pod is not None
    by = build.later(60).isoformat()
    meta = replace(life.pod.meta, deleting=True)
    life.pod = replace(life.pod, meta=meta, gone_by=by, disrupted_because=Cause("PreemptionByScheduler"))
    life.look()
    assert life.tries == {}
    assert "PreemptionByScheduler" in life.says[2]
    life.ends(failed_because=Cause("Failed"))
    life.look()
    assert life.tries["lastEnding"] == Ending.PREEMPTED


def test_an_image_that_comes_late_is_no_ending() -> None:
    life = placed(phase="Pending", waiting=Cause("ErrImagePull"))
    life.look()
    life.later(minutes=9).gets_a_gpu(waiting=None)
    life.look()
    assert (life.says[0], life.tries) == ("Running", {})


def test_a_log_that_is_not_read_to_its_end_decides_nothing() -> None:
    life = ended("Error", 1, is_cut=True)
    life.look()
    assert life.tries == {}


CUT_SHORT = replace(build.imported(), complete=False, incomplete_because="it was asked to end")


@pytest.mark.parametrize(("spent", "phase"), [(200.0, "Pending"), (500.0, "Complete")])
def test_cut_short_result_is_kept_once_the_budget_is_spent(spent: float, phase: str) -> None:
    life = disrupted("PreemptionByScheduler")
    life.prints(document=CUT_SHORT, gpu_seconds=spent)
    life.look()
    assert life.status["phase"] == phase


def test_a_whole_result_is_kept_whatever_happens_to_its_pod() -> None:
    life = disrupted("PreemptionByScheduler")
    life.prints(document=build.imported())
    life.look()
    assert life.status["phase"] == "Complete"


def test_no_text_of_others_is_too_long_for_status() -> None:
    life = ended("Error", 14, failure_class="Interrupted", failure="m" * 4096)
    assert life.job is not None
    life.job = replace(life.job, request="x" * 253, retry="y" * 253)
    life.look()
    assert (len(life.tries["lastMessage"]), life.tries["lastEnding"]) == (1024, Ending.INTERRUPTED)
    life.until_it_rests()
    assert life.begun == 2, "what the Job was made for is not what spec says"
