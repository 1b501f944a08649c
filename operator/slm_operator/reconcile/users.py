"""Whom a profile is for: the deployments that rest on it, and what they ask of it.

Nobody owns a profile, so this is looked up each time. A deployment rests on the profile that `profile_of` gives it, and on
no other with the same key but the one that it had made to follow that, while it is not measured. Must never go by a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_operator.manifests.profile import following_name
from slm_operator.planning.views import Asked
from slm_operator.reconcile.indexes import KEYED, NAMED, SHARING, key_of, named_profile
from slm_operator.watch.records import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slm_operator.reconcile.indexes import ProfileKeys
    from slm_operator.watch.records import DeploymentRecord, ProfileRecord
    from slm_operator.watch.watch_list import Caches


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """The deployments of each profile."""

    caches: Caches
    keys: ProfileKeys
    profile_of: Callable[[DeploymentRecord], ProfileRecord | None]
    resolved: Callable[[DeploymentRecord], DeploymentRecord]
    """A deployment with the defaults that it has."""

    def any(self, profile: ProfileRecord) -> bool:
        """Whether any deployment rests on it. NB: it stops at the first: of an imported one a thousand may make use."""
        return any(True for _ in self._of(profile))

    def all_paused(self, profile: ProfileRecord) -> bool:
        """Whether it is for deployments, and all of them are paused."""
        paused = (one.spec is not None and one.spec.paused for one in self._of(profile))
        return next(paused, False) and all(paused)

    def asked(self, profile: ProfileRecord) -> tuple[Asked, ...]:
        """What those ask who found it in their own namespace and may have something measured: each question once."""
        found: dict[str, Asked] = {}
        for record in sorted(self._by_key(profile), key=lambda one: one.meta.key):
            question, spec = self.keys.question_of(record), record.spec
            if question is None or spec is None or spec.paused or spec.profiling.policy == "Never":
                continue
            if record.meta.key.namespace == profile.meta.key.namespace:
                found.setdefault(question.digest, Asked(deployment=record.meta.key.name, question=question))
        return tuple(found.values())

    def _of(self, profile: ProfileRecord) -> Iterator[DeploymentRecord]:
        namespace, name = profile.meta.key
        yield from (one for one in self.caches.deployments.by(NAMED, (namespace, name)) if not one.meta.deleting)
        yield from self._by_key(profile)

    def _by_key(self, profile: ProfileRecord) -> Iterator[DeploymentRecord]:
        """NB: a library serves every namespace, and `profile_of` knows which namespaces are libraries."""
        key = key_of(profile)
        if key is None:
            return
        own = self.caches.deployments.by(SHARING, (profile.meta.key.namespace, key))
        elsewhere = (
            one
            for one in (self.caches.deployments.by(KEYED, key) if profile.measurements is not None else ())
            if one.meta.key.namespace != profile.meta.key.namespace
        )
        for users in (own, elsewhere):
            for record in users:
                if not record.meta.deleting and self._rests_on(record, profile):
                    yield record

    def _rests_on(self, record: DeploymentRecord, profile: ProfileRecord) -> bool:
        found = self.profile_of(record)
        if named_profile(record) is not None or found is None:
            return False
        return found.meta.uid == profile.meta.uid or _follows(profile, found, self.resolved(record))


def _follows(profile: ProfileRecord, measured: ProfileRecord, record: DeploymentRecord) -> bool:
    """Whether a deployment has it measured because those measurements do not hold any more."""
    at, spec = measured.measurements.measured_at if measured.measurements is not None else None, record.spec
    if at is None or spec is None or profile.measurements is not None or spec.profiling.policy != "OnDrift":
        return False
    return profile.meta.key == Key(record.meta.key.namespace, following_name(spec, at))
