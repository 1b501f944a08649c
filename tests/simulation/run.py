"""One simulated run: a cluster and its people drawn from a seed, every promise watched, and an end that must come."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.settings import Nodes, Settings
from slm_operator.watch.records import Key

from .api import Api
from .at_rest import (
    everything_is_as_before,
    nobody_runs_without_mps,
    nothing_is_given_up_without_need,
    nothing_is_left_to_do,
    nothing_waits_unsaid,
    status_says_who_shares_a_gpu,
    what_waits_to_be_measured_says_so,
)
from .controllers import Controllers
from .divided import DIVISIONS, UNRENAMED, UNRENAMED_TEXT
from .going_on import has_it_measured, waits_for_a_profile
from .machines import Machines
from .narrator import heard
from .objects import OTHER_PRODUCT, PRODUCT, BrokenPromiseError
from .operator import Operator
from .people import FORMER, ROOTED, SHARING, THEIRS, People, with_root
from .thinking import thought_once
from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random


KINDS_OF_NODES = (*[(PRODUCT, None)] * 12, *[(OTHER_PRODUCT, None)] * 4, *((PRODUCT, one) for one in DIVISIONS))
"""Product of each node but the first, and how its GPUs are divided."""
QUIET_SECONDS = 1500.0
"""No write for this long is the end of a plan: longer than any timeout of the operator's."""
PATIENCE_SECONDS = 12_000.0
MOST_WRITES = 600


@dataclass(slots=True)
class Cluster:
    """All parts, put together."""

    world: World
    api: Api
    people: People
    operator: Operator


def cluster(seed: int, *, steady: bool = False, narrated: bool = False, **operator: Any) -> Cluster:
    """An empty cluster with an operator."""
    world = World(seed=seed, steady=steady, narrated=narrated)
    world.config = {key: with_root(key) for key in ROOTED} | {"theirs-shared": THEIRS, UNRENAMED: UNRENAMED_TEXT}
    world.config_changed()
    machines, controllers = Machines(world), Controllers(world)
    api = Api(world, controllers)
    one = Operator(world, api, **operator)
    return Cluster(world, api, People(world, one, controllers, machines), one)


@contextmanager
def played(made: Cluster) -> Iterator[None]:
    """Whatever lets time pass in a cluster is done within."""
    with thought_once(), heard(made.world):
        yield


def run(seed: int, **operator: Any) -> Cluster:
    """A random run. Raises BrokenPromiseError."""
    made = drawn(seed, **operator)
    live(made)
    return made


def drawn(seed: int, **operator: Any) -> Cluster:
    """A cluster as chance makes it, before anybody wants anything of it."""
    made = cluster(seed, settings=Settings(nodes=Nodes(max_changing=1 + seed % 3)), **operator)
    world, people = made.world, made.people
    chance = world.chance
    made.api.error_rate = chance.choice((0.0, 0.0, 0.02, 0.1))
    made.operator.kill_rate = chance.choice((0.0, 0.05, 0.3))
    for number in range(chance.randint(1, 4)):
        node = people.adds_node(
            f"gpu-{number}",
            gpus=chance.choice((1, 1, 2)),
            opted_in=world.happens(0.9),
            former=chance.choice(FORMER),
            kind=(PRODUCT, None) if number == 0 else chance.choice(KINDS_OF_NODES),
        )
        node.slowness = chance.choice((1, 1, 1, 8))
        if world.happens(0.05):
            people.sells_broken(node)
        elif world.happens(0.15):
            people.sells_weak_gpu(node)
    return made


def live(made: Cluster) -> None:
    """What happens to it, and the end. Raises BrokenPromiseError."""
    people, chance = made.people, made.world.chance
    with played(made):
        if made.world.happens(0.2):
            people.measures("opt")
        chance.choice(KINDS)(made)
        settle(made)
        nothing_waits_unsaid(made)
        nothing_is_left_to_do(made)
        nothing_is_given_up_without_need(made)
        nobody_runs_without_mps(made)
        status_says_who_shares_a_gpu(made)
        for key in list(made.world.deployments):
            people.wants_no_more(key.name)
        settle(made)
        everything_is_as_before(made)
        what_waits_to_be_measured_says_so(made)


def _anything(made: Cluster) -> None:
    """Whatever users and administrators do."""
    world, people, chance = made.world, made.people, made.world.chance
    wishes = chance.randint(1, 3)
    if world.happens(0.15):
        people.takes_name("chat-0")
    for number in range(3 if world.happens(0.4) else 0):  # pods that come just as a node is closed
        world.at(world.lag(92, 98), people.runs_pod, f"stranger-{number}", world.lag(20, 900))
    for number in range(wishes):
        people.wants(f"chat-{number}", chance.randrange(len(SHARING)), _number(chance))
    for act in range(chance.randint(0, 8)):
        _wait(made, worst=0.25)
        if world.nodes and world.happens(0.6):
            people.meddles(act)
        else:
            _change_a_wish(made, f"chat-{chance.randrange(wishes)}")


def _changes_of_mind(made: Cluster) -> None:
    """A corner that chance alone seldom finds: back and forth between two wishes while a node still loads the one before."""
    chance, people = made.world.chance, made.people
    for sharing in chance.sample(range(len(SHARING)), 2):
        people.wants("chat-0", sharing, _number(chance))
        _wait(made, worst=1.0)
    for _ in range(chance.randint(1, 4)):
        people.wants_as_before("chat-0")
        _wait(made, worst=0.8)


def _crashes_of_daemons(made: Cluster) -> None:
    """Another one: nothing happens after it that would make the operator look again."""
    chance, people = made.world.chance, made.people
    people.wants("chat-0", chance.choice((0, 1, 4)), _number(chance))
    made.world.run_until(600)
    people.crashes_daemons()


KINDS = (_anything, _anything, _anything, _changes_of_mind, _crashes_of_daemons, waits_for_a_profile, has_it_measured)
"""What may happen to a cluster."""


def _wait(made: Cluster, *, worst: float) -> None:
    """For the next act: some time, or the worst moment, when a node was switched and does not show it yet."""
    world, chance = made.world, made.world.chance
    if not world.happens(worst):
        world.run_until(world.now + chance.choice((1, 10, 60, 200, 600)) * chance.random())
        return
    for _ in range(300):
        world.run_until(world.now + 1)
        if any(made.people.machines.lags_behind(node) for node in world.nodes.values()):
            world.run_until(world.now + 5 * chance.random())
            return


def _change_a_wish(made: Cluster, name: str) -> None:
    chance, people = made.world.chance, made.people
    if Key("team", name) in made.world.deployments and made.world.happens(0.15):
        people.wants_no_more(name)
        if made.world.happens(0.7):
            people.wants_as_before(name)
    elif made.world.happens(0.3):
        people.wants_as_before(name)
    else:
        people.wants(name, chance.randrange(len(SHARING)), _number(chance))


def _number(chance: Random) -> int | None:
    """Replicas, which a fifth of all users leave out."""
    return chance.choice((1, 2, 3, 4, None))


def settle(made: Cluster) -> None:
    """Wait until the operator has written nothing, and nobody left, for long. Raises BrokenPromiseError when it never stops."""
    began, writes = made.world.now, made.api.writes
    made.operator.last_effect = began
    while made.world.now - max(made.operator.last_effect, made.people.left_at) < QUIET_SECONDS:
        made.world.run_until(made.world.now + 100)
        if made.world.now - began > PATIENCE_SECONDS or made.api.writes - writes > MOST_WRITES:
            raise BrokenPromiseError(f"no end: {made.api.writes - writes} writes in {made.world.now - began:.0f} s")
