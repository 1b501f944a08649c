"""More points for a profile that is measured, where a deployment asks what it does not answer yet.

    Complete --a question lacks points--> Complete, extended: the same turn, Job and tries as a first measurement
       ^------- the points are added, or what kept them from it is said; the question counts as answered ------|

The measurements stay what they are meanwhile, and every deployment goes on being advised from them. One question at a
time, inside its own budget for the whole profile. Must never take a point away, nor measure where nobody asks any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json
from slm_core.wording import several

from slm_operator.api.conditions import rfc3339
from slm_operator.api.profile import AnsweredStatus, ExtensionStatus
from slm_operator.api.reasons import Reason
from slm_operator.manifests.profile import request_digest
from slm_operator.manifests.question import CPU, asking, lacking
from slm_operator.planning.profile.answers import MOST_ANSWERS, MOST_SHORTFALL, answer_to, answers_of
from slm_operator.planning.profile.ended import finished, kept_of
from slm_operator.planning.profile.follow import FOLLOW_SECONDS, waiting_since
from slm_operator.planning.profile.former import is_handy, merged
from slm_operator.planning.profile.measuring import next_step
from slm_operator.planning.profile.outcome import AT_ONCE_SECONDS, Outcome, ready, without_job
from slm_operator.planning.profile.tries import is_retry, tries_of

if TYPE_CHECKING:
    from datetime import datetime

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.profile import SLMProfileSpec
    from slm_operator.planning.views import Asked, ProfileView
    from slm_operator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The question to be measured for now, and those for which nothing is."""

    asked: Asked | None
    lacks: str = ""
    answers: tuple[AnsweredStatus, ...]


def extended(view: ProfileView, spec: SLMProfileSpec, settings: Settings, now: datetime) -> Outcome | None:
    """The next step of a profile that is to be extended; None where nothing is to be measured and nothing to be written."""
    document = view.profile.measurements
    if document is None:
        return None
    wanted, status = _wanted(view, spec, document), view.profile.status
    pending = status.get("extension") or {}
    if wanted.asked is None:
        is_news = bool(pending) or [one.given() for one in wanted.answers] != list(status.get("answered") or ())
        return _ends(view, spec, wanted.answers, document) if is_news else None
    if pending.get("question") != wanted.asked.question.digest:
        return _begins(view, wanted, spec, now)
    asked_spec = _pinned(asking(spec, wanted.asked.question), document)
    asked_view = replace(view, profile=replace(view.profile, spec=asked_spec))
    return _goes_on(view, wanted, document, next_step(asked_view, settings, now), now)


def _wanted(view: ProfileView, spec: SLMProfileSpec, document: MeasurementDocument) -> _Wanted:
    """NB: what lacks is asked of the search, which takes milliseconds: only until status has the answer."""
    record = view.profile
    again = is_retry(record.retry, tries_of(record).retry)
    answers = [one for one in answers_of(record) if not (again and one.shortfall)]
    for asked in view.asked[:MOST_ANSWERS]:
        if answer_to(record, asked.question, answers) is not None:
            continue
        lacks = lacking(asked.question, spec, document)
        if lacks is not None and is_handy(document):
            return _Wanted(asked=asked, lacks=lacks, answers=_kept(view, answers))
        too_long = (
            None if lacks is None else "it has too many points to be handed to a further try: measure a new profile"
        )
        answers.append(AnsweredStatus(question=asked.question.digest, shortfall=too_long))
    return _Wanted(asked=None, answers=_kept(view, answers))


def _kept(view: ProfileView, answers: list[AnsweredStatus]) -> tuple[AnsweredStatus, ...]:
    """As many as status holds beside one more. NB: those to what is asked now first, or one would be measured for ever."""
    asked = {one.question.digest for one in view.asked[:MOST_ANSWERS]}
    gone = [one for one in answers if one.question not in asked]
    there = [one for one in answers if one.question in asked]
    room = MOST_ANSWERS - 1 - len(there)
    return (*(gone[-room:] if room > 0 else ()), *there)


def _pinned(spec: SLMProfileSpec, document: MeasurementDocument) -> SLMProfileSpec:
    """On the same kind of GPU, whatever the profile allows. A CPU bears no label."""
    if document.gpu.product == CPU:
        return spec
    return spec.model_copy(update={"gpu": spec.gpu.model_copy(update={"product": document.gpu.product})})


def _begins(view: ProfileView, wanted: _Wanted, spec: SLMProfileSpec, now: datetime) -> Outcome:
    """Status must say it first, for those who count places. What measured so far is spent; a Job that is there goes."""
    record, asked, job = view.profile, wanted.asked, view.job
    assert asked is not None
    tries = tries_of(record).model_copy(
        update={
            "count": 0,
            "gpu_seconds": int(record.status.get("gpuSeconds") or 0),
            "next_try_time": None,
            "job": job.meta.uid if job is not None else None,
            "request": request_digest(asking(spec, asked.question)),
            "retry": record.retry,
        }
    )
    begun = ExtensionStatus(
        question=asked.question.digest, deployment=asked.deployment, message=wanted.lacks[:1024], since=rfc3339(now)
    )
    because = f"SLMDeployment {asked.deployment} asks what is not measured yet: {wanted.lacks}"
    return Outcome(
        phase="Complete",
        finding=ready(Reason.EXTENDING, because),
        extra=kept_of(record) | _answered(wanted.answers) | {"extension": begun.given()},
        tries=tries,
        look_again_seconds=AT_ONCE_SECONDS,
    )


def _goes_on(
    view: ProfileView, wanted: _Wanted, document: MeasurementDocument, outcome: Outcome, now: datetime
) -> Outcome:
    """What a step of measuring comes to for a profile that has its measurements."""
    asked = wanted.asked
    assert asked is not None
    if outcome.phase == "Complete" and view.log.document is not None:
        return _with_points(view, wanted, document, view.log.document, outcome)
    if outcome.phase == "Failed" or outcome.finding.stalls:
        answers = (*wanted.answers, _answer(asked, outcome.finding.message))
        result = _with_partial(view, document)
        message = f"{several(len(result.points), 'point')} measured; extending them ended: {outcome.finding.message}"
        return replace(
            outcome,
            phase="Complete",
            finding=ready(Reason.MEASURED, message),
            extra=kept_of(view.profile) | _result(result) | _answered(answers) | {"gpuSeconds": _spent(view, outcome)},
            look_again_seconds=None,
            is_open=False,
        )
    message = f"extended for SLMDeployment {asked.deployment} ({wanted.lacks}): {outcome.finding.message}"
    kept = {name: value for name, value in kept_of(view.profile).items() if name != "gpuSeconds"}
    since = {"waitingSince": waiting_since(view, now)} if outcome.waits else {}
    more = _answered(wanted.answers) | {"extension": to_json(view.profile.status["extension"])} | since
    return replace(
        outcome,
        phase="Complete",
        finding=ready(Reason.EXTENDING, message),
        extra=kept | (outcome.extra or {}) | more,
        look_again_seconds=outcome.look_again_seconds or FOLLOW_SECONDS,
    )


def _with_points(
    view: ProfileView, wanted: _Wanted, former: MeasurementDocument, newer: MeasurementDocument, outcome: Outcome
) -> Outcome:
    asked, both = wanted.asked, merged(former, newer)
    assert asked is not None
    shortfall = None if newer.complete else f"measuring ended early: {newer.incomplete_because}"
    if both is None:
        shortfall = "it was measured on another kind of GPU than before, and what was measured there is not kept"
    result = both or former
    message = f"{several(len(result.points), 'point')} measured" + (f"; {shortfall}" if shortfall else "")
    kept = {name: value for name, value in kept_of(view.profile).items() if name not in {"gpuSeconds", "progress"}}
    extra = kept | _result(result) | _answered((*wanted.answers, _answer(asked, shortfall)))
    return replace(outcome, finding=ready(Reason.MEASURED, message), extra=extra, is_open=False)


def _ends(
    view: ProfileView, spec: SLMProfileSpec, answers: tuple[AnsweredStatus, ...], document: MeasurementDocument
) -> Outcome:
    """Nothing is asked (any more): what was measured for it until now is kept."""
    outcome = finished(view, "Complete", spec, tries_of(view.profile))
    extra = (outcome.extra or {}) | _answered(answers)
    if not view.profile.status.get("extension"):
        return replace(outcome, extra=extra)
    result, job = _with_partial(view, document), view.job
    return replace(
        outcome,
        finding=ready(Reason.MEASURED, f"{several(len(result.points), 'point')} measured"),
        actions=without_job(job, "nobody asks any more what it measures") if job is not None else (),
        extra=extra | _result(result),
    )


def _with_partial(view: ProfileView, document: MeasurementDocument) -> MeasurementDocument:
    """The measurements and the points of a try that came to no end."""
    partial = view.log.partial or view.profile.partial
    return (merged(document, partial) if partial is not None else None) or document


def _result(document: MeasurementDocument) -> dict[str, Any]:
    return {"measurements": to_json(document), "summary": several(len(document.points), "point")}


def _spent(view: ProfileView, outcome: Outcome) -> int:
    tries = outcome.tries or tries_of(view.profile)
    return max(tries.gpu_seconds, int(view.profile.status.get("gpuSeconds") or 0))


def _answer(asked: Asked, shortfall: str | None) -> AnsweredStatus:
    cut = shortfall[:MOST_SHORTFALL] if shortfall is not None else None
    return AnsweredStatus(question=asked.question.digest, shortfall=cut)


def _answered(answers: tuple[AnsweredStatus, ...]) -> dict[str, Any]:
    return {"answered": [one.given() for one in answers] or None}
