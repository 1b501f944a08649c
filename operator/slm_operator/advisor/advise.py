"""The joint choice of batch, KV bytes, engines per GPU and sharing mode.

    question -> case -> judge singles and packs -> efficiency, gain -> choose -> advice

The promise is no regret: without a pack that was measured better than the best single engine of the same document,
the answer is one engine per GPU, with the batch that the published advisor gives. Assumes that measurements are true;
`problems` refuses those that cannot be. Must never answer with an unmeasured pack, unless the user chose its size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_operator.advisor import memory
from slm_operator.advisor.advice import Advice, Candidate, Check, Load, ModeChoice, Objective, Parts, Source, Verdict
from slm_operator.advisor.case import is_partial, make_case
from slm_operator.advisor.checks import gain_over, gate
from slm_operator.advisor.choice import Choice, choose, throughput_then_memory
from slm_operator.advisor.frontier import pareto_frontier
from slm_operator.advisor.judged import judge, judge_efficiency, judge_gain
from slm_operator.advisor.load import measured, pays_from
from slm_operator.advisor.problems import AdviceError, check_question
from slm_operator.advisor.sentences import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_runtime.document import MeasurementDocument
    from slm_runtime.slo import Slo

    from slm_operator.advisor.advice import Settings
    from slm_operator.advisor.case import Case
    from slm_operator.advisor.judged import Judged

SMALLEST_TOKEN_BUDGET = 2048
"""--max-num-batched-tokens where the measurement does not tell one: vLLM's smallest default, which every GPU can do."""
THIN = ("Load", "Gain")
"""Checks that a pack fails when traffic is too thin for it."""


def advise(document: MeasurementDocument, slo: Slo, settings: Settings) -> Advice:
    """Advice for one GPU. Raises AdviceError, which names field and mend, for a question that has no answer."""
    if problems := check_question(document, slo, settings):
        raise AdviceError(problems)
    case = make_case(document, slo, settings)
    judged = [judge(case, point) for point in case.points]
    packs = [j for j in judged if j.point.replicas > 1]
    packs_measured = any(j.passed for j in packs)
    singles = [judge_efficiency(case, j, packs_measured=packs_measured) for j in judged if j.point.replicas == 1]
    best = max((j for j in singles if j.passed), key=throughput_then_memory, default=None)
    packs = [judge_gain(case, j, best) for j in packs]
    choice = choose(case, singles, packs, best)
    return _explain(case, _compose(case, choice, best, singles, packs), choice, document.incomplete_because)


def _compose(
    case: Case, choice: Choice, best: Judged | None, singles: Sequence[Judged], packs: Sequence[Judged]
) -> Advice:
    point = choice.judged.point
    predicted = None if choice.borrowed else choice.judged.predicted or measured(point)
    best_single = best.predicted if best else None
    return Advice(
        batch_size=point.batch_size,
        kv_bytes=choice.kv_bytes,
        max_num_batched_tokens=point.max_num_batched_tokens or max(SMALLEST_TOKEN_BUDGET, point.batch_size),
        replicas_per_gpu=choice.replicas,
        sharing_mode=choice.mode,
        predicted=predicted,
        best_single=best_single,
        gain=gain_over(predicted, best_single) if predicted and best_single else None,
        freed_bytes=memory.freed_bytes(case, choice.replicas, choice.kv_bytes),
        load=Load(in_flight=case.in_flight),
        pays_from_in_flight=_pays_from(case, choice, best, packs),
        source=_parts(case, choice, predicted.source if predicted else Source.USER_CHOICE),
        feasible=choice.closest is None,
        closest=choice.closest,
        candidates=tuple(_candidate(case, j, choice) for j in (*singles, *packs)),
        pareto_frontier=pareto_frontier(case.points),
        sentences=(),
    )


def _explain(case: Case, advice: Advice, choice: Choice, incomplete_because: str | None) -> Advice:
    cut = (
        ()
        if incomplete_because is None
        else (f"The measurement ended early ({incomplete_because}): better points may exist.",)
    )
    return replace(advice, sentences=say(case, advice, (*choice.notes, *cut)))


def _parts(case: Case, choice: Choice, predicted: Source) -> Parts:
    own_number = case.settings.replicas_per_gpu is not None
    unmeasured = Source.USER_CHOICE if choice.borrowed else Source.MEASURED
    return Parts(
        kv_bytes=unmeasured,
        replicas_per_gpu=Source.USER_CHOICE if own_number else Source.MEASURED,
        sharing_mode=unmeasured if case.settings.mode is ModeChoice.AUTO else Source.USER_CHOICE,
        predicted=predicted,
    )


def _pays_from(case: Case, choice: Choice, best: Judged | None, packs: Iterable[Judged]) -> int | None:
    """The load from which the served pack pays, or the best pack that is rejected for thin traffic only."""
    if best is None or best.predicted is None or choice.borrowed:
        return None
    served, against = choice.judged.point, (best.point, best.predicted)
    if choice.replicas > 1:
        return pays_from(case, served, best.point, gate(case, served, against)) if choice.closest is None else None
    thin = [j.point for j in packs if case.in_flight and j.checks[-1].name in THIN and not is_partial(j.point)]
    pack = max(thin, key=lambda p: p.throughput_tokens_per_second, default=None)
    pays = pays_from(case, pack, best.point, gate(case, pack, against)) if pack else None
    return pays if pays and pays > (case.in_flight or 0) else None


def _candidate(case: Case, judged: Judged, choice: Choice) -> Candidate:
    """The verdict, with the check that tells it."""
    if judged.passed:
        own = case.settings.replicas_per_gpu or 1
        chosen = judged is choice.judged
        if own > 1 and judged.point.replicas == 1 and not chosen:
            judged = judged.then(Check("Sharing", False, "the user asked for {limit:.0f} per GPU", 1, own))
        else:
            judged = judged.then(_rank(case, judged, choice))
    verdict = Verdict.REJECTED if not judged.passed else Verdict.CHOSEN if chosen else Verdict.KEPT
    return Candidate(judged.point, verdict, judged.checks, judged.predicted)


def _rank(case: Case, judged: Judged, choice: Choice) -> Check:
    best = choice.judged.throughput
    if judged is not choice.judged:
        return Check(
            "Rank", True, "makes {value:,.0f} tokens/s where the choice makes {limit:,.0f}", judged.throughput, best
        )
    if choice.borrowed:
        return Check(
            "Rank",
            True,
            "lends batch size and KV bytes to the {limit:.0f} engines per GPU that the user chose",
            1,
            choice.replicas,
        )
    says = {
        Objective.THROUGHPUT: "the most tokens per second",
        Objective.FREE_MEMORY: "the least memory for that throughput",
    }
    return Check(
        "Rank", True, f"{says[case.settings.objective]} of all that passed: {{value:,.0f}} tokens/s", best, best
    )
