"""How long a profile is kept that no SLMDeployment uses.

Measurements are what GPU time has bought, so a profile outlives its deployments, and nothing is deleted by default. Where
`profiles.retentionDays` is set, one that the operator made goes after that long without a use. Must never delete what a
person made or imported, nor judge by a moment that does not stand in status yet: whoever looks must have been able to see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.conditions import moment, rfc3339
from slm_operator.planning.actions import Delete
from slm_operator.planning.profile.tries import is_made_here

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.settings import Settings
    from slm_operator.watch.records import ProfileRecord

DAY_SECONDS = 86_400
LONGEST_LOOK_SECONDS = 3600.0
"""The deletion is not due to the second, and a wait of weeks would be one of a process that is restarted meanwhile."""
SHORTEST_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What follows from whether a profile is used."""

    unused_since: str | None
    """Value of status.unusedSince. None: an SLMDeployment uses it."""
    delete: Delete | None = None
    """Its deletion, if it is due now."""
    look_again_seconds: float | None = None
    """When to look whether it is due. None: it never will be, as things are."""


def retention(record: ProfileRecord, settings: Settings, now: datetime, *, is_used: bool) -> Retention:
    """Since when the profile is unused, whether it goes now, and when to look again."""
    if is_used:
        return Retention(unused_since=None)
    unused_since, unused_seconds = _unused(record, now)
    days = settings.profiles.retention_days
    if days is None or not _may_go(record):
        return Retention(unused_since=unused_since)
    left_seconds = days * DAY_SECONDS - unused_seconds
    if left_seconds > 0 or record.status.get("unusedSince") != unused_since:
        seconds = min(max(left_seconds, SHORTEST_LOOK_SECONDS), LONGEST_LOOK_SECONDS)
        return Retention(unused_since=unused_since, look_again_seconds=seconds)
    return Retention(
        unused_since=unused_since,
        delete=_delete(record, unused_since, days),
        look_again_seconds=LONGEST_LOOK_SECONDS,  # should the API server refuse it
    )


def counted_from(unused_since: str, created: str) -> datetime | None:
    """From when a profile counts as unused, by status and by the API server's clock; None where status does not say.

    NB: never from before it was made. A status that came out of a backup, or was written while this machine's clock was
    behind, would have a new profile deleted at once.
    """
    since, made = moment(unused_since), moment(created)
    return since if since is None or made is None else max(since, made)


def _unused(record: ProfileRecord, now: datetime) -> tuple[str, float]:
    """Since when, as status has it, and for how many seconds; now and none, where it was used until now."""
    written = str(record.status.get("unusedSince") or rfc3339(now))
    since = counted_from(written, record.created) or now
    kept = written if moment(written) == since else rfc3339(since)
    return kept, (now - since).total_seconds()


def _may_go(record: ProfileRecord) -> bool:
    """Whether the operator made it and somebody has not yet deleted it.

    NB: whom it is for cannot be said of one that a newer version has written: an older one must not delete it.
    """
    is_read = record.spec is not None and record.broken is None
    return is_read and is_made_here(record) and not record.imported and not record.meta.deleting


def _delete(record: ProfileRecord, unused_since: str, days: float) -> Delete:
    return Delete(
        api_version=names.API_VERSION,
        kind=names.PROFILE_KIND,
        key=record.meta.key,
        uid=record.meta.uid,
        because=f"no SLMDeployment has used it since {unused_since}, for longer than profiles.retentionDays ({days:g}) allows",
    )
