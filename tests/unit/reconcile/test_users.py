"""Whom a profile is for, which profile a deployment rests on, and what is asked of it: by specs, never by labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from slm_operator.api import names
from slm_operator.manifests.profile import following_name, profile_name
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.reconcile.gather import Gatherer
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.queue import WorkKey
from slm_operator.settings import Profiles, Settings
from slm_operator.watch.records import DeploymentRecord, Key, ProfileRecord

from tests import builders as build

LIBRARIES = Settings(profiles=Profiles(library_namespaces=("first", "second")))
MEASURED = replace(build.imported(), measured_at="2026-01-01T00:00:00Z")
MADE_HERE = {names.MANAGED_BY_LABEL: names.MANAGED_BY}


def user(name: str = "chat", namespace: str = "team", *, deleting: bool = False, **spec: Any) -> DeploymentRecord:
    record = build.deployment(name, spec=spec)
    head = replace(record.meta, key=Key(namespace, name), uid=f"uid-{namespace}-{name}", deleting=deleting)
    return replace(record, meta=head)


def profile(name: str = "opt", namespace: str = "team", *, measured: bool = True, **more: Any) -> ProfileRecord:
    status = {"phase": "Complete"} if measured else {}
    found = build.profile(build.deployment(), measurements=MEASURED if measured else None, status=status)
    head = replace(found.meta, key=Key(namespace, name), uid=f"uid-{namespace}-{name}", labels=more.pop("labels", {}))
    return replace(found, meta=head, **more)


def gatherer(*records: DeploymentRecord | ProfileRecord, settings: Settings = build.SETTINGS) -> Gatherer:
    keys = ProfileKeys(build.SETTINGS.defaults)
    caches = caches_for_planning(keys, settings)
    for record in records:
        if isinstance(record, DeploymentRecord):
            caches.deployments.put(record)
        else:
            caches.profiles.put(record)
    return Gatherer(caches=caches, keys=keys, settings=settings, advice_of=advice_of, demand_of=demand_of)


def test_a_profile_is_found_whatever_its_name_and_label() -> None:
    found = gatherer(user(), profile("by-hand", labels={names.PROFILE_LABEL: "nonsense"})).profile_of(user())
    assert found is not None
    assert found.meta.key.name == "by-hand"


def test_a_label_makes_no_profile_of_another_model_ours() -> None:
    other = build.deployment(spec={"model": {"uri": "pvc://models/other"}})
    forged = build.profile(other, measurements=MEASURED)
    key = ProfileKeys(build.SETTINGS.defaults).of(user())
    assert (
        gatherer(replace(forged, meta=replace(forged.meta, labels={names.PROFILE_LABEL: key}))).profile_of(user())
        is None
    )


FOUND: dict[str, tuple[tuple[ProfileRecord, ...], str | None]] = {
    "its own, before any library": ((profile(), profile("a", "first")), "team/opt"),
    "a library's, where it has none": ((profile("a", "first"),), "first/a"),
    "the first library's": ((profile("b", "second"), profile("a", "first")), "first/a"),
    "a library's, while its own is measured": ((profile(measured=False), profile("b", "second")), "second/b"),
    "its own, while a library's is measured": ((profile(measured=False), profile("a", "first", measured=False)), "team/opt"),
    "no library's that is not measured": ((profile("a", "first", measured=False),), None),
    "nobody else's": ((profile("x", "elsewhere"),), None),
}  # fmt: skip


@pytest.mark.parametrize(("profiles", "taken"), FOUND.values(), ids=FOUND)
def test_a_deployment_rests_on(profiles: tuple[ProfileRecord, ...], taken: str | None) -> None:
    found = gatherer(*profiles, settings=LIBRARIES).profile_of(user())
    assert (str(found.meta.key) if found is not None else None) == taken


def test_a_profile_whose_template_was_edited_is_a_namesake() -> None:
    record = user()
    assert record.spec is not None
    found = profile(profile_name(record.spec), measured=False)
    assert gatherer(found).deployment(record).namesake is None
    resources = {"limits": {"memory": "64Gi"}}
    template = {"spec": {"containers": [{"name": "engine", "resources": resources}]}}
    assert found.spec is not None
    edited = replace(found, spec=found.spec.model_copy(update={"pod_template": template}))
    seen = gatherer(edited).deployment(record)
    assert (seen.profile, seen.namesake) == (None, edited)


USED: dict[str, tuple[tuple[DeploymentRecord, ...], bool]] = {
    "by who found it": ((user(),), True),
    "by who names it": ((user(model={"uri": "/other"}, profiling={"profileRef": {"name": "opt"}}),), True),
    "by nobody": ((), False),
    "by who goes": ((user(deleting=True),), False),
    "by who needs another": ((user(model={"uri": "/other"}),), False),
    "by who names another": ((user(profiling={"profileRef": {"name": "x"}}),), False),
    "by another namespace, as it is no library": ((user(namespace="elsewhere"),), False),
}


@pytest.mark.parametrize(("users", "used"), USED.values(), ids=USED)
def test_a_profile_is_used(users: tuple[DeploymentRecord, ...], *, used: bool) -> None:
    assert view(profile(), *users).used is used


def view(of: ProfileRecord, *others: DeploymentRecord | ProfileRecord, settings: Settings = build.SETTINGS) -> Any:
    return gatherer(of, *others, settings=settings).profile(WorkKey("profile", of.meta.key))


def test_a_librarys_profile_is_used_elsewhere_and_asked_nothing() -> None:
    seen = view(profile("a", "first"), user(workload={"concurrencyPerGpu": 3}), settings=LIBRARIES)
    assert seen.used
    assert seen.asked == ()


def test_the_older_of_two_profiles_of_one_key_is_used_by_nobody() -> None:
    older = profile("older", measurements=replace(MEASURED, measured_at="2025-01-01T00:00:00Z"))
    newer = profile("newer")
    assert not view(older, newer, user()).used
    assert view(newer, older, user()).used


@pytest.mark.parametrize(
    ("spec", "at", "used"),
    [
        ({"policy": "OnDrift"}, MEASURED.measured_at, True),
        ({"policy": "OnDrift"}, "2025-01-01T00:00:00Z", False),
        ({}, MEASURED.measured_at, False),
    ],
)
@pytest.mark.parametrize("where", ["team", "first"])
def test_remeasured_profile_is_used_by_its_deployment(spec: dict[str, Any], at: str, where: str, *, used: bool) -> None:
    drifted = user(profiling=spec)
    assert drifted.spec is not None
    second = profile(following_name(drifted.spec, at), measured=False, labels=MADE_HERE)
    seen = view(second, profile(namespace=where), drifted, settings=LIBRARIES)
    assert (seen.used, seen.turn.has_come) == (used, True)


def test_each_question_is_asked_once_and_only_by_who_may_ask() -> None:
    asking = (
        user("a"),
        user("b"),
        user("c", workload={"concurrencyPerGpu": 20}),
        user("paused", paused=True, workload={"concurrencyPerGpu": 1}),
        user("never", profiling={"policy": "Never"}, workload={"concurrencyPerGpu": 2}),
        user("goes", deleting=True, workload={"concurrencyPerGpu": 3}),
        user("named", profiling={"profileRef": {"name": "opt"}}, workload={"concurrencyPerGpu": 4}),
    )
    assert [one.deployment for one in view(profile(), *asking).asked] == ["a", "c"]


def test_imported_or_unmeasured_profile_is_asked_nothing() -> None:
    other = user(workload={"concurrencyPerGpu": 20})
    assert view(profile(imported=True, status={"phase": "Imported"}), other).asked == ()
    assert view(profile(measured=False), other).asked == ()


def test_a_profile_that_nobody_needs_takes_no_place_from_others() -> None:
    settings = build.SETTINGS.model_copy(
        update={"profiling": build.SETTINGS.profiling.model_copy(update={"concurrent": 1})}
    )
    idle = profile("a-idle", measured=False, labels=MADE_HERE)
    wanted = replace(profile("b-wanted", measured=False, labels=MADE_HERE), created="2026-01-02T00:00:00Z")
    other = user("other", model={"uri": "/other"})
    assert other.spec is not None
    needed = replace(wanted, spec=build.profile(other).spec)
    assert view(needed, idle, other, settings=settings).turn.has_come


def test_unmeasured_profile_comes_before_an_extended_one() -> None:
    settings = build.SETTINGS.model_copy(
        update={"profiling": build.SETTINGS.profiling.model_copy(update={"concurrent": 1})}
    )
    extended = profile("a", status={"phase": "Complete", "extension": {"question": "q"}})
    first = replace(profile("b", measured=False), created="2026-01-02T00:00:00Z")
    seen = gatherer(extended, first, user(), settings=settings)
    for name, has_come in (("a", False), ("b", True)):
        found = seen.profile(WorkKey("profile", Key("team", name)))
        assert found is not None
        assert found.turn.has_come is has_come
