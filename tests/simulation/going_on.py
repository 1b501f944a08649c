"""Something is asked for that is not measured yet: what answers goes on, and is scaled, meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.watch.records import Key

from .objects import BrokenPromiseError
from .people import SHARING
from .promises import NEWS_SECONDS
from .situations import Situation

if TYPE_CHECKING:
    from .objects import Raw
    from .run import Cluster

NAME, KEY = "chat-0", Key("team", "chat-0")
PATIENCE_SECONDS = 900.0
"""Longer than a node takes to change, and an operator to come back and be answered."""


def waits_for_a_profile(made: Cluster) -> None:
    """Served, then asked for another thing whose profile is not there, scaled a few times, and measured at last."""
    world, people, chance = made.world, made.people, made.world.chance
    people.wants(NAME, chance.randrange(len(SHARING)), chance.randint(1, 4))
    world.run_until(world.now + 2 * PATIENCE_SECONDS)
    least = answering(made)
    people.loses_profile(NAME)
    # NB: news of two kinds comes in any order. Who hears of the next wish first has a profile, and serves that wish.
    world.run_until(world.now + NEWS_SECONDS)
    if least:
        world.meets(Situation.WAITED_FOR_PROFILE)
    for _ in range(chance.randint(1, 4)):
        wanted = chance.randint(0, 4)
        people.wants(NAME, chance.randrange(len(SHARING)), wanted)
        world.run_until(world.now + PATIENCE_SECONDS)
        least = min(least, wanted)
        goes_on(made, wanted, least)
    people.has_measured(NAME)


def has_it_measured(made: Cluster) -> None:
    """Nobody has measured it: the operator does, serves, and measures more for what is asked next, while it serves.

    Where it serves on every GPU, or others do, what is to be measured waits; a node that is bought at last ends that.
    """
    world, people, chance = made.world, made.people, made.world.chance
    tokens = 256
    people.asks(NAME, chance.randrange(len(SHARING)), chance.randint(1, 4), tokens)
    if world.happens(0.3):
        world.run_until(world.now + chance.uniform(30, 200))
        people.loses_node_that_measures()
    world.run_until(world.now + 2 * PATIENCE_SECONDS)
    for number in range(chance.randint(0, 3)):
        people.runs_pod(f"training-{number}", chance.uniform(500, 2000))
    for _ in range(chance.randint(1, 2)):
        if world.happens(0.5):
            people.asks("chat-1", chance.randrange(len(SHARING)), chance.randint(1, 2), tokens)
        else:
            tokens = chance.choice((256, 512))
            people.asks(NAME, chance.randrange(len(SHARING)), chance.randint(1, 4), tokens)
        world.run_until(world.now + PATIENCE_SECONDS / 2)
        if len({one["profileRef"]["name"] for one in _advice(made)}) < len(_advice(made)):
            world.meets(Situation.ONE_PROFILE_FOR_TWO)
    people.adds_node("gpu-late")


def _advice(made: Cluster) -> list[Raw]:
    return [one.status["advice"] for one in made.world.deployments.values() if "advice" in one.status]


def answering(made: Cluster) -> int:
    """Replicas that answer now."""
    return sum(pod.owner == KEY and pod.ready for pod in made.world.pods.values())


def goes_on(made: Cluster, wanted: int, least: int) -> None:
    """Its scale is obeyed, and nobody who answered was taken but by it. Raises BrokenPromiseError."""
    workload = made.world.workloads.get(KEY)
    if workload is not None and workload.replicas != wanted:
        raise BrokenPromiseError(f"{KEY} waits for a profile and has {workload.replicas} replicas, not {wanted}")
    if (now := answering(made)) < least:
        raise BrokenPromiseError(f"{KEY} waits for a profile, {least} of it answered and shall, and {now} do")
    status = made.world.deployments[KEY].status
    if workload is not None and least and "advice" not in status:
        raise BrokenPromiseError(f"{KEY} is served, and its status says no advice")
