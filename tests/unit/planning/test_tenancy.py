"""What one namespace may not take from the others: nodes, turns, places for profiles and GPU minutes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from slm_operator.api import names
from slm_operator.manifests.overlay import refused_fields
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import Apply, Evict
from slm_operator.planning.fleet.claims import IDLE
from slm_operator.planning.fleet.node.annotations import Marks, change_text
from slm_operator.planning.fleet.node.change import GIVE_UP_SECONDS
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.profile.turns import Turn, turn_of
from slm_operator.planning.views import Demand, FleetPlan, FleetView, ProfileView
from slm_operator.settings import Settings, Tenancy
from slm_operator.watch.records import Key, Taint

from tests import builders as build

from .playing import play, tainted
from .test_fleet import line, play_out
from .test_profile_turns import contender

GREEDY, MODEST = build.demand("a", replicas=10_000, namespace="greedy"), build.demand("b", namespace="modest")
SIX = tuple(build.node(f"gpu-{number}") for number in range(6))
OVERDUE_S = build.SETTINGS.nodes.convergence_seconds + 1


def serving(plan: FleetPlan, of: Demand) -> list[str]:
    given = plan.assignments[of.deployment]
    return [*given.nodes, *given.changing]


# -- nodes are partitioned for pods that exist


def test_deployment_without_pods_by_quota_gets_no_node() -> None:
    plan = plan_fleet(build.fleet_view(GREEDY, nodes=SIX, quota=0), build.SETTINGS, build.NOW)
    assert serving(plan, GREEDY) == []
    assert not plan.plan.actions
    answer = plan.assignments[GREEDY.deployment]
    assert answer.reason == "AwaitingPods"
    assert "quota" in (answer.pending_because or "")


@pytest.mark.parametrize(("pods", "nodes"), [(1, 1), (2, 1), (3, 2), (5, 3)])
def test_nodes_are_partitioned_for_the_pods_there_are(pods: int, nodes: int) -> None:
    plan = plan_fleet(build.fleet_view(GREEDY, nodes=SIX, quota=pods), build.SETTINGS, build.NOW)
    assert len(serving(plan, GREEDY)) == nodes


def test_a_node_without_its_pods_is_given_back_after_a_while() -> None:
    view, _, _ = play_out(build.fleet_view(MODEST, nodes=(build.node(),)))
    without = replace(view, pods=())
    first = plan_fleet(without, build.SETTINGS, build.NOW)
    assert not first.plan.actions
    assert first.plan.look_again_seconds == IDLE.total_seconds()
    second = plan_fleet(replace(without, memory=first.memory), build.SETTINGS, build.NOW + IDLE)
    assert "node gpu-1: taint" in [line(action) for action in second.plan.actions]
    assert serving(second, MODEST) == []


def test_a_node_whose_pods_come_again_in_time_is_kept() -> None:
    view, _, _ = play_out(build.fleet_view(MODEST, nodes=(build.node(),)))
    gone = plan_fleet(replace(view, pods=()), build.SETTINGS, build.NOW)
    back = plan_fleet(replace(view, memory=gone.memory), build.SETTINGS, build.NOW + IDLE)
    assert not back.plan.actions
    assert back.memory.idle_since == {}


def test_an_idle_node_goes_to_who_has_pods() -> None:
    view, _, _ = play_out(build.fleet_view(GREEDY, nodes=(build.node(),), quota=2))
    poor = replace(view, demands=(GREEDY, MODEST), pods=build.fleet_view(MODEST, nodes=()).pods)
    first = plan_fleet(poor, build.SETTINGS, build.NOW)
    assert serving(first, MODEST) == []
    later = plan_fleet(replace(poor, memory=first.memory), build.SETTINGS, build.NOW + IDLE)
    assert serving(later, MODEST) == ["gpu-1"]


# -- shares and turns


@pytest.mark.slow
def test_idle_nodes_go_round_among_namespaces() -> None:
    many = build.demand("b", replicas=10_000, namespace="modest")
    plan = plan_fleet(build.fleet_view(GREEDY, many, nodes=SIX), build.SETTINGS, build.NOW)
    assert len(serving(plan, GREEDY)) == len(serving(plan, many)) == 3


def test_no_namespace_has_more_nodes_than_it_may() -> None:
    settings = Settings(tenancy=Tenancy(max_nodes_per_namespace=2))
    other = build.demand("z", namespace="greedy")
    plan = plan_fleet(build.fleet_view(GREEDY, other, nodes=SIX), settings, build.NOW)
    assert len({*serving(plan, GREEDY), *serving(plan, other)}) == 2
    assert plan.assignments[GREEDY.deployment].reason == "TenancyLimit"


def test_a_node_of_a_full_namespace_may_still_be_repartitioned() -> None:
    view, _, _ = play_out(build.fleet_view(build.demand("a", replicas=2, namespace="greedy"), nodes=(build.node(),)))
    running = (build.replica("a-1", "gpu-1", "a", "greedy"), build.replica("a-2", "gpu-1", "a", "greedy"))
    other = build.demand("a", slice_class=build.MPS_4, replicas=6, namespace="greedy")
    settings = Settings(tenancy=Tenancy(max_nodes_per_namespace=1))
    view = replace(view, demands=(other,), nodes=(*view.nodes, build.node("gpu-2")), pods=running)
    view = replace(view, daemons=(*view.daemons, *build.plugin_pods("gpu-2")))
    plan = plan_fleet(view, settings, build.NOW)
    assert serving(plan, other) == ["gpu-1"]
    assert plan.assignments[other.deployment].reason == "TenancyLimit"


def test_changes_of_nodes_go_round_among_namespaces() -> None:
    """One changes its mind for ever; the other's only node is changed in the turn after it all the same."""
    view, _, _ = play_out(build.fleet_view(build.demand("a", namespace="greedy"), MODEST, nodes=SIX[:2]))
    classes = (build.MPS_4, build.MPS_3)
    view = replace(
        view, config_map=build.config_map(**{config_key(one): plugin_config(one) for one in (*classes, build.MPS_2)})
    )
    wants = replace(MODEST, slice_class=build.MPS_4)
    reported: list[str] = []
    now = build.later(1000)
    for turn in range(60):
        fickle = build.demand("a", slice_class=classes[turn % 2], namespace="greedy")
        plan = plan_fleet(replace(view, demands=(fickle, wants)), build.SETTINGS, now)
        view = replace(view, memory=plan.memory)
        for action in plan.plan.actions:
            reported.append(line(action))
            view = play(view, action)
        if f"node {serving(plan, wants)[0]}: taint" in reported:
            return
        now += timedelta(seconds=30)
    raise AssertionError(reported)


# -- a drain that cannot end


def held(now_s: float) -> tuple[FleetView, FleetPlan]:
    """Replicas of `greedy/a` do not leave gpu-1, which changes for it since `now_s`; `modest/b` waits for another node."""
    began = {
        names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(),
        names.CHANGING_TO_ANNOTATION: change_text(Marks("mps-4", "greedy.a"), 1),
    }
    reported = {build.SETTINGS.device_plugin.config_label: config_key(build.MPS_2)}
    marks = reported | {names.CLASS_LABEL: "mps-2", names.SERVES_LABEL: "greedy.a"}
    closed = build.node("gpu-1", slice_class=build.MPS_2, labels=marks, taints=(Taint(key=names.CHANGING_TAINT),))
    closed = replace(closed, meta=replace(closed.meta, annotations={**began, names.FORMER_CONFIG_ANNOTATION: ""}))
    wants = build.demand("a", slice_class=build.MPS_4, replicas=4, namespace="greedy")
    view = build.fleet_view(
        wants, MODEST, nodes=(closed, build.node("gpu-2")), pods=(build.replica("a-1", "gpu-1", "a", "greedy"),)
    )
    keys, _, _ = play_out(build.fleet_view(build.demand(), build.demand("c", build.MPS_4), nodes=SIX[:2]))
    view = replace(view, config_map=keys.config_map)
    return view, plan_fleet(view, build.SETTINGS, build.later(now_s))


def test_drain_that_does_not_end_gives_up_its_place() -> None:
    _, early = held(OVERDUE_S - 2)
    assert not any("gpu-2: taint" in line(action) for action in early.plan.actions)
    _, late = held(OVERDUE_S)
    assert any("gpu-2: taint" in line(action) for action in late.plan.actions)
    assert any(isinstance(action, Evict) for action in late.plan.actions)
    answer = late.assignments[Key("greedy", "a")]
    assert answer.reason == "Draining"
    assert "PodDisruptionBudget" in (answer.pending_because or "")


def test_node_change_is_given_up_after_a_day() -> None:
    view, plan = held(GIVE_UP_SECONDS + 1)
    failed = [action for action in plan.plan.actions if "RolledBack" in line(action)]
    assert failed
    for tick in range(8):
        for action in plan.plan.actions:
            view = view if isinstance(action, Evict) else play(view, action)
        plan = plan_fleet(replace(view, memory=plan.memory), build.SETTINGS, build.later(GIVE_UP_SECONDS + 10 * tick))
    node = view.nodes[0]
    assert not tainted(node)
    assert "could not be evicted" in node.meta.annotations[names.CHANGE_FAILED_ANNOTATION]
    assert "greedy/a-1" in [str(pod.meta.key) for pod in view.pods if pod.node == "gpu-1"]


def test_whole_gpu_engines_stay_where_the_change_is_dropped() -> None:
    """It was closed for somebody who went away, and its label was never switched."""
    began = {
        names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(),
        names.CHANGING_TO_ANNOTATION: change_text(Marks("mps-2", "modest.b"), 1),
    }
    closed = build.node("gpu-1", taints=(Taint(key=names.CHANGING_TAINT),))
    closed = replace(closed, meta=replace(closed.meta, annotations={**began, names.FORMER_CONFIG_ANNOTATION: ""}))
    engine = build.replica("a-1", gpu_requests={names.NVIDIA_GPU: 1})
    view = build.fleet_view(build.demand(slice_class=build.WHOLE, replicas=1), nodes=(closed,), pods=(engine,))
    after, reported, _ = play_out(view, start_s=60)
    assert not any("evict" in one for one in reported)
    assert not tainted(after.nodes[0])


def test_pod_of_no_deployment_is_foreign_whatever_its_label() -> None:
    _, plan = held(0)
    assert any(isinstance(action, Evict) for action in plan.plan.actions)
    view, _ = held(0)
    orphaned = replace(view, demands=(MODEST,))
    plan = plan_fleet(orphaned, build.SETTINGS, build.NOW)
    assert not any(isinstance(action, Evict) for action in plan.plan.actions)


TOLERATE_ALL = {"operator": "Exists"}


@pytest.mark.parametrize(
    "toleration",
    [TOLERATE_ALL, TOLERATE_ALL | {"effect": "NoSchedule"}, {"key": names.CHANGING_TAINT, "operator": "Exists"}],
    ids=["everything", "every NoSchedule", "ours"],
)
def test_a_toleration_of_nodes_that_change_is_refused_by_name(toleration: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give the toleration the key of the taint that is meant"):
        build.deployment_spec({"accelerator": {"tolerations": [toleration]}})
    (said,) = refused_fields({"spec": {"tolerations": [toleration]}})
    assert said.startswith("spec.podTemplate.spec.tolerations[0]: it tolerates slm-operator.io/changing")


@pytest.mark.parametrize(
    "toleration",
    [{"key": "nvidia.com/gpu", "operator": "Exists"}, TOLERATE_ALL | {"effect": "NoExecute"}],
    ids=["of a key", "of another effect"],
)
def test_other_tolerations_are_taken(toleration: dict[str, str]) -> None:
    assert refused_fields({"spec": {"tolerations": [toleration]}}) == ()


OTHERS_SHARE: dict[str, tuple[dict[str, object], str]] = {
    "another GPU": (
        {"engine": {"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}},
        "NVIDIA_VISIBLE_DEVICES",
    ),
    "more of a GPU": ({"engine": {"env": [{"name": "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"}]}}, "CUDA_MPS_ACTIVE"),
    "doors for everybody": ({"engine": {"env": [{"name": "VLLM_SERVER_DEV_MODE", "value": "1"}]}}, "every client"),
    "several engines in one": ({"engine": {"env": [{"name": "VLLM_DP_SIZE", "value": "2"}]}}, "VLLM_DP_SIZE: it makes"),
    "another model": (
        {"engine": {"env": [{"name": "VLLM_MODEL_REDIRECT_PATH", "value": "/a.json"}]}},
        "VLLM_MODEL_REDIRECT_PATH: it makes",
    ),
    "others' slices": ({"accelerator": {"nodeSelector": {names.SERVES_LABEL: "modest.b"}}}, names.SERVES_LABEL),
}


@pytest.mark.parametrize("case", OTHERS_SHARE)
def test_setting_that_harms_co_tenants_is_refused_by_name(case: str) -> None:
    spec, words = OTHERS_SHARE[case]
    with pytest.raises(ValueError, match=words):
        build.deployment_spec(spec)


# -- profiles


def test_a_namespace_holds_no_more_places_than_it_may() -> None:
    greedy = [contender("greedy", 0, has_job=True), contender("greedy", 1)]
    turn = turn_of(greedy[1].profile, greedy, 4, most_of_one=1)
    assert not turn.has_come
    assert turn.bound == 1
    modest = [*greedy, contender("modest", 2)]
    assert turn_of(modest[2].profile, modest, 4, most_of_one=1).has_come


def test_no_place_is_given_up_for_who_may_not_take_it() -> None:
    full = [contender("greedy", 0, has_job=True), contender("greedy", 1), contender("modest", 2, has_job=True)]
    assert not turn_of(full[2].profile, full, 2, most_of_one=1).is_awaited


def start(**more: Any) -> tuple[list[str], str]:
    """Arguments of the profile's container, and what its condition says."""
    record = build.profile(build.deployment())
    assert record.spec is not None
    search = record.spec.search.model_copy(update={"max_gpu_minutes": 600})
    asked = replace(record, spec=record.spec.model_copy(update={"search": search}))
    plan = plan_profile(ProfileView(profile=asked, **more), build.SETTINGS, build.NOW)
    jobs = [action.manifest for action in plan.actions if isinstance(action, Apply)]
    (status,) = (action.status for action in plan.actions if hasattr(action, "status"))
    args = jobs[0]["spec"]["template"]["spec"]["containers"][0]["args"] if jobs else []
    return args, str(status["conditions"][0]["message"])


def test_profile_takes_at_most_the_administrators_gpu_minutes() -> None:
    args, said = start()
    assert args[args.index("--max-gpu-minutes") + 1] == "240"
    assert "240 GPU minutes and not 600" in said


def test_a_profile_beyond_its_namespaces_places_says_so() -> None:
    args, said = start(turn=Turn(running=1, has_come=False, bound=1))
    assert args == []
    assert "tenancy.maxProfilesPerNamespace" in said
