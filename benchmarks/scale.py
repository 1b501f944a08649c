"""A thousand deployments on a real control plane: how long until all are settled, and what it costs.

    python benchmarks/scale.py --deployments 1000 --nodes 300 --json

Real: etcd, API server, controllers, scheduler, the operator as a process of its own. Played: nodes and pods (kwok), and the
device plugins, which answer a switch of their label at once. Two of five deployments have a whole GPU a replica, the others
a quarter of one beside any neighbours, so that nodes are closed, switched and opened on the way; ten share a profile.
The floor is a bare client that makes the same writes, as many at a time, in the same run after the operator has gone.
"""

# ruff: noqa: E402 - what is imported from the repository follows its path
import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from scale_figures import (
    api_calls,
    cpu_seconds,
    environment,
    histogram_percentiles,
    memory_mib,
    metrics_of,
    now,
    percentile,
    reads_of,
    writes_of,
)
from slm_operator.kube.client import Client
from slm_operator.kube.resources import DISRUPTION_BUDGET, EVENT, NODE, POD, SERVICE, WORKLOAD, Resource

from tests.control_plane import gpu_fleet as fleet
from tests.control_plane.gpu_fleet import SLMD, SLMP
from tests.control_plane.operator_process import OperatorProcess, operator
from tests.testbed.control_plane import ControlPlane, control_plane
from tests.testbed.ports import free_ports

WRITERS = 8
GPUS = 4
SLICES = 4
SHARING_A_PROFILE = 10
NAMESPACE = "scale"
CHANGES = 60
SETTINGS = "nodes: {maxChanging: 100, projectionSeconds: 0}\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--pods", type=int, default=10_000, help="foreign pods in the cluster when start is measured")
    parser.add_argument("--idle-seconds", type=float, default=60)
    parser.add_argument("--no-floor", action="store_true", help="leave the bare client out")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr), control_plane() as plane:
        figures = Run(plane, arguments).measure()
    if arguments.json:
        print(json.dumps(figures, indent=1))
    else:
        print(*(f"{name:24} {value}" for name, value in figures.items()), sep="\n")


class Run:
    """One run, phase by phase. Figures collect in `figures`."""

    def __init__(self, plane: ControlPlane, arguments: argparse.Namespace) -> None:
        self.plane = plane
        self.count: int = arguments.deployments
        self.nodes: int = arguments.nodes
        self.arguments = arguments
        self.figures: dict[str, Any] = {"deployments": self.count, "nodes": self.nodes}
        self.port = free_ports(1)[0]
        self.names = [f"d{number:04}" for number in range(self.count)]
        self.calls: Counter[str] = Counter()

    def measure(self) -> dict[str, Any]:
        """All phases."""
        about = environment()
        fleet.install(self.plane)
        fleet.add_gpu_nodes(self.plane, self.nodes, gpus=GPUS)
        for name in (NAMESPACE, "floor", "foreign"):
            self.plane.kubectl("create", "namespace", name)
        with fleet.plugins(self.plane):
            with self.operator() as running:
                running.said("leading")
                pid = running.process.pid
                asyncio.run(self.within(partial(self.settle, running)))
                asyncio.run(self.within(self.rest))
                asyncio.run(self.within(self.change))
                self.figures["operator_peak_mib"] = round(memory_mib(pid), 1)
                running.terminate()
            asyncio.run(self.within(self.start))
            if not self.arguments.no_floor:
                asyncio.run(self.within(self.floor))
        self.figures["environment"] = about | {"load_after": round(os.getloadavg()[0], 1)}
        return self.figures

    @contextlib.contextmanager
    def operator(self) -> Iterator[OperatorProcess]:
        """The operator, with its metrics on `port`."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as settings:
            settings.write(SETTINGS)
            settings.flush()
            log = contextlib.redirect_stdout(open(os.devnull, "w"))  # noqa: SIM115, PTH123 - goes with the process
            with log, operator(self.plane, f"--config={settings.name}", f"--metrics-port={self.port}") as running:
                yield running

    async def within(self, phase: Callable[[Client], Awaitable[None]]) -> None:
        """A phase with a bare client."""
        connection, client = await fleet.bare_client(self.plane.kubeconfig, "benchmark")
        try:
            await phase(client)
        finally:
            await connection.close()
            print(f"{self.figures}", flush=True)

    def profiles(self) -> list[dict[str, Any]]:
        """Imported profiles, one for every ten deployments."""
        return [fleet.slm_profile(f"p{number}") for number in range(-(-self.count // SHARING_A_PROFILE))]

    def deployments(self) -> list[dict[str, Any]]:
        """Two of five with whole GPUs."""
        return [
            fleet.slm_deployment(name, f"p{number // SHARING_A_PROFILE}", slices=1 if number % 5 in {0, 2} else SLICES)
            for number, name in enumerate(self.names)
        ]

    async def settle(self, running: OperatorProcess, client: Client) -> None:
        """From the first apply until all are Ready."""
        pid = running.process.pid
        watching = asyncio.create_task(until(client, (SLMD, NAMESPACE), fleet.is_ready, self.count))
        await asyncio.sleep(1)
        self.since, began, cpu = now(), time.monotonic(), cpu_seconds(pid)
        await spread(client.create(SLMP, NAMESPACE, one) for one in self.profiles())
        await spread(client.create(SLMD, NAMESPACE, one) for one in self.deployments())
        self.figures["applied_seconds"] = round(time.monotonic() - began, 2)
        await watching
        self.figures["settled_seconds"] = round(time.monotonic() - began, 2)
        self.figures["operator_cpu_seconds"] = round(cpu_seconds(pid) - cpu, 2)
        self.calls = api_calls(self.plane.audit_log, self.since)
        metrics = metrics_of(self.port)
        self.figures |= {
            "writes": writes_of(self.calls),
            "api_calls": dict(sorted(self.calls.items())),
            "queue_latency_seconds_at_most": histogram_percentiles(metrics, "slm_operator_queue_latency_seconds"),
            "passes": {
                name.partition("{")[2].rstrip("}"): int(value)
                for name, value in metrics.items()
                if name.startswith("slm_operator_reconcile_total{")
            },
        }

    async def rest(self, _: Client) -> None:
        """What is asked while nothing changes."""
        since = now()
        while True:  # the last statuses and events are still being written
            await asyncio.sleep(5)
            if not writes_of(api_calls(self.plane.audit_log, since)):
                break
            since = now()
        since = now()
        await asyncio.sleep(self.arguments.idle_seconds)
        calls = api_calls(self.plane.audit_log, since)
        self.figures |= {
            "idle_seconds": self.arguments.idle_seconds,
            "idle_writes": writes_of(calls),
            "idle_reads": reads_of(calls),
        }

    async def change(self, client: Client) -> None:
        """One edit at a time, from its request until status shows its generation."""
        chosen = random.Random(1).choices(self.names, k=CHANGES)
        seen: dict[str, int] = {}
        news = asyncio.Event()

        async def watch() -> None:
            async for _, raw in fleet.events(client.connection, SLMD, NAMESPACE):
                seen[raw["metadata"]["name"]] = (raw.get("status") or {}).get("observedGeneration", 0)
                news.set()

        watching = asyncio.create_task(watch())
        while len(seen) < self.count:
            await news.wait()
            news.clear()
        took: list[float] = []
        for number, name in enumerate(chosen):
            began = time.monotonic()
            answer = await client.merge_patch(SLMD, NAMESPACE, name, {"spec": {"replicas": 2 - number % 2}})
            while seen[name] < answer["metadata"]["generation"]:
                news.clear()
                await news.wait()
            took.append(1000 * (time.monotonic() - began))
            await asyncio.sleep(0.2)
        watching.cancel()
        self.figures |= {"change_p50_ms": round(percentile(took, 0.5)), "change_p99_ms": round(percentile(took, 0.99))}

    async def start(self, client: Client) -> None:
        """From the process's start until a deployment that waited for it has a status, among many pods."""
        await spread(client.create(POD, "foreign", gated_pod(f"f{number}")) for number in range(self.arguments.pods))
        await client.create(SLMD, NAMESPACE, fleet.slm_deployment("late", "p0"))
        watching = asyncio.create_task(
            until(client, (SLMD, NAMESPACE), lambda raw: bool(raw.get("status")), 1, name="late")
        )
        await asyncio.sleep(1)
        began = time.monotonic()
        with self.operator() as running:
            await watching
            self.figures |= {
                "pods": self.arguments.pods,
                "start_seconds": round(time.monotonic() - began, 2),
                "start_cpu_seconds": round(cpu_seconds(running.process.pid), 2),
                "start_peak_mib": round(memory_mib(running.process.pid), 1),
            }
            running.terminate()

    async def floor(self, client: Client) -> None:
        """The same writes by a bare client, until all replicas are available."""
        done: dict[str, list[Any]] = {name: [] for name in (*self.names, "late")}
        for resource in (SERVICE, DISRUPTION_BUDGET, WORKLOAD):
            for raw in await client.list(resource, NAMESPACE):
                done[raw["metadata"]["name"]].append(copied(resource, raw))
        statuses = {raw["metadata"]["name"]: raw["status"] for raw in await client.list(SLMD, NAMESPACE)}
        await emptied(client, NAMESPACE)
        await emptied(client, "foreign")
        nodes = await client.list(NODE)
        times = self.calls["patch slmdeployments/status"] / self.count
        watching = asyncio.create_task(until(client, (WORKLOAD, "floor"), is_available, self.count))
        await asyncio.sleep(1)
        began = time.monotonic()
        await spread(client.create(SLMP, "floor", one) for one in self.profiles())
        for number in range(self.calls["patch nodes"]):
            patch = {"metadata": {"annotations": {"benchmark": str(number)}}}
            await client.merge_patch(NODE, "", nodes[number % len(nodes)]["metadata"]["name"], patch)
        await spread(
            one_deployment(client, body, done[body["metadata"]["name"]], statuses[body["metadata"]["name"]], times)
            for body in self.deployments()
        )
        events = self.calls["create events"]
        await spread(client.create(EVENT, "floor", event(number)) for number in range(events))
        self.figures["floor_written_seconds"] = round(time.monotonic() - began, 2)
        await watching
        self.figures["floor_seconds"] = round(time.monotonic() - began, 2)
        self.figures["ratio"] = round(self.figures["settled_seconds"] / self.figures["floor_seconds"], 2)


async def one_deployment(client: Client, body: Any, children: list[Any], status: Any, times: float) -> None:
    """Every write that one deployment took the operator, one after the other."""
    await client.create(SLMD, "floor", body)
    for child in children:
        await client.apply(child, force=False)
    head = {
        "apiVersion": SLMD.api_version,
        "kind": SLMD.kind,
        "metadata": {"name": body["metadata"]["name"], "namespace": "floor"},
    }
    whole = int(times) + (random.random() < times % 1)
    for number in range(whole):
        await client.apply_status(head | {"status": status | {"replicas": number}})


async def spread(requests: Iterable[Awaitable[Any]]) -> None:
    """All requests, a few at a time."""
    left = iter(requests)

    async def send() -> None:
        for request in left:
            await request

    await asyncio.gather(*(send() for _ in range(WRITERS)))


async def until(
    client: Client, place: tuple[Resource, str], good: Callable[[Any], bool], count: int, name: str = ""
) -> None:
    """Wait until so many objects are good."""
    found: set[str] = set()
    async for kind, raw in fleet.events(client.connection, *place):
        its = raw["metadata"]["name"]
        if kind != "DELETED" and good(raw) and name in {"", its}:
            found.add(its)
        else:
            found.discard(its)
        if len(found) == count:
            return


async def emptied(client: Client, namespace: str) -> None:
    """Delete everything in a namespace and wait until its pods are gone."""
    for resource in (SLMD, SLMP, POD):
        path = resource.path(namespace)
        params = {"gracePeriodSeconds": "0"} if resource is POD else {}
        await client._object("DELETE", path, ("deletecollection", resource.plural), params=params)  # noqa: SLF001
    while await client.list(WORKLOAD, namespace) or await client.list(POD, namespace):  # noqa: ASYNC110 - another process's state
        await asyncio.sleep(1)


def copied(resource: Resource, raw: Any) -> Any:
    """An object that the operator made, as a manifest for the floor's namespace."""
    meta = raw["metadata"]
    spec = {name: value for name, value in raw["spec"].items() if name not in {"clusterIP", "clusterIPs"}}
    head = {"name": meta["name"], "namespace": "floor", "labels": meta.get("labels", {})}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": head, "spec": spec}


def is_available(raw: Any) -> bool:
    """Whether a Deployment has all replicas."""
    status = raw.get("status") or {}
    return status.get("availableReplicas", 0) >= raw["spec"]["replicas"] and bool(status.get("observedGeneration"))


def gated_pod(name: str) -> Any:
    """A pod that nobody schedules."""
    spec = {"schedulingGates": [{"name": "benchmark/never"}], "containers": [{"name": "c", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def event(number: int) -> Any:
    """An event as the operator writes them."""
    regarding = {"apiVersion": SLMD.api_version, "kind": SLMD.kind, "namespace": "floor", "name": f"d{number}"}
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"e{number}"},
        "regarding": regarding,
        "type": "Normal",
        "reason": "Benchmark",
        "action": "Benchmark",
        "note": "as many as the operator wrote",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "benchmark",
        "reportingInstance": "benchmark",
    }


if __name__ == "__main__":
    main()
