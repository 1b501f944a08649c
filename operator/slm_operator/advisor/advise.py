"""The joint choice of batch, KV bytes, engines per GPU and sharing mode.

    question -> context -> evaluate singles and packs -> select -> advice -> explain

The promise is no regret: without a pack that was measured better than the best single engine of the same document,
the answer is one engine per GPU, with the batch that the published advisor gives. Assumes that measurements are true;
`validate` refuses those that cannot be. Must never answer with an unmeasured pack, unless the user chose its size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from slm_core.candidates import Check, CheckName, Source
from slm_core.choice import chance_fraction
from slm_core.decision import evaluate
from slm_core.load import is_partial

from slm_operator.advisor import memory
from slm_operator.advisor.advice import Advice, KvReason, Load, Objective, Parts
from slm_operator.advisor.checks import further
from slm_operator.advisor.context import make_context
from slm_operator.advisor.explain import fraction_more, not_distinguished, say
from slm_operator.advisor.load import pays_from
from slm_operator.advisor.select import choose, pareto_frontier
from slm_operator.advisor.validate import AdviceError, check_question

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slm_core.candidates import Candidate, Predicted
    from slm_core.decision import Evaluation
    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Settings
    from slm_operator.advisor.context import Context
    from slm_operator.advisor.select import Selection

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
    found = evaluate(context.basis, further(context))
    choice = choose(context, found)
    advice = _compose(context, choice, found)
    return replace(advice, sentences=say(context, advice, (*choice.notes, *notes)))


def _compose(context: Context, choice: Selection, found: Evaluation) -> Advice:
    served = choice.configuration
    predicted = None if choice.borrowed else _labelled(context, choice.judged)
    best_single = _labelled(context, _best_single(choice, found)) if found.best else None
    return Advice(
        configuration=served,
        predicted=predicted,
        best_single=best_single,
        gain=_gain(predicted, best_single),
        alternatives=choice.alternatives,
        kv_reason=_kv_reason(context, served.kv_cache_bytes),
        freed_bytes=memory.freed_bytes(context, served.engines_per_gpu, served.kv_cache_bytes),
        load=Load(in_flight=context.basis.in_flight),
        pays_from_in_flight=_pays_from(context, choice, found),
        source=_parts(context, choice, predicted.source if predicted else Source.USER_CHOICE),
        feasible=choice.closest is None,
        closest=choice.closest,
        price=context.settings.price,
        joules_per_token=predicted.joules_per_token if predicted is not None else None,
        candidates=tuple(_candidates(context, choice, (*found.singles, *found.packs))),
        pareto_frontier=pareto_frontier(context.basis.points),
        sentences=(),
    )


def _gain(predicted: Predicted | None, best: Predicted | None) -> float | None:
    if predicted is None or best is None:
        return None
    return predicted.throughput_tokens_per_second / best.throughput_tokens_per_second - 1


def _labelled(context: Context, judged: Candidate) -> Predicted:
    """Figures say when they are not measured."""
    return replace(judged.figures, source=context.source) if context.source is Source.ESTIMATED else judged.figures


def _parts(context: Context, choice: Selection, predicted: Source) -> Parts:
    own_number = context.settings.engines_per_gpu is not None
    unmeasured = Source.USER_CHOICE if choice.borrowed else context.source
    return Parts(
        batch_size=context.source,
        kv_bytes=unmeasured,
        engines_per_gpu=Source.USER_CHOICE if own_number else context.source,
        sharing_mode=unmeasured if context.settings.mode is None else Source.USER_CHOICE,
        predicted=predicted,
    )


def _pays_from(context: Context, choice: Selection, found: Evaluation) -> int | None:
    """The load from which the served pack pays, or the best pack that is rejected for thin traffic only."""
    if found.best is None or choice.borrowed:
        return None
    best, asked = found.best.fastest, context.basis.in_flight
    if choice.configuration.engines_per_gpu > 1:
        return _pays(context, choice.judged, best) if choice.closest is None else None
    thin = [j for j in found.packs if asked and j.last.name in THIN and not is_partial(j.point)]
    pack = max(thin, key=lambda j: j.point.throughput_tokens_per_second, default=None)
    pays = _pays(context, pack, best) if pack else None
    return pays if pays and pays > (asked or 0) else None


def _pays(context: Context, pack: Candidate, best: Candidate) -> int | None:
    needed = max(context.settings.min_gain, chance_fraction(pack, best))
    return pays_from(context.basis, pack.point, best.point, needed)


def _best_single(choice: Selection, found: Evaluation) -> Candidate:
    """What packs had to beat; where one engine is served for its latency, that one, for the others may be no better."""
    assert found.best is not None
    is_served = choice.judged.passed and choice.configuration.engines_per_gpu == 1
    return choice.judged if is_served else found.best.fastest


def _kv_reason(context: Context, kv: int | None) -> KvReason:
    if kv is None:
        return KvReason.UNKNOWN
    return KvReason.LONGEST_SEQUENCE if memory.is_at_floor(context, kv) else KvReason.LOAD


def _candidates(context: Context, choice: Selection, judged: Iterable[Candidate]) -> Iterator[Candidate]:
    """Each with the check that tells its verdict."""
    own = context.settings.engines_per_gpu or 1
    for j in judged:
        if not j.passed:
            yield j
        elif j is choice.judged:
            yield replace(j.then(_first(context, choice)), chosen=True)
        elif j.point.replicas == 1 < own:
            yield j.then(Check(CheckName.SHARING, False, f"the user requested {own} per GPU", 1, own))
        elif might := next((a for a in choice.alternatives if a.candidate is j), None):
            said = f"{fraction_more(might)}, at {might.itl_ratio:.1f} times the ITL of the choice"
            yield j.then(Check(CheckName.NOISE, True, said, might.gain_fraction, might.noise_fraction))
        else:
            yield j.then(_behind(context, choice, j))


def _first(context: Context, choice: Selection) -> Check:
    if choice.borrowed:
        engines = choice.configuration.engines_per_gpu
        because = f"lends batch size and KV bytes to the {engines} engines per GPU that the user chose"
        return Check(CheckName.RANK, True, because, 1, engines)
    makes = choice.judged.throughput
    if choice.alternatives:
        fastest = choice.alternatives[0]
        because = not_distinguished(fastest)
        return Check(CheckName.NOISE, True, because, fastest.gain_fraction, fastest.noise_fraction)
    match context.settings.objective:
        case Objective.THROUGHPUT | Objective.COST:
            because = f"the most tokens per second of all that passed: {makes:,.0f}"
        case Objective.FREE_MEMORY:
            because = f"the least memory of all that make no less than the best single engine: {makes:,.0f} tokens/s"
        case Objective.ENERGY:
            because = f"the fewest joules per token of all that passed, within the noise: {_joules(choice.judged)}"
        case _ as never:
            assert_never(never)
    return Check(CheckName.RANK, True, because, makes, makes)


def _joules(judged: Candidate) -> str:
    joules = judged.figures.joules_per_token
    return "an energy that was not measured at this load" if joules is None else f"{joules:.3f} J"


def _behind(context: Context, choice: Selection, judged: Candidate) -> Check:
    makes = choice.judged.throughput
    match context.settings.objective:
        case Objective.THROUGHPUT | Objective.COST:
            because = f"passed every check, and the choice makes {makes:,.0f} tokens/s"
        case Objective.FREE_MEMORY:
            because = "passed every check, and makes too little or needs more memory than the choice"
        case Objective.ENERGY:
            because = f"passed every check, and takes {_joules(judged)}; the choice takes {_joules(choice.judged)}"
        case _ as never:
            assert_never(never)
    return Check(CheckName.RANK, True, because, 0, makes)
