"""Which profile a deployment rests on when several were measured for the same key."""

from dataclasses import replace

from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.reconcile.gather import Gatherer
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning

from tests import builders as build

RECORD = build.deployment()


def chosen(**measured_at: str | None) -> str | None:
    """Name of the profile that is taken, of profiles with these names and times; "" is a profile without any."""
    keys = ProfileKeys(build.SETTINGS.defaults)
    caches = caches_for_planning(keys, build.SETTINGS)
    caches.deployments.put(RECORD)
    for name, when in measured_at.items():
        document = None if when == "" else replace(build.imported(), measured_at=when)
        found = build.profile(RECORD, document)
        meta = build.meta(name)
        caches.profiles.put(replace(found, meta=meta, measurements=document))
    gatherer = Gatherer(caches=caches, keys=keys, settings=build.SETTINGS, advice_of=advice_of, demand_of=demand_of)
    taken = gatherer.profile_of(RECORD)
    return taken.meta.key.name if taken is not None else None


def test_profile_measured_last_is_taken() -> None:
    assert chosen(a="2026-01-01T00:00:00Z", b="2026-01-02T00:00:00Z") == "b"


def test_profile_still_being_measured_is_not_taken() -> None:
    assert chosen(a="2026-01-01T00:00:00Z", b="") == "a"


def test_first_profile_by_name_is_taken_where_times_lack() -> None:
    assert chosen(b=None, a=None) == "a"


def test_no_profile_is_taken_where_there_is_none() -> None:
    assert chosen() is None
