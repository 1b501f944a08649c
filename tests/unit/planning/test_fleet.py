"""How each node is partitioned and for whom, and what is said to those who must wait."""

import re
from dataclasses import replace

import pytest
from slm_operator.api import names
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.views import Assignment, FleetView
from slm_operator.watch.records import Key, Meta, Taint

from tests import builders as build

from .playing import line, play, play_out, tainted

CONFIG = build.SETTINGS.device_plugin.config_label


def test_the_first_pack_takes_a_node_and_gives_it_back_as_it_was() -> None:
    before = build.node()
    view, reported, plan = play_out(build.fleet_view(build.demand(), nodes=(before,)))
    key = "slm-mps-2-"
    assert [re.sub(f"{key}[0-9a-f]+", key, text) for text in reported] == [
        f"config: {key}",
        "node gpu-1: taint",
        "event Changing",
        f"node gpu-1: device-plugin.config={key} slice-class=None serves=None",
        "node gpu-1: untaint",
        "node gpu-1: slice-class=mps-2 serves=team.chat",
        "event Allocated",
    ]
    assert plan.assignments[build.demand().deployment].slots == 2
    released, _, _ = play_out(replace(view, demands=()), start_s=1000)
    assert dict(released.nodes[0].meta.labels) == dict(before.meta.labels)
    assert dict(released.nodes[0].meta.annotations) == dict(before.meta.annotations)
    assert released.nodes[0].taints == before.taints


def test_a_former_label_comes_back_at_release() -> None:
    before = build.node(labels={CONFIG: "default"})
    view, _, _ = play_out(build.fleet_view(build.demand(), nodes=(before,)))
    assert view.nodes[0].meta.labels[CONFIG] != "default"
    released, _, _ = play_out(replace(view, demands=()), start_s=1000)
    assert dict(released.nodes[0].meta.labels) == dict(before.meta.labels)


def open_for_the_daemon() -> FleetView:
    """A node that was switched to mps-2 and whose taint was lifted, before the daemon came."""
    view, _ = play_until(build.fleet_view(build.demand(), nodes=(build.node(),)), "untaint")
    waiting = replace(view.nodes[0], allocatable={names.NVIDIA_GPU: 0, names.NVIDIA_SHARED_GPU: 0})
    return replace(view, nodes=(waiting,), daemons=build.plugin_pods("gpu-1"))


def test_taint_is_lifted_for_mps_daemon_while_node_changes() -> None:
    plan = plan_fleet(open_for_the_daemon(), build.SETTINGS, build.later(200))
    assert not plan.plan.actions
    assignment = plan.assignments[build.demand().deployment]
    assert (assignment.slots, assignment.changing) == (0, ("gpu-1",))
    assert "0 of 2 nvidia.com/gpu.shared are allocatable" in (assignment.stage or "")


def test_whole_gpus_during_wait_for_mps_daemon_taint_node_again() -> None:
    view = open_for_the_daemon()
    view = replace(view, nodes=(replace(view.nodes[0], allocatable={names.NVIDIA_GPU: 1}),))
    assert "node gpu-1: taint" in [
        line(action) for action in plan_fleet(view, build.SETTINGS, build.later(200)).plan.actions
    ]


def test_a_taint_removed_by_hand_comes_again() -> None:
    view, taint_s = play_until(build.fleet_view(build.demand(), nodes=(build.node(),)), "taint")
    view = replace(view, nodes=(replace(view.nodes[0], taints=()),))
    plan = plan_fleet(view, build.SETTINGS, build.later(taint_s + 5))
    assert "node gpu-1: taint" in [line(action) for action in plan.plan.actions]


def play_until(view: FleetView, words: str) -> tuple[FleetView, float]:
    """Play until a line with these words was reported: the world after it, and the seconds that passed."""
    for tick in range(100):
        for action in plan_fleet(view, build.SETTINGS, build.later(tick * 10)).plan.actions:
            view = play(view, action)
            if words in line(action):
                return view, tick * 10
    raise AssertionError(f"never reported: {words}")


def test_node_is_closed_once_its_configuration_is_projected() -> None:
    view, added_s = play_until(build.fleet_view(build.demand(), nodes=(build.node(),)), "config:")
    early = plan_fleet(view, build.SETTINGS, build.later(added_s + build.SETTINGS.nodes.projection_seconds - 1))
    assert not early.plan.actions
    assert early.plan.look_again_seconds == 1
    due = plan_fleet(view, build.SETTINGS, build.later(added_s + build.SETTINGS.nodes.projection_seconds))
    assert "node gpu-1: taint" in [line(action) for action in due.plan.actions]


def test_requested_config_is_awaited_though_its_key_is_gone() -> None:
    before = build.node()
    view, lapsed_s = play_until(build.fleet_view(build.demand(), nodes=(before,)), "device-plugin.config=slm-")
    labels = dict(view.nodes[0].meta.labels) | build.feature_labels(1, build.WHOLE)
    slow = replace(view.nodes[0], meta=replace(view.nodes[0].meta, labels=labels), allocatable=before.allocatable)
    view = replace(view, demands=(), nodes=(slow,), config_map=build.config_map())
    assert not plan_fleet(view, build.SETTINGS, build.later(lapsed_s + 10)).plan.actions
    overdue = lapsed_s + build.SETTINGS.nodes.convergence_seconds + 10
    assert f"{CONFIG.rpartition('/')[2]}=None" in line(
        plan_fleet(view, build.SETTINGS, build.later(overdue)).plan.actions[0]
    )


def test_class_change_drains_own_replicas_first() -> None:
    view, _, _ = play_out(build.fleet_view(build.demand(), nodes=(build.node(),)))
    view = replace(
        view,
        demands=(build.demand(slice_class=build.MPS_4, replicas=4),),
        pods=(build.replica("a"), build.replica("b")),
    )
    _, reported, plan = play_out(view, start_s=1000)
    assert reported[1:5] == ["node gpu-1: taint", "event Changing", "evict team/a", "evict team/b"]
    assert plan.assignments[build.demand().deployment].slots == 4


def without_label(meta: Meta, name: str) -> Meta:
    return replace(meta, labels={key: value for key, value in meta.labels.items() if key != name})


def test_last_ready_replica_stays_while_another_lost_its_node() -> None:
    view, _, _ = play_out(build.fleet_view(build.demand(), nodes=(build.node(),)))
    pods = (build.replica("a"), build.replica("b", "gpu-9"), build.replica("n", of="other"))
    opted_out = replace(view.nodes[0], meta=without_label(view.nodes[0].meta, names.OPT_IN_LABEL))
    living = (build.demand(), build.demand("other"))
    view = replace(view, demands=living, nodes=(opted_out,), pods=pods, lost_nodes=frozenset({"gpu-9"}))
    view, seconds = play_until(view, "evict team/n")
    assert [pod.meta.key.name for pod in view.pods if pod.node is not None] == ["a", "b"]
    assert not plan_fleet(view, build.SETTINGS, build.later(seconds + 30)).plan.actions
    collected = replace(view, pods=(build.replica("a"),), lost_nodes=frozenset())
    plan = plan_fleet(collected, build.SETTINGS, build.later(seconds + 60)).plan
    assert [line(action) for action in plan.actions] == ["evict team/a"]


def test_a_foreign_pod_is_waited_for_and_reported() -> None:
    view = build.fleet_view(build.demand(), nodes=(build.node(),), pods=(build.foreign("training"),))
    plan = plan_fleet(view, build.SETTINGS, build.NOW)
    assert not plan.plan.actions
    assignment = plan.assignments[build.demand().deployment]
    assert assignment.reason == "ForeignPods"
    assert "held by a pod of another namespace" in (assignment.pending_because or "")


def test_a_foreign_pod_that_lands_during_a_change_stops_it() -> None:
    view, _ = play_until(build.fleet_view(build.demand(), nodes=(build.node(),)), "taint")
    view = replace(view, pods=(build.foreign("late"),))
    plan = plan_fleet(view, build.SETTINGS, build.later(500))
    assert not plan.plan.actions
    assert "waits for a pod of another namespace" in (plan.assignments[build.demand().deployment].pending_because or "")


def test_replica_landing_on_a_changing_node_is_evicted() -> None:
    other = build.demand("other", slice_class=build.WHOLE, replicas=3)
    view, _ = play_until(build.fleet_view(build.demand(), nodes=(build.node(),)), "taint")
    view = replace(view, demands=(build.demand(), other), pods=(*view.pods, build.replica("late", of="other")))
    plan = plan_fleet(view, build.SETTINGS, build.later(500))
    assert [line(action) for action in plan.plan.actions] == ["evict team/late"]
    assert plan.assignments[other.deployment].may_be_disrupted
    _, _, plan = play_out(view, start_s=500)
    assert not plan.assignments[other.deployment].may_be_disrupted
    assert plan.assignments[build.demand().deployment].slots == 2


def test_node_that_never_converges_is_rolled_back_for_good() -> None:
    view = build.fleet_view(build.demand(), nodes=(build.node(labels={CONFIG: "default"}),))
    reported: list[str] = []
    for tick in range(100):
        for action in plan_fleet(view, build.SETTINGS, build.later(tick * 10)).plan.actions:
            reported.append(line(action))
            stuck = view.nodes[0]
            view = play(view, action)
            if not tainted(stuck) and not tainted(view.nodes[0]):
                continue
            allocatable = stuck.allocatable | {names.NVIDIA_GPU: 0}
            view = replace(view, nodes=(replace(view.nodes[0], allocatable=allocatable),), daemons=NO_MPS_DAEMON)
    assert reported[-5:] == [
        "node gpu-1: taint",
        "event RolledBack",
        "node gpu-1: device-plugin.config=default slice-class=None serves=None",
        "node gpu-1: slice-class=None serves=None untaint",
        "event Released",
    ]
    assert view.nodes[0].meta.labels[CONFIG] == "default"
    assert not tainted(view.nodes[0])
    pending = plan_fleet(view, build.SETTINGS, build.later(2000)).assignments[build.demand().deployment].pending_because
    assert "was rolled back" in (pending or "")


def test_no_more_nodes_change_at_once_than_allowed() -> None:
    _, reported, settled = play_out(
        build.fleet_view(build.demand(replicas=4), nodes=(build.node("gpu-1"), build.node("gpu-2")))
    )
    assert settled.assignments[build.demand().deployment].slots == 4
    assert reported.index("node gpu-1: taint") < reported.index("event Allocated") < reported.index("node gpu-2: taint")


def test_co_tenants_that_allow_it_share_a_node_and_others_do_not() -> None:
    view = build.fleet_view(build.demand("a", shared_tenancy=True, replicas=2), nodes=(build.node(),))
    view, _, _ = play_out(view)
    assert view.nodes[0].meta.labels[names.SERVES_LABEL] == "any"
    view = replace(view, demands=(*view.demands, build.demand("c")))
    plan = plan_fleet(view, build.SETTINGS, build.later(1000))
    assert plan.assignments[build.demand("c").deployment].reason == "NoCapacity"


def test_same_view_gives_the_same_plan_and_a_settled_one_none() -> None:
    nodes = tuple(build.node(f"gpu-{i}", gpus=2) for i in range(4))
    view = build.fleet_view(build.demand("b", replicas=4), build.demand("a", replicas=3), nodes=nodes)
    shuffled = replace(view, demands=view.demands[::-1], nodes=view.nodes[::-1])
    assert plan_fleet(view, build.SETTINGS, build.NOW) == plan_fleet(shuffled, build.SETTINGS, build.NOW)
    settled, _, _ = play_out(view)
    assert not plan_fleet(settled, build.SETTINGS, build.later(9999)).plan.actions


NO_MPS_DAEMON = build.plugin_pods("gpu-1")
NO_CONFIG_MANAGER = build.plugin_pods("gpu-1", config_manager=False)
REFUSALS = {
    "not opted in": (
        build.fleet_view(build.demand(), nodes=(build.node(labels={names.OPT_IN_LABEL: "false"}),)),
        "NoCapacity",
        "did not opt in",
    ),
    "no node at all": (build.fleet_view(build.demand(), nodes=()), "NoNode", "slm-operator.io/managed=true"),
    "not ready": (
        build.fleet_view(build.demand(), nodes=(build.node(ready=False),)),
        "NoCapacity",
        "is not ready",
    ),
    "cordoned": (
        build.fleet_view(build.demand(), nodes=(build.node(unschedulable=True),)),
        "NoCapacity",
        "is cordoned",
    ),
    "no GPU seen": (
        build.fleet_view(build.demand(), nodes=(build.node(labels={"nvidia.com/gpu.count": "0"}),)),
        "NoCapacity",
        "gfd.enabled=true",
    ),
    "another product": (
        build.fleet_view(
            replace(build.demand(), product="L4"),
            nodes=(
                build.node(),
                build.node("gpu-2", labels={"nvidia.com/gpu.product": "L4"}, unschedulable=True),
            ),
        ),
        "NoCapacity",
        "not L4",
    ),
    "a product that is not there": (
        build.fleet_view(replace(build.demand(), product="L4"), nodes=(build.node(),)),
        "NoNode",
        "no node that opted in has L4, and what was measured on it is served on no other: add such a node, or name a product",
    ),
    "label missing": (
        build.fleet_view(build.demand(node_selector={"zone": "a"}), nodes=(build.node(),)),
        "NoCapacity",
        "zone=a",
    ),
    "strange taint": (
        build.fleet_view(build.demand(), nodes=(build.node(taints=(Taint(key="gpu"),)),)),
        "NoCapacity",
        "spec.accelerator.tolerations",
    ),
    "MIG": (
        build.fleet_view(build.demand(), nodes=(build.node(labels={"nvidia.com/mig.config": "all-1g.10gb"}),)),
        "NoCapacity",
        "disable MIG",
    ),
    "no config-manager": (
        build.fleet_view(build.demand(), nodes=(build.node(),), daemons=NO_CONFIG_MANAGER),
        "NoCapacity",
        "config-manager",
    ),
    "slice too small": (
        build.fleet_view(build.demand(slice_bytes=60 << 30), nodes=(build.node(),)),
        "NoCapacity",
        "a slice has 40960 MiB",
    ),
    "too many slices": (
        build.fleet_view(
            build.demand(slice_class=replace(build.MPS_2, engines_per_gpu=20)),
            nodes=(build.node(labels={"nvidia.com/gpu.compute.major": "6"}),),
        ),
        "NoCapacity",
        "more than the 16",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_node_that_cannot_serve_says_why_and_is_left_alone(case: str) -> None:
    view, reason, words = REFUSALS[case]
    plan = plan_fleet(view, build.SETTINGS, build.NOW)
    assignment = plan.assignments[build.demand().deployment]
    assert assignment.reason == reason
    assert words in (assignment.pending_because or "")
    assert not plan.plan.actions


SHORTAGES = {
    # Replicas, whole GPUs of each node, the sentence.
    "one of two": (
        2,
        (1,),
        "2 replicas want whole GPUs and 1 can be placed: node gpu-1: nothing more is free, and there",
    ),
    "none of one": (
        1,
        (0,),
        "1 replica wants whole GPUs and 0 can be placed: node gpu-1: feature discovery shows no GPU",
    ),
    "seven of eight": (8, (7,), "8 replicas want whole GPUs and 7 can be placed: node gpu-1: nothing more is free"),
    "two nodes": (
        8,
        (4, 3),
        "8 replicas want whole GPUs and 7 can be placed: node gpu-1, gpu-2: nothing more is free",
    ),
    "no node": (2, (), "2 replicas want whole GPUs and 0 can be placed: no node opted in"),
}


@pytest.mark.parametrize("case", SHORTAGES)
def test_shortage_of_whole_gpus_is_explained(case: str) -> None:
    replicas, allocatable, words = SHORTAGES[case]
    nodes = tuple(build.node(f"gpu-{at}", gpus=gpus) for at, gpus in enumerate(allocatable, 1))
    demand = build.demand(slice_class=build.WHOLE, replicas=replicas)
    assignment = plan_fleet(build.fleet_view(demand, nodes=nodes), build.SETTINGS, build.NOW).assignments[
        demand.deployment
    ]
    assert (assignment.pending_because or "").startswith(words)
    assert not (assignment.pending_because or ": ").rstrip().endswith(":")


def test_a_missing_config_map_is_a_sentence_and_no_write() -> None:
    plan = plan_fleet(
        build.fleet_view(build.demand(), nodes=(build.node(),), config_map=None), build.SETTINGS, build.NOW
    )
    assert not plan.plan.actions
    assignment = plan.assignments[build.demand().deployment]
    assert assignment.reason == "NotSwitchable"
    assert "nvidia-device-plugin/nvidia-device-plugin-configs" in (assignment.pending_because or "")


def test_whole_gpus_need_no_partitioning() -> None:
    plan = plan_fleet(
        build.fleet_view(build.demand(slice_class=build.WHOLE, replicas=2), nodes=(build.node(gpus=2),)),
        build.SETTINGS,
        build.NOW,
    )
    assert not plan.plan.actions
    assert plan.assignments[build.demand().deployment].slots == 2


def test_fleet_without_nodes_leaves_room_to_the_scheduler() -> None:
    namespaced = build.SETTINGS.model_copy(update={"namespaces": ("team",)})
    asked = build.demand(replicas=3)
    made = plan_fleet(build.fleet_view(asked, nodes=()), namespaced, build.NOW)
    assert made.plan.actions == ()
    given = made.assignments[Key("team", "chat")]
    assert replace(given, chosen=None) == Assignment(slice_class=build.MPS_2, asked=asked, slots=3)
