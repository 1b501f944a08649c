"""Which questions a profile has answered: those in its status, and the one that it was made for.

A question counts as answered when nothing more is measured for it, so an answer may fall short, and says of what. Must
never be taken for the evidence itself: that is in the measurements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from slm_operator.api.profile import AnsweredStatus
from slm_operator.manifests.question import first_question

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.manifests.question import Question
    from slm_operator.watch.records import ProfileRecord

MOST_ANSWERS, MOST_SHORTFALL = 64, 1024
"""Answers that status keeps, the last ones, also of who is gone: a deployment that is made again asks the same."""


def answers_of(record: ProfileRecord) -> tuple[AnsweredStatus, ...]:
    """What its status says; nothing of what cannot be read."""
    try:
        return tuple(AnsweredStatus.model_validate(one) for one in record.status.get("answered") or ())
    except ValidationError:
        return ()


def answer_to(record: ProfileRecord, question: Question, answers: Iterable[AnsweredStatus]) -> AnsweredStatus | None:
    """The answer to one question, among these or as the profile was made for it; None where it is open."""
    found = next((one for one in answers if one.question == question.digest), None)
    document = record.measurements
    if found is not None or record.spec is None or document is None:
        return found
    if first_question(record.spec).digest != question.digest:
        return None
    because = None if document.complete else f"measuring ended early: {document.incomplete_because}"[:MOST_SHORTFALL]
    return AnsweredStatus(question=question.digest, shortfall=because)
