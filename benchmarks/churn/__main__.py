"""Seeded churn on a real control plane, an observer that only reads, and the operator's memory over time.

    python -m benchmarks.churn --seconds 3600          an hour, into benchmarks/results/churn.*
    python -m benchmarks.churn --seconds 120 --json    figures on stdout, nothing kept

Deployments come, are edited and go; nodes are lent, taken back, lost and join again; foreign pods come and go; in the first
quarter the operator is killed as well, then one process lives on, so that its memory can be judged. Every few minutes nothing is
done until the cluster is at rest. Real and played parts are those of `benchmarks/scale/run.py`; what must hold is in `observer.py`.
"""

import argparse
import asyncio
import contextlib
import json
import random
import shlex
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from slm_operator.kube.client import Client
from slm_operator.kube.errors import NotFound
from slm_operator.kube.resources import CONFIG_MAP, DISRUPTION_BUDGET, NODE, POD, SERVICE, WORKLOAD, Resource

from benchmarks.churn.observer import LEAVES, MANAGED, Observer
from benchmarks.churn.results import write_results
from benchmarks.provenance import environment
from benchmarks.scale.figures import memory_mib
from benchmarks.scale.run import quiet, settings
from tests.control_plane import gpu_fleet as fleet
from tests.control_plane.fault_bed import Keeper
from tests.control_plane.gpu_fleet import SLMD, SLMP
from tests.testbed.control_plane import ControlPlane, control_plane
from tests.testbed.kwok_nodes import kwok_node

NAMESPACE, FOREIGN = "churn", "foreign"
NODES, LENT, GPUS = 16, 4, 4
MOST, MOST_FOREIGN = 24, 8
ACT_SECONDS = 1.0
"""Between two acts, on average."""
CALM_EVERY_SECONDS, REST_SECONDS = 240.0, 300.0
"""How often nothing is done, and how long the cluster may take then until it is at rest. A lost node's pods are noticed by
Kubernetes itself after up to a minute."""
LAST_REST_SECONDS = 15.0
LEAST_SECONDS = 60.0
"""A shorter run has no time to show anything."""
SAMPLE_SECONDS = 2.0
KILLS_SHARE = 0.25

Act = Callable[[], Awaitable[Any]]


@dataclass(kw_only=True)
class Churn:
    """Who does all this. Everything is chosen by `chance`, everything is done by `client`."""

    client: Client
    chance: random.Random
    kill: Callable[[], None]
    acts: Counter[str] = field(default_factory=Counter)
    served: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    may_kill: bool = True

    async def act(self) -> None:
        """One act that is possible now."""
        name, do = self.chance.choice(self._possible())
        self.acts[name] += 1
        await do()

    def _possible(self) -> list[tuple[str, Act]]:
        """What can be done now, each as often as it shall be chosen."""
        every: list[tuple[str, Act, int, bool]] = [
            ("apply", self._apply, 8, len(self.served) < MOST),
            ("edit", self._edit, 8, bool(self.served)),
            ("delete", self._delete, 5, len(self.served) > MOST // 2),
            ("foreign pod comes", self._comes, 3, len(self.strangers) < MOST_FOREIGN),
            ("foreign pod goes", self._goes, 2, bool(self.strangers)),
            ("node lent", lambda: self._lend(given=True), 1, True),
            ("node taken back", lambda: self._lend(given=False), 1, True),
            ("node lost", self._lose, 1, len(self.lost) < 2),
            ("node joins again", self.join, 2, bool(self.lost)),
            ("operator killed", self._kill, 3, self.may_kill),
        ]
        return [(name, do) for name, do, weight, possible in every if possible for _ in range(weight)]

    async def _apply(self) -> None:
        name = f"c{self.acts['apply']:04}"
        await self.client.create(SLMD, NAMESPACE, fleet.slm_deployment(name, "p", **self._shape()))
        self.served.append(name)

    async def _edit(self) -> None:
        name = self.chance.choice(self.served)
        spec = fleet.slm_deployment(name, "p", **self._shape())["spec"]
        patch = {
            "replicas": spec["replicas"],
            "sharing": {"enginesPerGpu": None, "tenancy": None} | spec["sharing"],
        }
        await self.client.merge_patch(SLMD, NAMESPACE, name, {"spec": patch})

    async def _delete(self) -> None:
        name = self.served.pop(self.chance.randrange(len(self.served)))
        found = await self.client.get(SLMD, NAMESPACE, name)
        await self.client.delete(SLMD, NAMESPACE, name, found["metadata"]["uid"])

    async def _comes(self) -> None:
        name = f"f{self.acts['foreign pod comes']:04}"
        containers = [{"name": "c", "image": "none", "resources": {"limits": {fleet.GPU: "1"}}}]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers}}
        await self.client.create(POD, FOREIGN, pod)
        self.strangers.append(name)

    async def _goes(self) -> None:
        name = self.strangers.pop(self.chance.randrange(len(self.strangers)))
        with contextlib.suppress(NotFound):  # it went with its node
            found = await self.client.merge_patch(POD, FOREIGN, name, {"metadata": {"labels": {LEAVES: "true"}}})
            await self.client.delete(POD, FOREIGN, name, found["metadata"]["uid"])

    async def _lend(self, *, given: bool) -> None:
        name = f"lent-{self.chance.randrange(LENT)}"
        await self.client.merge_patch(NODE, "", name, {"metadata": {"labels": {MANAGED: "true" if given else None}}})

    async def _lose(self) -> None:
        name = self.chance.choice(sorted({f"own-{number}" for number in range(NODES)} - set(self.lost)))
        found = await self.client.get(NODE, "", name)
        await self.client.delete(NODE, "", name, found["metadata"]["uid"])
        self.lost.append(name)

    async def join(self) -> None:
        """The node that was lost first is there again, as if new."""
        labels = {MANAGED: "true"} | fleet.shown_labels("version: v1", GPUS)
        node = kwok_node(self.lost.pop(0), labels, {fleet.GPU: GPUS, fleet.SHARED: 0})
        await self.client.create(NODE, "", node)

    async def _kill(self) -> None:
        self.kill()

    def _shape(self) -> dict[str, Any]:
        return {"slices": self.chance.choice((1, 2, 4, 4)), "replicas": self.chance.choice((1, 1, 2))}


@dataclass(kw_only=True)
class Run:
    """One run: what is done, what is watched, and the operator's memory beside both."""

    plane: ControlPlane
    keeper: Keeper
    seconds: float
    chance: random.Random
    began: float = field(default_factory=time.monotonic)
    memory: list[tuple[float, int, float]] = field(default_factory=list)
    """Seconds since the beginning, process, MiB."""
    rests: list[float] = field(default_factory=list)
    observer: Observer = field(
        default_factory=lambda: Observer(namespace=NAMESPACE, foreign=FOREIGN, clock=time.monotonic)
    )

    async def churn(self) -> dict[str, Any]:
        """All of it. Gives the figures."""
        places = ((NODE, ""), (POD, ""), (CONFIG_MAP, fleet.PLUGIN.namespace), (SLMD, NAMESPACE))
        places += tuple((kind, NAMESPACE) for kind in (WORKLOAD, SERVICE, DISRUPTION_BUDGET))
        async with fleet.bare_client(self.plane.kubeconfig, "benchmark") as client, asyncio.TaskGroup() as group:
            churn = Churn(client=client, chance=self.chance, kill=self._kill)
            others = [group.create_task(self._watch(client, *place)) for place in places]
            others.append(group.create_task(self._look()))
            await client.create(SLMP, NAMESPACE, fleet.slm_profile("p"))
            while self._since() < self.seconds - LAST_REST_SECONDS:
                await self._busy(churn)
                await self._rest(churn)
            for one in others:
                one.cancel()
        return self._figures(churn)

    async def _busy(self, churn: Churn) -> None:
        until = min(self._since() + CALM_EVERY_SECONDS, self.seconds - LAST_REST_SECONDS)
        while self._since() < until:
            churn.may_kill = self._since() < KILLS_SHARE * self.seconds
            await churn.act()
            await asyncio.sleep(self.chance.expovariate(1 / ACT_SECONDS))

    async def _rest(self, churn: Churn) -> None:
        """What is lost joins again, and nothing else is done."""
        while churn.lost:
            await churn.join()
        began = time.monotonic()
        await asyncio.sleep(SAMPLE_SECONDS)  # the last act is still on its way
        while (unrest := self.observer.unrest()) and time.monotonic() - began < REST_SECONDS:  # noqa: ASYNC110 - others' state
            await asyncio.sleep(0.5)
        self.observer.broken += [f"after {REST_SECONDS:.0f} s of rest still: {one}" for one in unrest]
        self.rests.append(round(time.monotonic() - began, 1))
        done = f"rest after {self.rests[-1]} s, {churn.acts.total()} acts, broken: {self.observer.broken}"
        print(f"{self._since():5.0f} s: {done}", file=sys.stderr, flush=True)

    async def _watch(self, client: Client, resource: Resource, namespace: str) -> None:
        async for event, raw in fleet.events(client, resource, namespace):
            if resource is not CONFIG_MAP or raw["metadata"]["name"] == fleet.PLUGIN.config_map:
                self.observer.see(event, {"kind": resource.kind} | raw)  # NB: in a list objects have no kind

    async def _look(self) -> None:
        while True:
            self.observer.judge()
            running = self.keeper.running
            with contextlib.suppress(OSError, StopIteration):  # it was killed just now
                if running is not None:
                    pid = running.process.pid
                    self.memory.append((round(self._since(), 1), pid, round(memory_mib(pid, "VmRSS"), 2)))
            await asyncio.sleep(SAMPLE_SECONDS)

    def _kill(self) -> None:
        if self.keeper.running is not None:
            self.keeper.running.process.kill()

    def _since(self) -> float:
        return time.monotonic() - self.began

    def _figures(self, churn: Churn) -> dict[str, Any]:
        last = [mib for _, pid, mib in self.memory if pid == self.memory[-1][1]]
        fifth = max(1, len(last) // 5)
        return {
            "seconds": self.seconds,
            "acts": dict(churn.acts),
            "broken": self.observer.broken,
            "judged": dict(self.observer.judged),
            "operator_restarts": self.keeper.restarts,
            "rest_seconds": self.rests,
            "last_life_seconds": round(len(last) * SAMPLE_SECONDS),
            "memory_second_fifth_mib": round(median(last[fifth : 2 * fifth]), 1),
            "memory_last_fifth_mib": round(median(last[-fifth:]), 1),
            "memory_peak_mib": round(max(mib for _, _, mib in self.memory), 1),
            "memory_mib": [(at, mib) for at, _, mib in self.memory][:: max(1, len(self.memory) // 300)],
        }


def run_churn(seconds: float, seed: int) -> dict[str, Any]:
    """The figures of one run, on a control plane of its own."""
    about = environment()
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        plane = stack.enter_context(control_plane())
        fleet.install(plane)
        fleet.add_gpu_nodes(plane, NODES, gpus=GPUS, prefix="own")
        spare = {"labels": fleet.shown_labels("version: v1", GPUS), "resources": {fleet.GPU: GPUS, fleet.SHARED: 0}}
        plane.add_kwok_nodes(LENT, prefix="lent", **spare)
        plane.add_kwok_nodes(2, prefix="never-lent", **spare)
        for name in (NAMESPACE, FOREIGN):
            plane.kubectl("create", "namespace", name)
        stack.enter_context(fleet.plugins(plane))
        keeper = Keeper(plane, (stack.enter_context(settings()),), plane.kubeconfig)
        stack.enter_context(keeper.at_work())
        run = Run(plane=plane, keeper=keeper, seconds=seconds, chance=random.Random(seed))
        return {"seed": seed, "environment": about} | asyncio.run(run.churn())


def main() -> None:
    """The command. Its exit says whether all held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="figures on stdout, nothing kept")
    arguments = parser.parse_args()
    if arguments.seconds < LEAST_SECONDS:
        parser.error(f"--seconds {arguments.seconds:g}: at least {LEAST_SECONDS:g}")
    figures = run_churn(arguments.seconds, arguments.seed)
    if arguments.json:
        print(json.dumps(figures, indent=1))
    else:
        write_results(shlex.join(["python", "-m", "benchmarks.churn", *sys.argv[1:]]), figures)
    sys.exit(1 if figures["broken"] else 0)


if __name__ == "__main__":
    main()
