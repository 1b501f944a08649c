"""The joint choice of batch, KV bytes, engines per GPU and sharing mode.

    question -> context -> evaluate singles and packs -> select -> advice -> explain

The promise is no regret: without a pack that was measured better than the best single engine of the same document,
the answer is one engine per GPU, with the batch that the published advisor gives. Assumes that measurements are true;
`validate` refuses those that cannot be. Must never answer with an unmeasured pack, unless the user chose its size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.candidates import Check, CheckName, Source

from slm_operator.advisor import memory
from slm_operator.advisor.advice import Advice, Load, Objective, Parts
from slm_operator.advisor.checks import gate
from slm_operator.advisor.context import is_partial, make_context
from slm_operator.advisor.evaluate import evaluate
from slm_operator.advisor.explain import say
from slm_operator.advisor.load import pays_from
from slm_operator.advisor.select import choose, pareto_frontier
from slm_operator.advisor.validate import AdviceError, check_question

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slm_core.candidates import Candidate, Predicted
    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Settings
    from slm_operator.advisor.context import Context
    from slm_operator.advisor.evaluate import Evaluation
    from slm_operator.advisor.select import Choice

THIN = (CheckName.LOAD, CheckName.GAIN)
"""Checks that a pack fails when traffic is too thin for it."""


def advise(document: MeasurementDocument, slo: Slo, settings: Settings) -> Advice:
    """Advice for one GPU. Raises AdviceError, which names field and remedy, for a question that has no answer."""
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
    context = make_context(document, slo, settings, source)
    found = evaluate(context)
    choice = choose(context, found)
    advice = _compose(context, choice, found)
    return replace(advice, sentences=say(context, advice, (*choice.notes, *notes)))


def _compose(context: Context, choice: Choice, found: Evaluation) -> Advice:
    served = choice.configuration
    predicted = None if choice.borrowed else _labelled(context, choice.judged)
    best_single = _labelled(context, found.best) if found.best else None
    return Advice(
        configuration=served,
        predicted=predicted,
        best_single=best_single,
        gain=_gain(predicted, best_single),
        freed_bytes=memory.freed_bytes(context, served.engines_per_gpu, served.kv_cache_bytes),
        load=Load(in_flight=context.in_flight),
        pays_from_in_flight=_pays_from(context, choice, found),
        source=_parts(context, choice, predicted.source if predicted else Source.USER_CHOICE),
        feasible=choice.closest is None,
        closest=choice.closest,
        candidates=tuple(_candidates(context, choice, (*found.singles, *found.packs))),
        pareto_frontier=pareto_frontier(context.points),
        sentences=(),
    )


def _gain(predicted: Predicted | None, best: Predicted | None) -> float | None:
    if predicted is None or best is None:
        return None
    return predicted.throughput_tokens_per_second / best.throughput_tokens_per_second - 1


def _labelled(context: Context, judged: Candidate) -> Predicted:
    """Figures say when they are not measured."""
    return replace(judged.figures, source=context.source) if context.source is Source.ESTIMATED else judged.figures


def _parts(context: Context, choice: Choice, predicted: Source) -> Parts:
    own_number = context.settings.engines_per_gpu is not None
    unmeasured = Source.USER_CHOICE if choice.borrowed else context.source
    return Parts(
        batch_size=context.source,
        kv_bytes=unmeasured,
        engines_per_gpu=Source.USER_CHOICE if own_number else context.source,
        sharing_mode=unmeasured if context.settings.mode is None else Source.USER_CHOICE,
        predicted=predicted,
    )


def _pays_from(context: Context, choice: Choice, found: Evaluation) -> int | None:
    """The load from which the served pack pays, or the best pack that is rejected for thin traffic only."""
    best = found.best
    if best is None or choice.borrowed:
        return None
    served = choice.judged.point
    if choice.configuration.engines_per_gpu > 1:
        return pays_from(context, served, best.point, gate(context, served, best)) if choice.closest is None else None
    thin = [j.point for j in found.packs if context.in_flight and j.last.name in THIN and not is_partial(j.point)]
    pack = max(thin, key=lambda p: p.throughput_tokens_per_second, default=None)
    pays = pays_from(context, pack, best.point, gate(context, pack, best)) if pack else None
    return pays if pays and pays > (context.in_flight or 0) else None


def _candidates(context: Context, choice: Choice, judged: Iterable[Candidate]) -> Iterator[Candidate]:
    """Each with the check that tells its verdict."""
    own = context.settings.engines_per_gpu or 1
    for j in judged:
        if not j.passed:
            yield j
        elif j is choice.judged:
            yield replace(j.then(_first(context, choice)), chosen=True)
        elif j.point.replicas == 1 < own:
            yield j.then(Check(CheckName.SHARING, False, f"the user requested {own} per GPU", 1, own))
        else:
            yield j.then(_behind(context, choice))


def _first(context: Context, choice: Choice) -> Check:
    if choice.borrowed:
        engines = choice.configuration.engines_per_gpu
        because = f"lends batch size and KV bytes to the {engines} engines per GPU that the user chose"
        return Check(CheckName.RANK, True, because, 1, engines)
    makes = choice.judged.throughput
    if context.settings.objective is Objective.THROUGHPUT:
        because = f"the most tokens per second of all that passed: {makes:,.0f}"
    else:
        because = f"the least memory of all that make no less than the best single engine: {makes:,.0f} tokens/s"
    return Check(CheckName.RANK, True, because, makes, makes)


def _behind(context: Context, choice: Choice) -> Check:
    makes = choice.judged.throughput
    if context.settings.objective is Objective.THROUGHPUT:
        because = f"passed every check, and the choice makes {makes:,.0f} tokens/s"
    else:
        because = "passed every check, and makes too little or needs more memory than the choice"
    return Check(CheckName.RANK, True, because, 0, makes)
