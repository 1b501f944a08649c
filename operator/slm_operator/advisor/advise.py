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
from slm_operator.advisor.advice import Advice, Check, CheckName, Load, ModeChoice, Objective, Parts, Source
from slm_operator.advisor.case import is_partial, make_case
from slm_operator.advisor.checks import gate
from slm_operator.advisor.choice import Choice, choose, throughput_then_memory
from slm_operator.advisor.frontier import pareto_frontier
from slm_operator.advisor.judged import judge_gain, judge_pack, judge_single
from slm_operator.advisor.load import pays_from
from slm_operator.advisor.problems import AdviceError, check_question
from slm_operator.advisor.sentences import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Candidate, Predicted, Settings
    from slm_operator.advisor.case import Case

THIN = (CheckName.LOAD, CheckName.GAIN)
"""Checks that a pack fails when traffic is too thin for it."""


def advise(document: MeasurementDocument, slo: Slo, settings: Settings) -> Advice:
    """Advice for one GPU. Raises AdviceError, which names field and mend, for a question that has no answer."""
    cut = document.incomplete_because
    notes = () if cut is None else (f"The measurement ended early ({cut}): better points may exist.",)
    if document.cost is None:
        notes = ("The measurements were imported: they were not confirmed with these KV bytes.", *notes)
    return answer(document, slo, settings, Source.MEASURED, notes)


def answer(
    document: MeasurementDocument, slo: Slo, settings: Settings, source: Source, notes: tuple[str, ...]
) -> Advice:
    """The same for points of any source: measured, or estimated where nothing was measured."""
    if problems := check_question(document, slo, settings):
        raise AdviceError(problems)
    case = make_case(document, slo, settings, source)
    packs = [judge_pack(case, point) for point in case.points if point.replicas > 1]
    packs_measured = any(j.passed for j in packs)
    singles = [judge_single(case, point, packs_measured=packs_measured) for point in case.points if point.replicas == 1]
    best = max((j for j in singles if j.passed), key=throughput_then_memory, default=None)
    packs = [judge_gain(case, j, best) if j.passed else j for j in packs]
    choice = choose(case, singles, packs, best)
    advice = _compose(case, choice, best, singles, packs)
    return replace(advice, sentences=say(case, advice, (*choice.notes, *notes)))


def _compose(
    case: Case, choice: Choice, best: Candidate | None, singles: Sequence[Candidate], packs: Sequence[Candidate]
) -> Advice:
    point = choice.judged.point
    predicted = None if choice.borrowed else _labelled(case, choice.judged)
    best_single = _labelled(case, best) if best else None
    return Advice(
        batch_size=point.batch_size,
        kv_bytes=choice.kv_bytes,
        max_num_batched_tokens=point.max_num_batched_tokens or max(case.engine.smallest_token_budget, point.batch_size),
        replicas_per_gpu=choice.replicas,
        sharing_mode=choice.mode,
        predicted=predicted,
        best_single=best_single,
        gain=_gain(predicted, best_single),
        freed_bytes=memory.freed_bytes(case, choice.replicas, choice.kv_bytes),
        load=Load(in_flight=case.in_flight),
        pays_from_in_flight=_pays_from(case, choice, best, packs),
        source=_parts(case, choice, predicted.source if predicted else Source.USER_CHOICE),
        feasible=choice.closest is None,
        closest=choice.closest,
        candidates=tuple(_candidates(case, choice, (*singles, *packs))),
        pareto_frontier=pareto_frontier(case.points),
        sentences=(),
    )


def _gain(predicted: Predicted | None, best: Predicted | None) -> float | None:
    if predicted is None or best is None:
        return None
    return predicted.throughput_tokens_per_second / best.throughput_tokens_per_second - 1


def _labelled(case: Case, judged: Candidate) -> Predicted:
    """Figures say when they are not measured."""
    return replace(judged.figures, source=case.source) if case.source is Source.ESTIMATED else judged.figures


def _parts(case: Case, choice: Choice, predicted: Source) -> Parts:
    own_number = case.settings.replicas_per_gpu is not None
    unmeasured = Source.USER_CHOICE if choice.borrowed else case.source
    return Parts(
        batch_size=case.source,
        kv_bytes=unmeasured,
        replicas_per_gpu=Source.USER_CHOICE if own_number else case.source,
        sharing_mode=unmeasured if case.settings.mode is ModeChoice.AUTO else Source.USER_CHOICE,
        predicted=predicted,
    )


def _pays_from(case: Case, choice: Choice, best: Candidate | None, packs: Iterable[Candidate]) -> int | None:
    """The load from which the served pack pays, or the best pack that is rejected for thin traffic only."""
    if best is None or choice.borrowed:
        return None
    served = choice.judged.point
    if choice.replicas > 1:
        return pays_from(case, served, best.point, gate(case, served, best)) if choice.closest is None else None
    thin = [j.point for j in packs if case.in_flight and j.last.name in THIN and not is_partial(j.point)]
    pack = max(thin, key=lambda p: p.throughput_tokens_per_second, default=None)
    pays = pays_from(case, pack, best.point, gate(case, pack, best)) if pack else None
    return pays if pays and pays > (case.in_flight or 0) else None


def _candidates(case: Case, choice: Choice, judged: Iterable[Candidate]) -> Iterator[Candidate]:
    """Each with the check that tells its verdict."""
    own = case.settings.replicas_per_gpu or 1
    for j in judged:
        if not j.passed:
            yield j
        elif j is choice.judged:
            yield replace(j.then(_first(case, choice)), chosen=True)
        elif j.point.replicas == 1 < own:
            yield j.then(Check(CheckName.SHARING, False, f"the user asked for {own} per GPU", 1, own))
        else:
            yield j.then(_behind(case, choice))


def _first(case: Case, choice: Choice) -> Check:
    if choice.borrowed:
        because = f"lends batch size and KV bytes to the {choice.replicas} engines per GPU that the user chose"
        return Check(CheckName.RANK, True, because, 1, choice.replicas)
    makes = choice.judged.throughput
    if case.settings.objective is Objective.THROUGHPUT:
        because = f"the most tokens per second of all that passed: {makes:,.0f}"
    else:
        because = f"the least memory of all that make no less than the best single engine: {makes:,.0f} tokens/s"
    return Check(CheckName.RANK, True, because, makes, makes)


def _behind(case: Case, choice: Choice) -> Check:
    makes = choice.judged.throughput
    if case.settings.objective is Objective.THROUGHPUT:
        because = f"passed every check, and the choice makes {makes:,.0f} tokens/s"
    else:
        because = "passed every check, and makes too little or needs more memory than the choice"
    return Check(CheckName.RANK, True, because, 0, makes)
