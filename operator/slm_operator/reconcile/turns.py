"""Who waits for a place to measure, as the caches and this process's own tries show it.

A profile that was just given its turn counts as having its Job until its next pass: by then the watch has shown the Job,
or the API server has refused it. What is remembered here is only an order; after a restart everybody starts anew.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.planning.profile.tries import is_to_be_measured
from slm_operator.planning.profile.turns import Contender, turn_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from slm_operator.planning.profile.turns import Turn
    from slm_operator.settings import Settings
    from slm_operator.watch.records import JobRecord, Key, ProfileRecord


@dataclass(slots=True)
class Turns:
    """The order of tries."""

    job_of: Callable[[ProfileRecord], JobRecord | None]
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)
    _tries: dict[Key, int] = field(default_factory=dict, init=False)
    _begun: set[Key] = field(default_factory=set, init=False)

    def of(self, profile: ProfileRecord, unmeasured: Iterable[ProfileRecord], settings: Settings) -> Turn:
        """The turn of a profile that is about to be planned. One that has come counts as taken from now on."""
        places, most_of_one = settings.profiling.concurrent, settings.tenancy.max_profiles_per_namespace
        key = profile.meta.key
        self._begun.discard(key)
        contenders = tuple(self._contender(one) for one in unmeasured if is_to_be_measured(one))
        turn = turn_of(key, contenders, places, most_of_one)
        if turn.has_come:
            self._begun.add(key)
            self._tries[key] = next(self._numbers)
        return turn

    def forget(self, profile: Key) -> None:
        """It is gone, or needs no turn any more."""
        self._begun.discard(profile)
        self._tries.pop(profile, None)

    def _contender(self, profile: ProfileRecord) -> Contender:
        key, job = profile.meta.key, self.job_of(profile)
        return Contender(
            profile=key,
            created=profile.created,
            last_try=self._tries.get(key, 0),
            extends=profile.measurements is not None,
            has_job=key in self._begun or (job is not None and not job.finished),
        )
