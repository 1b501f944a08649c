"""The common stories, played without chance: what happens, who does it and why. Golden files pin every line.

Each is a function over a steady cluster; `tell` gives its narrative, and the same story is played with the operator
killed after each of its effects.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.planning.fleet.node.annotations import failures_in

from .at_rest import everything_is_as_before, nothing_waits_unsaid
from .run import Cluster, cluster, played, settle

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parents[1] / "golden" / "simulation"
MPS_2, MPS_4, TIME_SLICING_2, TIME_SLICING_4_ANY, MPS_4_ANY, WHOLE, PACK_2, PACK_4, ANYWHERE = range(9)
"""Ways to share, by their place in people.WAYS."""


def first_pack(made: Cluster) -> None:
    """A first deployment has a node partitioned, and its replicas answer."""
    made.people.adds_node("gpu-1", former="default")
    made.people.wants("chat", MPS_2, 2)
    settle(made)
    answers(made, "chat", 2)


def second_deployment_joins(made: Cluster) -> None:
    """A second deployment takes another node; the first one's is left alone."""
    made.people.adds_node("gpu-1")
    made.people.adds_node("gpu-2")
    made.people.wants("chat", MPS_2, 2)
    settle(made)
    made.people.wants("code", TIME_SLICING_2, 2)
    settle(made)
    answers(made, "chat", 2)
    answers(made, "code", 2)


def switch_of_class(made: Cluster) -> None:
    """New advice for the only node there is: everybody must go before it is repartitioned."""
    made.people.adds_node("gpu-1")
    made.people.wants("chat", MPS_2, 2)
    settle(made)
    made.people.wants("chat", MPS_4, 4)
    settle(made)
    answers(made, "chat", 4)


def packs_of_more_engines(made: Cluster) -> None:
    """Nobody sets replicas: one full pack is served and said by /scale, before and after new advice, until a user scales."""
    made.people.adds_node("gpu-1")
    made.people.wants("chat", MPS_2, None)
    settle(made)
    answers(made, "chat", 2)
    made.people.wants("chat", MPS_4, None)
    settle(made)
    answers(made, "chat", 4)
    made.people.wants("chat", MPS_4, 1)
    settle(made)
    answers(made, "chat", 1)


def another_way_to_share(made: Cluster) -> None:
    """New advice for as many replicas: the old ones go on answering until their node is closed, and not a moment less."""
    made.people.adds_node("gpu-1")
    made.people.wants("chat", MPS_2, 2)
    settle(made)
    made.people.wants("chat", TIME_SLICING_2, 2)
    settle(made)
    answers(made, "chat", 2)


def back_to_whole_gpus(made: Cluster) -> None:
    """One engine a GPU after all: node by node the slices go, and a replica more never stands still than the budget allows."""
    for name in ("gpu-1", "gpu-2"):
        made.people.adds_node(name)
    made.people.wants("chat", MPS_2, 4)
    settle(made)
    made.people.wants("chat", WHOLE, 2)
    settle(made)
    answers(made, "chat", 2)


def co_tenants_move_together(made: Cluster) -> None:
    """Two deployments share the only node and both want it partitioned otherwise: when the second does, and not before."""
    made.people.adds_node("gpu-1")
    made.people.wants("chat", MPS_4_ANY, 2)
    made.people.wants("code", MPS_4_ANY, 2)
    settle(made)
    made.people.wants("chat", TIME_SLICING_4_ANY, 2)
    settle(made)
    answers(made, "chat", 2)
    made.people.wants("code", TIME_SLICING_4_ANY, 2)
    settle(made)
    answers(made, "chat", 2)
    answers(made, "code", 2)


def a_profile_takes_a_free_gpu(made: Cluster) -> None:
    """A profile goes where nobody works; the pack that comes later waits for it; the next profile waits for a GPU, and evicts nobody."""
    made.people.adds_node("gpu-1", gpus=2)
    made.people.adds_node("gpu-2")
    made.people.runs_pod("training", 900)
    made.world.run_until(30)
    made.people.measures("opt")
    made.world.run_until(60)
    made.people.runs_pod("tests", 600)
    made.people.wants("chat", MPS_2, 2)
    made.world.run_until(100)
    made.people.measures("qwen")
    settle(made)
    answers(made, "chat", 2)
    assert {record.status["phase"] for record in made.world.profiles.values() if not record.imported} == {"Complete"}


def a_profile_outlasts_its_cluster(made: Cluster) -> None:
    """A profile waits two hours for a GPU, loses two nodes while it measures, and is measured on the third: no hand touches it."""
    made.people.adds_node("gpu-1")
    made.people.runs_pod("training", 7200)
    made.world.run_until(30)
    made.people.measures("opt")
    for name, next_one, at in (("gpu-1", "gpu-2", 7300), ("gpu-2", "gpu-3", 9100)):
        made.world.run_until(at)
        made.people.loses_node(made.world.nodes[name])
        made.world.run_until(at + 1700)
        made.people.adds_node(next_one)
    settle(made)
    (profile,) = made.world.profiles.values()
    tries = profile.status["tries"]
    assert (profile.status["phase"], tries["count"], tries["lastEnding"]) == ("Complete", 2, "PodGone")


def switch_node_by_node(made: Cluster) -> None:
    """New advice with two nodes and an idle one: the idle one first, and never fewer replicas than the PDB allows."""
    for name in ("gpu-1", "gpu-2", "gpu-3"):
        made.people.adds_node(name)
    made.people.wants("chat", MPS_2, 4)
    settle(made)
    made.people.wants("chat", MPS_4, 8)
    settle(made)
    answers(made, "chat", 8)


def node_lost(made: Cluster) -> None:
    """A node disappears with its replicas: another one takes its place."""
    made.people.adds_node("gpu-1")
    made.people.adds_node("gpu-2")
    made.people.wants("chat", MPS_2, 2)
    settle(made)
    made.people.loses_node(made.world.nodes["gpu-1"])
    settle(made)
    answers(made, "chat", 2)


def foreign_pod_in_the_way(made: Cluster) -> None:
    """Somebody's training holds the only GPU: it is waited for and never touched."""
    made.people.adds_node("gpu-1")
    made.people.runs_pod("training", 900)
    made.world.run_until(30)
    made.people.wants("chat", MPS_2, 2)
    settle(made)
    answers(made, "chat", 2)


def release(made: Cluster) -> None:
    """The last deployment goes: the node gets back what it had, to the byte."""
    first_pack(made)
    made.people.wants_no_more("chat")
    settle(made)


def plugin_stuck(made: Cluster) -> None:
    """A device plugin that never loads the new configuration: rolled back, and said why."""
    made.people.adds_node("gpu-1", former="default").faults.add("stuck")
    made.people.wants("chat", MPS_2, 2)
    settle(made)
    failed = failures_in(made.world.nodes["gpu-1"].annotations.get(names.CHANGE_FAILED_ANNOTATION))
    assert failed["mps-2"].startswith("feature discovery shows exclusive"), failed


def pack_in_a_pod(made: Cluster) -> None:
    """No node opted in: one pod runs the pack, and its successor is opened on the other GPU before it ends."""
    made.people.adds_node("gpu-1", opted_in=False)
    made.people.adds_node("gpu-2", opted_in=False)
    made.people.wants("chat", PACK_2, 2)
    settle(made)
    answers(made, "chat", 1)
    made.people.wants("chat", PACK_4, 4)
    settle(made)
    answers(made, "chat", 1)


def pack_without_a_spare_gpu(made: Cluster) -> None:
    """The only GPU: status says that the pack ends before its successor starts, and only then it does."""
    made.people.adds_node("gpu-1", opted_in=False)
    made.people.wants("chat", PACK_2, 2)
    settle(made)
    made.people.wants("chat", PACK_4, 4)
    settle(made)
    answers(made, "chat", 1)


def pack_leaves_its_node(made: Cluster) -> None:
    """A node is cordoned and drained: the pack's successor answers elsewhere first."""
    made.people.adds_node("gpu-1", opted_in=False)
    made.people.wants("chat", PACK_2, 2)
    settle(made)
    made.people.adds_node("gpu-2", opted_in=False)
    drains(made, "gpu-1")
    settle(made)
    answers(made, "chat", 1)
    assert all(pod.node == "gpu-2" for pod in made.world.pods.values())


STORIES: dict[str, Callable[[Cluster], None]] = {
    story.__name__.replace("_", "-"): story
    for story in (
        first_pack,
        pack_in_a_pod,
        pack_without_a_spare_gpu,
        pack_leaves_its_node,
        second_deployment_joins,
        switch_of_class,
        packs_of_more_engines,
        a_profile_takes_a_free_gpu,
        a_profile_outlasts_its_cluster,
        another_way_to_share,
        back_to_whole_gpus,
        co_tenants_move_together,
        switch_node_by_node,
        node_lost,
        foreign_pod_in_the_way,
        release,
        plugin_stuck,
    )
}


def play(name: str, **operator: Any) -> Cluster:
    """A story to its end, and everything given back."""
    made = cluster(0, steady=True, narrated=True, **operator)
    with played(made):
        STORIES[name](made)
        nothing_waits_unsaid(made)
        made.world.tell("", "-- the end; everybody leaves")
        for key in list(made.world.deployments):
            made.people.wants_no_more(key.name)
        settle(made)
    everything_is_as_before(made)
    return made


def drains(made: Cluster, name: str) -> None:
    """Cordons a node and asks for its replicas every few seconds, as `kubectl drain` does."""
    node = made.world.nodes[name]
    made.world.tell("admin", f"drains {name}")
    node.unschedulable = True
    made.world.node_changed(node)

    def ask() -> None:
        there = [pod for pod in made.world.pods.values() if pod.node == name and pod.owner is not None]
        for pod in there:
            if pod.owner is not None and not pod.deleting and (not pod.ready or made.api.allowed(pod.owner) > 0):
                made.world.tell("drain", f"evicts {pod.key}")
                made.people.controllers.delete(pod)
        if there:
            made.world.at(5, ask)

    ask()


def answers(made: Cluster, name: str, replicas: int) -> None:
    """So many replicas answer."""
    ready = [pod for pod in made.world.pods.values() if pod.owner is not None and pod.owner.name == name and pod.ready]
    assert len(ready) == replicas, [f"{pod.key} {pod.phase} on {pod.node}" for pod in made.world.pods.values()]


def narrative(name: str) -> str:
    """What a story is about, and what happens in it."""
    return "\n".join([(STORIES[name].__doc__ or "").strip(), "", *play(name).world.lines, ""])


def golden() -> dict[Path, str]:
    """File to text of every narrative."""
    return {GOLDEN / f"{name}.txt": narrative(name) for name in STORIES}
