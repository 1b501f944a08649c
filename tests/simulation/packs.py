"""Clusters in which packs run in pods, drawn from a seed: wishes change, nodes come and are drained, the operator is killed.

Promised beside what every run promises: no pack that is the last one to answer is stopped for its successor before status
has said so, no GPU has two holders, and no node is written to.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .at_rest import nothing_is_left_to_do, nothing_waits_unsaid, status_says_who_shares_a_gpu
from .objects import BrokenPromiseError
from .run import cluster, played, settle
from .stories import ANYWHERE, PACK_2, PACK_4, drains

if TYPE_CHECKING:
    from .objects import Pod
    from .run import Cluster

WAYS = (PACK_2, PACK_4, ANYWHERE)


def run_packs(seed: int, **operator: Any) -> Cluster:
    """A random run. Raises BrokenPromiseError."""
    made = cluster(seed, **operator)
    world, people, chance = made.world, made.people, made.world.chance
    made.operator.kill_rate = chance.choice((0.0, 0.05, 0.3))
    made.api.error_rate = chance.choice((0.0, 0.0, 0.05))
    for number in range(chance.randint(1, 3)):
        people.adds_node(f"gpu-{number}", gpus=chance.choice((1, 1, 2)), opted_in=world.happens(0.2))
    _watch(made)
    with played(made):
        for number in range(chance.randint(1, 2)):
            people.wants(f"chat-{number}", chance.choice(WAYS), chance.choice((1, 2, 4, 6, None)))
        for act in range(chance.randint(1, 5)):
            world.run_until(world.now + chance.choice((5, 60, 400, 2000)) * chance.random())
            _act(made, act)
        settle(made)
        nothing_waits_unsaid(made)
        nothing_is_left_to_do(made)
        status_says_who_shares_a_gpu(made)
    return made


def _act(made: Cluster, act: int) -> None:
    world, people, chance = made.world, made.people, made.world.chance
    name = chance.choice(sorted(made.world.deployments)).name
    nodes = [one.name for one in world.nodes.values() if not one.unschedulable]
    if world.happens(0.25):
        people.adds_node(f"more-{act}", opted_in=False)
    elif world.happens(0.3) and len(nodes) > 1:
        drains(made, chance.choice(nodes))
    else:
        people.wants(name, chance.choice(WAYS), chance.choice((1, 2, 4, 6, None)))


def _watch(made: Cluster) -> None:
    """See every pod that a roll stops, and every one that starts."""
    made.people.controllers.on_stop.append(lambda pod: _expect_announced(made, pod))
    made.world.watchers.append(lambda kind, _key: _expect_one_holder(made) if kind == "Pod" else None)


def _expect_announced(made: Cluster, pod: Pod) -> None:
    workload = made.world.workloads.get(pod.owner) if pod.owner is not None else None
    if workload is None or not pod.ready or workload.replicas == 0:
        return
    others = [one for one in made.world.pods.values() if one.owner == pod.owner and one is not pod and one.ready]
    said = made.world.deployments[workload.key].status.get("conditions", ())
    if not others and not any(one["reason"] == "ReplacedInPlace" for one in said):
        raise BrokenPromiseError(f"{pod.key} is the last to answer and is stopped, and nobody was told")


def _expect_one_holder(made: Cluster) -> None:
    held = Counter(pod.device for pod in made.world.pods.values() if pod.phase == "Running" and pod.device is not None)
    twice = [device for device, holders in held.items() if holders > 1]
    if twice:
        raise BrokenPromiseError(f"{', '.join(twice)} has two holders")
