"""Tries of one profile: what they have cost, whether another one is asked for, and when it comes.

All of it stands in the profile's status, so that a restart of the operator forgets nothing. A wait is bounded by its own
length from now, so that a clock that is set back makes nobody wait longer. Must never let tries cost more than the budget.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import ValidationError

from slm_operator.api import names
from slm_operator.api.conditions import moment, rfc3339
from slm_operator.api.profile import ENDED, TriesStatus
from slm_operator.manifests.profile import request_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.profile import SLMProfileSpec
    from slm_operator.planning.profile.endings import Ended
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import JobRecord, ProfileRecord

LONGEST_PAUSE = timedelta(hours=1)
LEAST_SECONDS = 60
"""GPU time that is worth another try: with less no engine starts."""
MOST_MESSAGE, MOST_DIGEST = 1024, 64
"""Longest texts that status takes, in characters."""
_MOST_DOUBLINGS = 20


def tries_of(record: ProfileRecord) -> TriesStatus:
    """What status says of former tries; nothing, where it cannot be read."""
    try:
        return TriesStatus.model_validate(record.status.get("tries") or {})
    except ValidationError:
        return TriesStatus()


def is_made_here(profile: ProfileRecord) -> bool:
    """Whether the operator made it for deployments, by its label: nothing is measured of it that nobody needs."""
    return profile.meta.labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY


def is_to_be_measured(profile: ProfileRecord) -> bool:
    """Whether a profile has a measurement before it, its first or one that extends it: neither in a pause nor stopped.

    NB: read off its status, for who counts places knows no time: a pause ends when status no longer tells of it.
    """
    readable = profile.spec is not None and profile.broken is None
    is_open = profile.status.get("phase") not in ENDED or bool(profile.status.get("extension"))
    is_free = not profile.imported and not profile.meta.deleting and is_open
    return readable and is_free and not _is_stopped(profile.status)


def _is_stopped(status: Mapping[str, Any]) -> bool:
    held = any(one.get("type") == "Stalled" and one.get("status") == "True" for one in status.get("conditions") or ())
    return held or bool((status.get("tries") or {}).get("nextTryTime"))


def asks_anew(record: ProfileRecord, tries: TriesStatus) -> bool:
    """Whether spec, or a person's annotation, is another than at the last try."""
    assert record.spec is not None
    is_changed = tries.request is not None and tries.request != request_digest(record.spec)
    return is_changed or is_retry(record.retry, tries.retry)


def is_retry(wanted: str | None, honoured: str | None) -> bool:
    """Whether a person asks for another try. Each value asks once; to remove the annotation asks for nothing."""
    return wanted is not None and wanted != honoured


def begun_anew(record: ProfileRecord, tries: TriesStatus) -> TriesStatus:
    """The tries once what asks anew is honoured: no pause, and the next one is short again. What was spent stays spent."""
    assert record.spec is not None
    honoured = {"request": request_digest(record.spec), "retry": record.retry or tries.retry}
    return tries.model_copy(update={"count": 0, "next_try_time": None} | honoured)


def counted(view: ProfileView, tries: TriesStatus, ended: Ended, now: datetime) -> TriesStatus:
    """The tries with one more, whose Job has ended so."""
    record, job, row = view.profile, view.job, ended.consequence
    assert record.spec is not None
    count = tries.count + row.again
    after = now + pause(row.first_pause, count) if row.again else None
    asked = _asked(job)
    return TriesStatus(
        count=count,
        gpu_seconds=tries.gpu_seconds + (spent_seconds(view, tries) if row.spends else 0),
        last_ending=ended.ending,
        last_message=str(ended)[:MOST_MESSAGE],
        last_try_time=rfc3339(now),
        next_try_time=rfc3339(after) if after is not None else None,
        job=job.meta.uid if job is not None else None,
        request=(asked[0] or request_digest(record.spec))[
            :MOST_DIGEST
        ],  # whoever may edit a Job may write anything there
        retry=asked[1] or tries.retry,
    )


def _asked(job: JobRecord | None) -> tuple[str | None, str | None]:
    return (job.request, job.retry) if job is not None else (None, None)


def pause(first: timedelta, count: int) -> timedelta:
    """How long after so many tries in a row: doubled each time, an hour at most."""
    doublings = min(max(count - 1, 0), _MOST_DOUBLINGS)
    return min(LONGEST_PAUSE, first * (1 << doublings))


def wait_until(tries: TriesStatus, now: datetime) -> datetime | None:
    """When the next try comes, never later from now than the whole pause; None: now."""
    last, due = moment(tries.last_try_time), moment(tries.next_try_time)
    if due is None:
        return None
    whole = min(LONGEST_PAUSE, due - last) if last is not None and last < due else LONGEST_PAUSE
    return min(due, now + whole) if due > now else None


def spent_seconds(view: ProfileView, tries: TriesStatus) -> int:
    """GPU time of the present try that is not counted yet: as its log says, or as status last said of a log that is gone.

    Without the model's download, which no budget counts.
    """
    before = max(int(view.profile.status.get("gpuSeconds") or 0) - tries.gpu_seconds, 0)
    if view.job is None:
        return before
    if view.job.meta.uid == tries.job:
        return 0
    return max(round(view.log.gpu_seconds if view.log.gpu_seconds is not None else _cost(view.log.document)), before)


def _cost(document: MeasurementDocument | None) -> float:
    """Of a runtime that said nothing while it measured. NB: the document's is that of all tries."""
    cost = document.cost if document is not None else None
    return max(0.0, cost.gpu_seconds - cost.download_seconds) if cost is not None else 0.0


def allowed_seconds(spec: SLMProfileSpec, settings: Settings) -> float:
    """GPU time that all tries together may cost."""
    return min(spec.search.max_gpu_minutes, settings.tenancy.max_gpu_minutes_per_profile) * 60


def summary_of(tries: TriesStatus, spec: SLMProfileSpec, settings: Settings) -> str:
    """The last try in a sentence, and what all of them have cost."""
    allowed = allowed_seconds(spec, settings) / 60
    spent, how = (
        f"{tries.gpu_seconds / 60:.1f} of {allowed:g} GPU minutes are spent",
        tries.last_message or tries.last_ending,
    )
    return spent if how is None else f"try {tries.count} ended: {how}. {spent}"


def is_spent(spec: SLMProfileSpec, tries: TriesStatus, settings: Settings) -> bool:
    """Whether the budget holds no further try."""
    return tries.gpu_seconds > 0 and allowed_seconds(spec, settings) - tries.gpu_seconds < LEAST_SECONDS
