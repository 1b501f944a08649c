"""One run of the scale benchmark, phase by phase: settle, rest, change, start, floor.

Real: etcd, API server, controllers, scheduler, the operator as a process of its own. Played: nodes and pods (kwok), and the
device plugins, which answer a switch of their label at once. Two of five deployments have a whole GPU a replica, the others
a quarter of one, with any co-tenants, so that nodes are closed, switched and opened on the way; ten share a profile.
Writes are counted from the API server's audit log, never by the operator itself.
"""

import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slm_operator.kube.client import Client
from slm_operator.kube.resources import POD

from benchmarks.provenance import environment
from benchmarks.scale.figures import (
    Edit,
    answer_parts,
    api_calls,
    cpu_seconds,
    histogram_percentiles,
    memory_mib,
    metrics_of,
    now,
    percentile,
    reads_of,
    writes_of,
)
from benchmarks.scale.floor import WRITERS, Floor, Marks, Settled, marks_of_nodes, spread, until
from tests.control_plane import gpu_fleet as fleet
from tests.control_plane.gpu_fleet import SLMD, SLMP
from tests.control_plane.operator_process import OperatorProcess, operator
from tests.testbed.control_plane import ControlPlane
from tests.testbed.ports import free_ports

GPUS = 4
SLICES = 4
SHARING_A_PROFILE = 10
NAMESPACE = "scale"
SETTINGS = "nodes: {maxChanging: 100, projectionSeconds: 0}\nwatch: {intervalSeconds: 0}\n"
"""NB: at the addresses that kwok gives its pods nobody of ours answers, so nobody is to be asked there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much there is of everything."""

    deployments: int
    nodes: int
    pods: int
    """Foreign pods in the cluster when start is measured."""
    changes: int
    idle_seconds: float
    floor: bool


class Run:
    """One run. Figures collect in `figures`."""

    def __init__(self, plane: ControlPlane, load: Load) -> None:
        self.plane = plane
        self.load = load
        self.figures: dict[str, Any] = {"deployments": load.deployments, "nodes": load.nodes}
        self.port = free_ports(1)[0]
        self.names = [f"d{number:04}" for number in range(load.deployments)]
        self.calls: Counter[str] = Counter()

    def measure(self) -> dict[str, Any]:
        """All phases."""
        about = environment()
        fleet.install(self.plane)
        fleet.add_gpu_nodes(self.plane, self.load.nodes, gpus=GPUS)
        for name in (NAMESPACE, "floor", "foreign"):
            self.plane.kubectl("create", "namespace", name)
        with fleet.plugins(self.plane):
            with self.operator() as running:
                running.said("leading")
                before, after = asyncio.run(self.within(partial(self.settle, running)))
                asyncio.run(self.within(self.rest))
                asyncio.run(self.within(self.change))
                self.figures["operator_peak_mib"] = round(memory_mib(running.process.pid), 1)
                self.figures["operator_rest_mib"] = round(memory_mib(running.process.pid, "VmRSS"), 1)
                running.terminate()
            asyncio.run(self.within(self.start))
            if self.load.floor:
                asyncio.run(self.within(partial(self.bare, before, after)))
        self.figures["environment"] = about | {"load_after": round(os.getloadavg()[0], 1)}
        return self.figures

    @contextlib.contextmanager
    def operator(self) -> Iterator[OperatorProcess]:
        """The operator, with its metrics on `port`."""
        with quiet(), settings() as config, operator(self.plane, config, f"--metrics-port={self.port}") as running:
            yield running

    async def within(self, phase: Callable[[Client], Awaitable[Any]]) -> Any:
        """A phase with a bare client."""
        async with fleet.bare_client(self.plane.kubeconfig, "benchmark") as client:
            try:
                return await phase(client)
            finally:
                print(f"{time.strftime('%H:%M:%S')} {self.figures}", file=sys.stderr, flush=True)

    def profiles(self) -> list[dict[str, Any]]:
        """Imported profiles, one for every ten deployments."""
        return [fleet.slm_profile(f"p{number}") for number in range(-(-len(self.names) // SHARING_A_PROFILE))]

    def deployments(self) -> list[dict[str, Any]]:
        """Two of five with whole GPUs."""
        return [
            fleet.slm_deployment(name, f"p{number // SHARING_A_PROFILE}", slices=1 if number % 5 in {0, 2} else SLICES)
            for number, name in enumerate(self.names)
        ]

    async def settle(self, running: OperatorProcess, client: Client) -> tuple[Marks, Settled]:
        """From the first apply until all are Ready. Gives what there was before and after."""
        pid = running.process.pid
        print(f"operator pid {pid}", file=sys.stderr, flush=True)
        before = await marks_of_nodes(client)
        watching = asyncio.create_task(until(client, (SLMD, NAMESPACE), fleet.is_ready, len(self.names)))
        await asyncio.sleep(1)
        since, began, cpu = now(), time.monotonic(), cpu_seconds(pid)
        await spread(client.create(SLMP, NAMESPACE, one) for one in self.profiles())
        await spread(client.create(SLMD, NAMESPACE, one) for one in self.deployments())
        self.figures["applied_seconds"] = round(time.monotonic() - began, 2)
        await watching
        self.figures["settled_seconds"] = round(time.monotonic() - began, 2)
        self.figures["operator_cpu_seconds"] = round(cpu_seconds(pid) - cpu, 2)
        calls = self.calls = api_calls(self.plane.audit_log, since, now())
        metrics = metrics_of(self.port)
        self.figures |= {
            "writes": writes_of(calls),
            "api_calls": dict(sorted(calls.items())),
            "queue_latency_seconds_at_most": histogram_percentiles(metrics, "slm_operator_queue_latency_seconds"),
            "passes": {
                name.partition("{")[2].rstrip("}"): int(value)
                for name, value in metrics.items()
                if name.startswith("slm_operator_reconcile_total{")
            },
        }
        return before, await Settled.read(client, NAMESPACE)

    async def rest(self, _: Client) -> None:
        """What is asked while nothing changes."""
        since = now()
        while True:  # the last statuses and events are still being written
            await asyncio.sleep(5)
            if not writes_of(api_calls(self.plane.audit_log, since)):
                break
            since = now()
        since = now()
        await asyncio.sleep(self.load.idle_seconds)
        calls = api_calls(self.plane.audit_log, since)
        self.figures |= {
            "idle_seconds": self.load.idle_seconds,
            "idle_writes": writes_of(calls),
            "idle_reads": reads_of(calls),
        }

    async def change(self, client: Client) -> None:
        """One edit at a time, from its request until status shows its generation."""
        chosen = random.Random(1).choices(self.names, k=self.load.changes)
        seen: dict[str, int] = {}
        news = asyncio.Event()

        async def watch() -> None:
            async for _, raw in fleet.events(client, SLMD, NAMESPACE):
                seen[raw["metadata"]["name"]] = (raw.get("status") or {}).get("observedGeneration", 0)
                news.set()

        watching = asyncio.create_task(watch())
        while len(seen) < len(self.names):
            await news.wait()
            news.clear()
        edits: list[Edit] = []
        replicas = dict.fromkeys(self.names, 1)
        for name in chosen:
            replicas[name] = 3 - replicas[name]  # NB: what changes nothing is no change
            sent = time.time()
            answer = await client.merge_patch(SLMD, NAMESPACE, name, {"spec": {"replicas": replicas[name]}})
            answered = time.time()
            while seen[name] < answer["metadata"]["generation"]:
                news.clear()
                await news.wait()
            edits.append(Edit(name, sent, answered, time.time()))
            await asyncio.sleep(0.2)
        watching.cancel()
        took = [1000 * (edit.seen - edit.sent) for edit in edits]
        self.figures |= {
            "changes": len(edits),
            "change_p50_ms": round(percentile(took, 0.5)),
            "change_p99_ms": round(percentile(took, 0.99)),
            "change_max_ms": round(max(took)),
            "change_parts_ms": answer_parts(self.plane.audit_log, edits),
        }

    async def start(self, client: Client) -> None:
        """From the process's start until a deployment that waited for it has a status, among many pods."""
        await spread(client.create(POD, "foreign", gated_pod(f"f{number}")) for number in range(self.load.pods))
        await client.create(SLMD, NAMESPACE, fleet.slm_deployment("late", "p0"))
        watching = asyncio.create_task(
            until(client, (SLMD, NAMESPACE), lambda raw: raw["status"]["observedGeneration"] > 0, 1, name="late")
        )
        await asyncio.sleep(1)
        began = time.monotonic()
        with self.operator() as running:
            await watching
            self.figures |= {
                "pods": self.load.pods,
                "start_seconds": round(time.monotonic() - began, 2),
                "start_cpu_seconds": round(cpu_seconds(running.process.pid), 2),
                "start_peak_mib": round(memory_mib(running.process.pid), 1),
            }
            running.terminate()

    async def bare(self, before: Marks, after: Settled, client: Client) -> None:
        """The floor: what the operator wrote until all were settled, written by a client that need not think."""
        bodies = (self.profiles(), self.deployments())
        bare = Floor(client=client, before=before, after=after, calls=self.calls, profiles=bodies[0], served=bodies[1])
        await bare.clear((NAMESPACE, "foreign"))
        since = now()
        written_seconds, seconds = await bare.play()
        calls = api_calls(self.plane.audit_log, since, now(), agent="benchmark")
        self.figures |= {
            "floor_writers": WRITERS,
            "floor_written_seconds": round(written_seconds, 2),
            "floor_seconds": round(seconds, 2),
            "floor_writes": writes_of(calls) - sum(map(len, bodies)),
            "floor_api_calls": dict(sorted(calls.items())),
            "ratio": round(self.figures["settled_seconds"] / seconds, 2),
        }


@contextlib.contextmanager
def settings() -> Iterator[str]:
    """The operator's argument that names its settings."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(SETTINGS)
        file.flush()
        yield f"--config={file.name}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the test bed tells a person is dropped."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def gated_pod(name: str) -> Any:
    """A pod that nobody schedules."""
    spec = {"schedulingGates": [{"name": "benchmark/never"}], "containers": [{"name": "c", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
