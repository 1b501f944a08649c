"""What the views say of a cluster, beyond the records themselves: who made what, whose turn it is, which nodes are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.advisor.advice import Advice
from slm_operator.api import names
from slm_operator.partitioning.config_manager import ConfigManager
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.deployment.rollout import served_by
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.fleet.product import Binding
from slm_operator.planning.views import DeploymentView
from slm_operator.reconcile.gather import ADVICE_KEPT, Gatherer
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.queue import WorkKey
from slm_operator.settings import Profiles
from slm_operator.watch.records import Key, Owner

from tests import builders as build

if TYPE_CHECKING:
    from slm_core.measurements import SharingMode
    from slm_operator.planning.profile.turns import Turn
    from slm_operator.watch.records import (
        DaemonPodRecord,
        DeploymentRecord,
        JobRecord,
        NodeRecord,
        PodRecord,
        ProfileRecord,
    )

CHAT = build.deployment()
PROFILE = build.profile(CHAT)
JOB = build.job(PROFILE)
KEY = PROFILE.meta.key


def gatherer(**records: Any) -> Gatherer:
    """Over caches that hold these records: `pods=[...]`."""
    keys = ProfileKeys(build.SETTINGS.defaults)
    caches = caches_for_planning(keys, build.SETTINGS)
    for kind, some in records.items():
        for record in some:
            getattr(caches, kind).put(record)
    return Gatherer(caches=caches, keys=keys, settings=build.SETTINGS, advice_of=advice_of, demand_of=demand_of)


def test_advice_is_computed_once_until_something_changes() -> None:
    measured = build.profile(CHAT, build.imported())
    named = build.deployment(spec={"profiling": {"profileRef": {"name": measured.meta.key.name}}})
    seen, computed = gatherer(deployments=[named], profiles=[measured]), []

    def counted(record: Any, profile: Any, against: str | None) -> Any:
        computed.append(record)
        return advice_of(record, profile, against)

    seen.advice_of = counted
    assert seen.demand(named) is not None
    assert seen.deployment(named).advice is seen.advice(named)
    assert len(computed) == 1
    changed = replace(named, meta=replace(named.meta, generation=named.meta.generation + 1))
    assert seen.deployment(changed).advice is not None
    assert len(computed) == 2


@pytest.mark.parametrize("namespace", ["team", "library"])
def test_profile_that_was_advised_from_before_is_found(namespace: str) -> None:
    measured = build.profile(CHAT, build.imported())
    former = replace(measured, meta=replace(measured.meta, key=Key(namespace, "former"), uid="uid-former"))
    seen = gatherer(profiles=[measured, former])
    seen.settings = build.SETTINGS.model_copy(update={"profiles": Profiles(library_namespaces=("library",))})
    spec = {"profiling": {"profileRef": {"name": measured.meta.key.name}}}
    changed = build.deployment(spec=spec, status={"advice": {"profileRef": {"name": "former"}}})
    assert seen.deployment(changed).replaced is former
    same = build.deployment(spec=spec, status={"advice": {"profileRef": {"name": measured.meta.key.name}}})
    assert seen.deployment(same).replaced is None


def test_progress_of_a_profile_computes_no_advice_again() -> None:
    measured = build.profile(CHAT, build.imported(), imported=False)
    seen, computed = gatherer(deployments=[CHAT], profiles=[measured]), []

    def counted(record: Any, profile: Any, against: str | None) -> Any:
        computed.append(record)
        return advice_of(record, profile, against)

    seen.advice_of = counted
    for version, points in (("2", 0), ("3", 0), ("4", -1)):
        document = replace(build.imported(), points=build.imported().points[: points or None])
        head = replace(measured.meta, resource_version=version)
        seen.caches.profiles.put(replace(measured, meta=head, measurements=document, status={"summary": version}))
        assert seen.advice(CHAT) is not None
    assert len(computed) == 2


def test_replicas_taken_over_by_a_user_are_seen_at_once() -> None:
    """NB: to apply the number that is there, beside its owner, changes managedFields alone."""
    measured = build.profile(CHAT, build.imported())
    spec = {
        "sharing": {"mode": "MPS", "enginesPerGpu": 4},
        "profiling": {"profileRef": {"name": measured.meta.key.name}},
    }
    ours = build.deployment(spec=spec, own_replicas=2)
    theirs = build.deployment(spec=spec | {"replicas": 2})
    assert ours.meta == theirs.meta
    seen = gatherer(deployments=[ours], profiles=[measured])
    found = [seen.demand(one) for one in (ours, theirs)]
    assert [one.replicas for one in found if one is not None] == [4, 2]


def test_no_more_advice_is_remembered_than_fits() -> None:
    records = [build.deployment(f"d{number}") for number in range(ADVICE_KEPT + 5)]
    seen = gatherer(deployments=records)
    for record in records:
        seen.advice(record)
    assert list(seen._advice) == [record.meta.key for record in records[5:]]


def turn(of: ProfileRecord, seen: Gatherer) -> Turn:
    view = seen.profile(WorkKey("profile", of.meta.key))
    assert view is not None
    return view.turn


def test_lost_nodes_are_those_of_pods_without_a_node() -> None:
    pods = (build.replica("a"), build.replica("b", "gpu-9"), build.replica("c", None))
    assert gatherer(nodes=[build.node()], pods=pods).fleet().lost_nodes == {"gpu-9"}


def relabelled(pod: PodRecord, *owners: Owner) -> PodRecord:
    return replace(pod, meta=replace(pod.meta, owners=owners))


REPLICA = build.replica("a")
STRANGERS: dict[str, PodRecord] = {
    "nobody made it": relabelled(REPLICA),
    "a Job made it": relabelled(REPLICA, Owner("Job", f"chat-{build.TEMPLATE_HASH}", "u")),
    "another ReplicaSet made it": relabelled(REPLICA, Owner("ReplicaSet", "mine-5f4d", "u")),
    "a ReplicaSet that does not manage it": relabelled(
        REPLICA, Owner("ReplicaSet", f"chat-{build.TEMPLATE_HASH}", "u", controller=False)
    ),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_a_pod_with_our_label_and_another_maker_is_no_replica(case: str) -> None:
    workload = build.workload("chat", replicas=1, ready=1)
    view = gatherer(deployments=[CHAT], workloads=[workload], pods=[build.replica("b"), STRANGERS[case]]).deployment(
        CHAT
    )
    assert view is not None
    assert [pod.meta.key.name for pod in view.pods] == ["b"]


def test_deployment_of_own_label_and_foreign_owner_is_foreign() -> None:
    workload = build.workload("chat", replicas=1, ready=1)
    theirs = replace(workload, meta=replace(workload.meta, labels={names.DEPLOYMENT_LABEL: "chat"}, owners=()))
    view = gatherer(deployments=[CHAT], workloads=[theirs], pods=[build.replica("a")]).deployment(CHAT)
    assert view is not None
    assert (view.workload, view.pods) == (None, ())


LOGS_NOT_READ: dict[str, dict[str, Any]] = {
    "no Job": {"pods": [build.measuring(JOB)]},
    "a Job that another profile's namesake made": {
        "jobs": [replace(JOB, meta=replace(JOB.meta, owners=(Owner(names.PROFILE_KIND, "x", "before"),)))],
        "pods": [build.measuring(JOB)],
    },
    "a pod with our label alone": {"jobs": [JOB], "pods": [relabelled(build.measuring(JOB))]},
    "a pod of another Job": {"jobs": [JOB], "pods": [relabelled(build.measuring(JOB), Owner("Job", "other", "u"))]},
    "a pod that has not started": {"jobs": [JOB], "pods": [build.measuring(JOB, phase="Pending")]},
}


@pytest.mark.parametrize("case", LOGS_NOT_READ)
def test_no_log_is_read_but_of_the_jobs_own_pod(case: str) -> None:
    seen = gatherer(profiles=[PROFILE], **LOGS_NOT_READ[case])
    assert seen.log_to_read(PROFILE.meta.key) is None


def test_the_log_is_the_jobs_own_pods_whatever_stands_beside_it() -> None:
    forged = relabelled(build.measuring(JOB, "zzz"))
    seen = gatherer(profiles=[PROFILE], jobs=[JOB], pods=[build.measuring(JOB), forged])
    pod = seen.log_to_read(PROFILE.meta.key)
    assert pod is not None
    assert pod.meta.key.name == "measuring"


def test_log_of_a_finished_job_is_read_however_late_its_pod_is() -> None:
    pending = build.measuring(JOB, phase="Pending")
    assert gatherer(profiles=[PROFILE], jobs=[replace(JOB, finished=True)], pods=[pending]).log_to_read(KEY) == pending


def stranger(name: str, **meta: Any) -> JobRecord:
    head = build.meta(name, "stranger", labels={names.PROFILE_LABEL: "x"}, **meta)
    return replace(JOB, meta=head)


def test_jobs_with_our_label_alone_take_no_place() -> None:
    jobs = [stranger("a"), stranger("b", owners=(Owner(names.PROFILE_KIND, "x", "no such"),))]
    assert turn(PROFILE, gatherer(profiles=[PROFILE], jobs=jobs)).has_come


def unmeasured(name: str, namespace: str = "team", **more: Any) -> ProfileRecord:
    return replace(PROFILE, meta=replace(PROFILE.meta, key=Key(namespace, name), uid=f"uid-{namespace}-{name}"), **more)


def test_jobs_of_living_profiles_take_the_places() -> None:
    running = [unmeasured("a"), unmeasured("b", "other")]
    seen = gatherer(profiles=[PROFILE, *running], jobs=[build.job(one) for one in running])
    assert (turn(PROFILE, seen).running, turn(PROFILE, seen).has_come) == (2, False)


def test_profiles_planned_at_once_begin_only_in_free_places() -> None:
    waiting = [unmeasured(f"p{number}") for number in range(5)]
    seen = gatherer(profiles=waiting)
    assert [turn(one, seen).has_come for one in waiting] == [True, True, False, False, False]


def test_profile_that_missed_its_turn_goes_to_the_end() -> None:
    waiting = [unmeasured(f"p{number}") for number in range(4)]
    seen = gatherer(profiles=waiting)
    came = [one.meta.key.name for _ in range(2) for one in waiting if turn(one, seen).has_come]
    assert set(came[:4]) == {"p0", "p1", "p2", "p3"}


@pytest.mark.parametrize("phase", ["Complete", "Failed", "Imported"])
def test_a_profile_that_has_ended_waits_for_nothing(phase: str) -> None:
    ended = [unmeasured(name, status={"phase": phase}) for name in "ab"]
    seen = gatherer(profiles=[PROFILE, *ended], jobs=[build.job(one) for one in ended])
    assert turn(PROFILE, seen).has_come


STOPPED: dict[str, dict[str, Any]] = {
    "in a pause": {"phase": "Pending", "tries": {"nextTryTime": "2026-01-01T01:00:00Z"}},
    "stopped until it is corrected": {"phase": "Pending", "conditions": [{"type": "Stalled", "status": "True"}]},
}


@pytest.mark.parametrize("status", STOPPED.values(), ids=STOPPED)
def test_profile_takes_no_place_when_it_is(status: dict[str, Any]) -> None:
    stopped = [unmeasured(name, status=status) for name in "abc"]
    seen = gatherer(profiles=[PROFILE, *stopped])
    for one in stopped:
        view = seen.profile(WorkKey("profile", one.meta.key))
        assert view is not None
    assert turn(PROFILE, seen).has_come


def wanting(name: str, profile: str, *, paused: bool) -> Any:
    return build.deployment(name, {"profiling": {"profileRef": {"name": profile}}, "paused": paused})


def test_profile_of_paused_deployments_takes_no_place() -> None:
    for_paused, for_one_more = unmeasured("paused"), unmeasured("wanted")
    wishes = [
        wanting("a", "paused", paused=True),
        wanting("b", "wanted", paused=True),
        wanting("c", "wanted", paused=False),
    ]
    seen = gatherer(profiles=[for_paused, for_one_more, PROFILE], deployments=wishes)
    views = [seen.profile(WorkKey("profile", one.meta.key)) for one in (for_paused, for_one_more)]
    assert [view is not None and view.paused for view in views] == [True, False]
    assert turn(PROFILE, seen).has_come, "of two places the paused one takes none"


DEAF = ConfigManager(version=(0, 20, 0), signals="/usr/bin/mps-control-daemon", daemon="mps-control-daemon")
PLUGIN = build.daemon("device-plugin", "gpu-1", config_manager=DEAF)
MPS_DAEMON = build.daemon("mps-control-daemon", "gpu-1", config_manager=DEAF)


def packed(mode: str = "Auto") -> DeploymentRecord:
    return build.deployment(spec={"sharing": {"mode": mode, "enginesPerGpu": 2, "partitioning": "NodeSlices"}})


def advised_mode(record: DeploymentRecord, **records: Any) -> SharingMode:
    seen = gatherer(deployments=[record], profiles=[build.profile(record, build.imported())], **records)
    advice, demand = seen.advice(record), seen.demand(record)
    assert isinstance(advice, Advice)
    assert demand is not None
    assert demand.slice_class.mode is advice.configuration.sharing_mode
    return advice.configuration.sharing_mode


@pytest.mark.parametrize(
    ("record", "daemons", "mode"),
    [
        pytest.param(packed(), [], "MPS", id="nothing is seen"),
        pytest.param(packed(), [PLUGIN], "TimeSlicing", id="by the plugin's release"),
        pytest.param(packed(), [PLUGIN, MPS_DAEMON], "TimeSlicing", id="the daemon is seen not to hear"),
        pytest.param(packed("MPS"), [PLUGIN, MPS_DAEMON], "MPS", id="MPS was asked for"),
    ],
)
def test_auto_gives_no_mps_that_would_not_hold(
    record: DeploymentRecord, daemons: list[DaemonPodRecord], mode: str
) -> None:
    assert advised_mode(record, daemons=daemons) == mode


def test_auto_changes_its_mind_when_the_daemon_is_seen_to_hear() -> None:
    record = packed()
    seen = gatherer(deployments=[record], profiles=[build.profile(record, build.imported())], daemons=[PLUGIN])
    before = seen.demand(record)
    hearing = replace(DEAF, signals="mps-control-daemon")
    seen.caches.daemons.put(replace(MPS_DAEMON, config_manager=hearing))
    after = seen.demand(record)
    assert before is not None
    assert after is not None
    assert (before.slice_class.label, after.slice_class.label) == ("time-slicing-2", "mps-2")


@pytest.mark.parametrize(
    ("node", "mode"),
    [
        (
            build.node(
                slice_class=build.MPS_2,
                labels={"slm-operator.io/slice-class": "mps-2", "slm-operator.io/serves": "team.chat"},
            ),
            "MPS",
        ),
        (
            build.node(
                slice_class=build.MPS_2,
                labels={"slm-operator.io/slice-class": "mps-2", "slm-operator.io/serves": "any"},
            ),
            "MPS",
        ),
        (
            build.node(
                slice_class=build.MPS_2,
                labels={"slm-operator.io/slice-class": "mps-2", "slm-operator.io/serves": "team.other"},
            ),
            "TimeSlicing",
        ),
        (build.node(), "TimeSlicing"),
    ],
    ids=["its node", "a node for all", "another's node", "its node was rolled back"],
)
def test_what_auto_has_under_mps_already_stays(node: NodeRecord, mode: str) -> None:
    record = packed()
    profile = build.profile(record, build.imported())
    advice = advice_of(record, profile)
    assert isinstance(advice, Advice)
    assert record.spec is not None
    served = served_by(
        DeploymentView(deployment=record, profile=profile), record.spec, advice, build.imported(), Binding(None)
    )
    workload = replace(build.workload(record.meta.key.name, replicas=2, ready=2), served=served.text())
    assert advised_mode(record, daemons=[PLUGIN, MPS_DAEMON], workloads=[workload], nodes=[node]) == mode
