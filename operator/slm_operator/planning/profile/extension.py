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
from slm_core.measurements import CPU
from slm_core.wording import several

from slm_operator.api.conditions import rfc3339
from slm_operator.api.profile import AnsweredStatus, ExtensionStatus, TriesStatus
from slm_operator.api.reasons import Reason
from slm_operator.manifests.profile import request_digest
from slm_operator.manifests.question import asking, lacking
from slm_operator.planning.profile.answers import MOST_ANSWERS, MOST_SHORTFALL, answer_to, answers_of
from slm_operator.planning.profile.ended import finished, kept_of
from slm_operator.planning.profile.follow import FOLLOW_SECONDS, waiting_since
from slm_operator.planning.profile.former import is_handy, measured_so_far, merged
from slm_operator.planning.profile.measuring import next_step
from slm_operator.planning.profile.outcome import AT_ONCE_SECONDS, Outcome, ready
from slm_operator.planning.profile.tries import is_retry, spent_seconds, tries_of

if TYPE_CHECKING:
    from datetime import datetime

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.conditions import Finding
    from slm_operator.api.profile import SLMProfileSpec
    from slm_operator.planning.views import Asked, ProfileView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import ProfileRecord


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
    for asked in _in_turn(view):
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


def _in_turn(view: ProfileView) -> tuple[Asked, ...]:
    """As many as status has answers for. NB: what is measured for at present comes first, or a newcomer would end its Job."""
    present = (view.profile.status.get("extension") or {}).get("question")
    return tuple(sorted(view.asked, key=lambda one: one.question.digest != present))[:MOST_ANSWERS]


def _kept(view: ProfileView, answers: list[AnsweredStatus]) -> tuple[AnsweredStatus, ...]:
    """As many as status holds beside one more. NB: those to what is asked now first, or one would be measured for ever."""
    asked = {one.question.digest for one in _in_turn(view)}
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
    record, asked = view.profile, wanted.asked
    assert asked is not None
    begun_for = {
        "request": request_digest(asking(spec, asked.question)),
        "retry": record.retry or tries_of(record).retry,
    }
    tries = _all_counted(view).model_copy(update=begun_for)
    begun = ExtensionStatus(
        question=asked.question.digest, deployment=asked.deployment, message=wanted.lacks[:1024], since=rfc3339(now)
    )
    because = f"SLMDeployment {asked.deployment} asks what is not measured yet: {wanted.lacks}"
    return Outcome(
        phase="Complete",
        finding=ready(Reason.EXTENDING, because),
        extra=_kept_but_the_cost(record) | _answered(wanted.answers) | {"extension": begun.given()},
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
        answers, why = (*wanted.answers, _answer(asked, outcome.finding.message)), outcome.finding.message
        found, result = _rests(measured_so_far(view) or document, f"; extending them ended: {why}")
        cost = {"gpuSeconds": outcome.tries.gpu_seconds} if outcome.tries is not None else {}
        extra = _kept_but_the_cost(view.profile) | cost | _answered(answers) | result
        return Outcome(
            phase="Complete",
            finding=found,
            actions=outcome.actions,
            extra=extra,
            tries=outcome.tries or _all_counted(view),
            look_again_seconds=AT_ONCE_SECONDS,
            is_open=False,
        )
    message = f"extended for SLMDeployment {asked.deployment} ({wanted.lacks}): {outcome.finding.message}"
    kept = _kept_but_the_cost(view.profile)
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
        is_other = newer.gpu.product != former.gpu.product
        why = (
            "it was measured on another kind of GPU than before"
            if is_other
            else "it lacks points that were there before"
        )
        shortfall = f"{why}, and what was measured is not kept"
    result = both or measured_so_far(view) or former
    is_said = shortfall is None or (both is not None and not both.complete)
    found, result_fields = _rests(result, "" if is_said else f"; {shortfall}")
    extra = _kept_but_the_cost(view.profile) | result_fields | _answered((*wanted.answers, _answer(asked, shortfall)))
    return replace(outcome, finding=found, extra=extra, is_open=False)


def _ends(
    view: ProfileView, spec: SLMProfileSpec, answers: tuple[AnsweredStatus, ...], document: MeasurementDocument
) -> Outcome:
    """Nothing is asked (any more): what was measured for it until now is kept. The Job goes once status shows that."""
    if not view.profile.status.get("extension"):
        outcome = finished(view, "Complete", spec, tries_of(view.profile))
        return replace(outcome, extra=(outcome.extra or {}) | _answered(answers))
    found, result = _rests(measured_so_far(view) or document)
    tries = _all_counted(view)
    cost = {"gpuSeconds": tries.gpu_seconds or None}
    return Outcome(
        phase="Complete",
        finding=found,
        extra=_kept_but_the_cost(view.profile) | cost | _answered(answers) | result,
        tries=tries,
        look_again_seconds=AT_ONCE_SECONDS,
        is_open=False,
    )


def _rests(document: MeasurementDocument, more: str = "") -> tuple[Finding, dict[str, Any]]:
    """What is said of a profile with these measurements once nothing more is measured, and their fields of status."""
    because = "" if document.complete else f"; ended early: {document.incomplete_because}"
    points = several(len(document.points), "point")
    reason = Reason.MEASURED if document.complete else Reason.MEASURED_IN_PART
    found = ready(reason, f"{points} measured{because}{more}")
    return found, {"measurements": to_json(document), "summary": points, "progress": None}


def _all_counted(view: ProfileView) -> TriesStatus:
    """No try in a row, and all GPU time counted, that of a Job which is there too."""
    tries = tries_of(view.profile)
    return TriesStatus(
        gpu_seconds=tries.gpu_seconds + spent_seconds(view, tries),
        job=view.job.meta.uid if view.job is not None else None,
        request=tries.request,
        retry=tries.retry,
    )


def _kept_but_the_cost(record: ProfileRecord) -> dict[str, Any]:
    """What status says of the measurements. What they have cost goes on growing, and is counted anew."""
    return {name: value for name, value in kept_of(record).items() if name != "gpuSeconds"}


def _answer(asked: Asked, shortfall: str | None) -> AnsweredStatus:
    cut = shortfall[:MOST_SHORTFALL] if shortfall is not None else None
    return AnsweredStatus(question=asked.question.digest, shortfall=cut)


def _answered(answers: tuple[AnsweredStatus, ...]) -> dict[str, Any]:
    return {"answered": [one.given() for one in answers] or None}
