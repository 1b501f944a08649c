"""A tenant who wants the others to get nothing, and does everything that `edit` in its own namespace allows.

The promise: no namespace keeps another from its fair share for longer than a bound. The share here: of four nodes an
administrator lends each namespace two, and one of the places for profiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slm_operator.settings import Nodes, Profiling, Settings, Tenancy
from slm_operator.watch.records import Key

from .objects import BrokenPromiseError
from .run import Cluster, cluster, played

EVIL, VICTIM, MODEL = "evil", Key("team", "chat"), Key("team", "opt")
NODES, SHARE = 4, 2
MANY = 12
"""Replicas: more than all nodes could hold."""
MOST_PROFILES = 8
"""Far more than there are places."""
BOUND_SECONDS = 3600.0
"""Until who asks for its fair share has it. A node takes two to three minutes, whom nobody can move gets another three, and
who holds a place without a GPU gives it up after two; all that happens several times over, and the operator is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to be in the others' way."""

    quota: int = MANY
    """Pods that it may have."""
    stubborn: bool = False
    """Whether nobody may evict them."""
    acts: tuple[str, ...] = ()
    """What it does again and again, of `Attacker`'s acts."""
    pause_seconds: tuple[float, float] = (10, 90)
    share: int | None = SHARE
    comes_first_seconds: tuple[int, ...] = (900,)
    """How long before the others."""


WAYS = {
    "asks for nodes and may have no pods": Way(quota=0, share=None),
    "has pods on all that it can get": Way(),
    "lets nobody evict its pods and wants another class": Way(stubborn=True, acts=("wants_another_class_once",)),
    "changes its mind all the time": Way(
        acts=("changes_its_mind",), pause_seconds=(5, 25), comes_first_seconds=(1, 300)
    ),
    "does this and that": Way(
        stubborn=True,
        acts=("asks_for_all", "changes_its_mind", "comes_again", "changes_its_quota", "measures_on_no_gpu"),
        comes_first_seconds=(1, 60, 300, 900),
    ),
}


@dataclass(slots=True)
class Attacker:
    """Acts now and then, for as long as the run lasts."""

    made: Cluster
    way: Way
    acts: int = 0
    _profiles: int = 0
    _names: tuple[str, ...] = ("a", "b", "c")

    def begin(self) -> None:
        """From now on."""
        self.made.world.quotas[EVIL] = self.way.quota
        if self.way.stubborn:
            self.made.world.stubborn.add(EVIL)
        for name in self._names:
            self.asks_for_all(name)
        for _ in range(4):
            self.measures_on_no_gpu("")
        if self.way.acts:
            self._again()

    def _again(self) -> None:
        world = self.made.world
        world.at(world.lag(*self.way.pause_seconds), self._act)

    def _act(self) -> None:
        chance = self.made.world.chance
        getattr(self, chance.choice(self.way.acts))(chance.choice(self._names))
        self.acts += 1
        self._again()

    def asks_for_all(self, name: str) -> None:
        """More replicas than there is room for."""
        self.made.people.wants(name, 0, MANY, EVIL)

    def changes_its_mind(self, name: str) -> None:
        """Its nodes must be repartitioned."""
        chance = self.made.world.chance
        self.made.people.wants(name, chance.choice((0, 1, 2)), chance.choice((2, MANY)), EVIL)

    def wants_another_class_once(self, _name: str) -> None:
        """A little before the others come, and with replicas that nobody can move."""
        if self.made.world.now > 700:
            for name in self._names:
                self.made.people.wants(name, 2, MANY, EVIL)

    def comes_again(self, name: str) -> None:
        """Deleted, and there again: nothing that is remembered of it may matter."""
        if Key(EVIL, name) in self.made.world.deployments:
            self.made.people.wants_no_more(name, EVIL)
            self.made.world.at(20, self.asks_for_all, name)

    def changes_its_quota(self, _name: str) -> None:
        """What it may have, it takes and gives up again."""
        self.made.world.quotas[EVIL] = self.made.world.chance.choice((0, 2, MANY))

    def measures_on_no_gpu(self, _name: str) -> None:
        """A profile for a GPU that is not there."""
        if self._profiles < MOST_PROFILES:
            self._profiles += 1
            self.made.people.measures(f"p{self._profiles}", EVIL, "NoSuch")


def besieged(seed: int) -> None:
    """A run in which a modest tenant asks for its share beside the attacker. Raises BrokenPromiseError."""
    live_beside(under_attack(seed), seed)


def under_attack(seed: int, **more: Any) -> Cluster:
    """Four idle nodes, and an administrator's bounds."""
    tenancy = Tenancy(max_nodes_per_namespace=_way(seed)[1].share)
    settings = Settings(nodes=Nodes(max_changing=1), profiling=Profiling(concurrent=2), tenancy=tenancy)
    made = cluster(seed, settings=settings, **more)
    made.api.error_rate = made.world.chance.choice((0.0, 0.02))
    made.operator.kill_rate = made.world.chance.choice((0.0, 0.01))
    for number in range(NODES):
        made.people.adds_node(f"gpu-{number}")
    return made


def _way(seed: int) -> tuple[str, Way]:
    return list(WAYS.items())[seed % len(WAYS)]


def live_beside(made: Cluster, seed: int) -> None:
    """What happens, and whether the other gets its share. Raises BrokenPromiseError."""
    words, way = _way(seed)
    world, people = made.world, made.people
    with played(made):
        Attacker(made, way).begin()
        world.run_until(world.chance.choice(way.comes_first_seconds))
        people.wants(VICTIM.name, 0, 2)
        people.measures(MODEL.name)
        asked = world.now
        while world.now - asked < BOUND_SECONDS and not (_is_served(made) and _is_measured(made)):
            world.run_until(world.now + 10)
        _judge(made, words)
        _is_still_served(made)


def _is_served(made: Cluster) -> bool:
    return sum(pod.owner == VICTIM and pod.ready for pod in made.world.pods.values()) == 2


def _is_measured(made: Cluster) -> bool:
    return made.world.profiles[MODEL].status.get("phase") == "Complete"


def _judge(made: Cluster, words: str) -> None:
    for done, key, record in (
        (_is_served(made), VICTIM, made.world.deployments[VICTIM]),
        (_is_measured(made), MODEL, made.world.profiles[MODEL]),
    ):
        if not done:
            said = record.status.get("conditions", ())
            raise BrokenPromiseError(f"beside one who {words}, {key} has not its share: {said}")


def _is_still_served(made: Cluster) -> None:
    """And whatever happens now, the replicas stay."""
    before = {pod.uid for pod in made.world.pods.values() if pod.owner == VICTIM}
    made.world.run_until(made.world.now + BOUND_SECONDS / 2)
    if before - {pod.uid for pod in made.world.pods.values() if pod.owner == VICTIM and pod.ready}:
        raise BrokenPromiseError(f"replicas of {VICTIM} were taken away by acts of another")
