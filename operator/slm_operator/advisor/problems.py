"""What is wrong with a question before it is answered: documents, SLOs and settings that contradict themselves.

Exists because advice from figures in the wrong unit looks like any other advice. Assumes that the codec has read the
document (types, finite numbers, none negative). Must never repair: it names the field and the mend.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.latency_model import is_full_single
from slm_core.measurements import camel
from slm_core.slo import LIMIT_FIELDS, resolve
from slm_core.tuning import KNOBS

from slm_operator.advisor.advice import ModeChoice
from slm_operator.advisor.contradictions import RULES, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import Ledger, MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Settings


class AdviceError(ValueError):
    """A question that has no answer. Its message has one line for each problem."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def check_question(document: MeasurementDocument, slo: Slo, settings: Settings) -> tuple[Problem, ...]:
    """Everything that keeps `advise` from answering, worst first. Empty: ask."""
    return (*check_settings(settings), *check_document(document), *check_slo(document, slo))


def check_settings(settings: Settings) -> tuple[Problem, ...]:
    """Settings outside their ranges, or against each other."""
    s = settings
    asked = s.replicas_per_gpu
    ranges = (
        *((camel(name), getattr(s, name), knob.admit(getattr(s, name)), knob.wanted) for name, knob in KNOBS.items()),
        ("maxReplicasPerGpu", s.max_replicas_per_gpu, _at_least_one(s.max_replicas_per_gpu), "at least 1"),
        ("replicasPerGpu", asked, _at_least_one(asked), "at least 1"),
        ("concurrency", s.concurrency, _at_least_one(s.concurrency), "at least 1 request in flight"),
        ("requestsPerSecond", s.requests_per_second, _positive(s.requests_per_second), "above 0"),
        ("gpuMemoryBytes", s.gpu_memory_bytes, _at_least_one(s.gpu_memory_bytes), "the GPU's memory in bytes"),
    )
    problems = [
        Problem(field, f"{value} is out of range", f"give {mend}") for field, value, ok, mend in ranges if not ok
    ]
    if asked and asked > 1 and s.mode is ModeChoice.NONE:
        problems.append(
            Problem(
                "replicasPerGpu",
                f"{asked} engines cannot share a GPU with mode None",
                "give mode MPS or TimeSlicing, or 1",
            )
        )
    if asked and asked > s.plugin_max_replicas:
        problems.append(
            Problem(
                "replicasPerGpu",
                f"the device plugin makes at most {s.plugin_max_replicas} slices of this GPU",
                "give fewer",
            )
        )
    if s.concurrency is not None and s.requests_per_second is not None:
        problems.append(Problem("requestsPerSecond", "concurrency is given too", "give one of them"))
    return tuple(problems)


def check_slo(document: MeasurementDocument, slo: Slo) -> tuple[Problem, ...]:
    """Limits that nothing can be held against."""
    problems = [
        Problem(camel(field), f"{getattr(slo, field)} is not above 0", "give a limit above 0, or leave it out")
        for field in LIMIT_FIELDS
        if not _positive(getattr(slo, field))
    ]
    if unresolved := resolve(slo, document.points).unresolved:
        problems.append(Problem("itlFactor", unresolved, "or give the limit in milliseconds (itlMs)"))
    return tuple(problems)


def check_document(document: MeasurementDocument) -> tuple[Problem, ...]:
    """Points and ledger that contradict themselves or each other."""
    points = document.points
    problems = [_in_point(i, rule.say(point)) for rule in RULES for i, point in enumerate(points) if rule.broken(point)]
    singles = [p for p in points if is_full_single(p)]
    if not any(p.batch_size == 1 for p in singles):
        problems.append(
            Problem("points", "no single engine was measured at B=1, so no efficiency can be judged", "measure B=1 too")
        )
    if singles and not any(p.is_trusted for p in singles):
        problems.append(
            Problem(
                "points",
                "every single-engine point has preemptions, errors or marks",
                "measure again with a larger KV pool",
            )
        )
    if document.ledger:
        problems += _ledger_problems(document.ledger, document.gpu.memory_bytes)
    return tuple(problems)


def _in_point(index: int, found: Problem) -> Problem:
    return replace(found, field=f"points[{index}].{found.field}")


def _ledger_problems(ledger: Ledger, gpu_bytes: int) -> Iterator[Problem]:
    device = ledger.device_bytes
    if device <= 0:
        yield Problem("ledger.deviceBytes", "it is 0", "give the GPU's memory in bytes")
    elif ledger.fixed_bytes + ledger.kv_pool_bytes > device * 1.02:
        yield Problem(
            "ledger.kvPoolBytes",
            f"weights, activations, graphs, context and KV pool are {ledger.fixed_bytes + ledger.kv_pool_bytes:,} bytes on a device of {device:,}",
            "check the units: every line is in bytes",
        )
    elif not device / 2 < gpu_bytes < device * 2:
        yield Problem(
            "gpu.memoryBytes",
            f"{gpu_bytes:,} bytes, where the ledger says {device:,}",
            "check the units: both are in bytes",
        )


def _at_least_one(value: int | None) -> bool:
    return value is None or value >= 1


def _positive(value: float | None) -> bool:
    return value is None or value > 0
