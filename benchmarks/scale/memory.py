"""Memory that the operator keeps for each object it has seen: what a fleet costs beside the process itself.

    python -m benchmarks.scale.memory [--json]

Raw objects go through JSON and the real projections into the real caches with their indexes, as in a watch; what stays is
counted by the allocator (tracemalloc), per kind, and the process's own size before anything is cached beside it.
"""

import argparse
import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from slm_operator.api import names
from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.views import Assignment, DeploymentView
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.settings import Settings
from slm_operator.watch import custom_resources, projection
from slm_operator.watch.applied import owned
from slm_operator.watch.cache import Cache
from slm_operator.watch.pods import pod
from slm_operator.watch.watch_list import Caches

from tests.control_plane import gpu_fleet as fleet

Taker = tuple[Cache[Any], Callable[[Any], Any]]
COUNT = 200
UID = "3c8e1f0a-7f0e-4b8e-9f5e-{:012d}"
EMPTY = """
import slm_operator.main, slm_operator.watch.kopf_adapter, slm_operator.assembly, slm_operator.metrics
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""
"""The process with all its imports and nothing seen."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = {f"{kind}_bytes": round(bytes_each(kind)) for kind in RAW}
    imports = subprocess.run([sys.executable, "-c", EMPTY], capture_output=True, text=True, check=True)
    figures["imports_mib"] = round(float(imports.stdout))
    if arguments.json:
        print(json.dumps(figures))
    else:
        print(*(f"{name:24} {value:>8,}" for name, value in figures.items()), sep="\n")


def bytes_each(kind: str) -> float:
    """Bytes that one more object of a kind keeps."""
    takers = takers_of(kind, caches_for_planning(ProfileKeys(Settings().defaults), Settings()))
    texts = [json.dumps(named(RAW[kind](number), number)) for number in range(COUNT + 1)]
    take(texts[0], takers)  # what is made once for all
    gc.collect()
    tracemalloc.start()
    for text in texts[1:]:
        take(text, takers)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return kept / COUNT


def takers_of(kind: str, caches: Caches) -> tuple[Taker, ...]:
    """The caches that take a kind, each with the projection that makes its records."""
    return {
        "deployment": ((caches.deployments, custom_resources.deployment),),
        "profile": ((caches.profiles, custom_resources.profile),),
        "node": ((caches.nodes, projection.node),),
        "replica_pod": ((caches.pods, pod),),
        "foreign_pod": ((caches.pods, pod),),
        "workload": ((caches.workloads, projection.workload), (caches.owned["Deployment"], owned)),
        "service": ((caches.owned["Service"], owned),),
    }[kind]


def take(text: str, takers: tuple[Taker, ...]) -> None:
    """An object as a watch brings it. A projection makes no record of what does not concern us."""
    raw = json.loads(text)
    for records, project in takers:
        if (record := project(raw)) is not None:
            records.put(record)


def named(raw: Any, number: int) -> Any:
    """The object with a name, a uid and a version of its own."""
    own = {"name": f"object-{number:05}", "uid": UID.format(number), "resourceVersion": str(1000 + number)}
    return raw | {"metadata": raw.get("metadata", {}) | own | {"namespace": "team", "generation": 1}}


def node(_: int) -> Any:
    labels = {"slm-operator.io/managed": "true"} | fleet.shown_labels("version: v1", 4)
    amounts = {fleet.GPU: "4", fleet.SHARED: "0", "cpu": "64", "memory": "512Gi", "pods": "250"}
    ready = {"type": "Ready", "status": "True"}
    return {"metadata": {"labels": labels}, "spec": {}, "status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}}  # fmt: skip


def replica_pod(number: int) -> Any:
    labels = {names.DEPLOYMENT_LABEL: f"d{number // 4}", "pod-template-hash": f"{number // 4:010x}"}
    spec = {
        "nodeName": f"gpu-{number // 16}",
        "containers": [{"name": "engine", "resources": {"limits": {fleet.SHARED: "1"}}}],
    }
    running = {"name": "engine", "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    ready = {"type": "Ready", "status": "True"}
    status = {
        "phase": "Running",
        "podIP": f"10.0.{number // 250}.{number % 250}",
        "conditions": [ready],
        "containerStatuses": [running],
    }
    return {"metadata": {"labels": labels}, "spec": spec, "status": status}


def child(number: int) -> Any:
    labels = {names.DEPLOYMENT_LABEL: f"d{number}", "app.kubernetes.io/component": "engine"}
    managed = [{"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
    meta = {"labels": labels, "annotations": {names.APPLIED_ANNOTATION: f"{number:016x}"}, "managedFields": managed}
    return {"metadata": meta, "spec": {"replicas": 1}, "status": {"observedGeneration": 1, "replicas": 1}}


@cache
def imported() -> Any:
    """One imported profile."""
    return custom_resources.profile(named(fleet.slm_profile("p"), 0))


def served(number: int) -> Any:
    """An SLMDeployment with the status that the operator writes."""
    raw = named(fleet.slm_deployment("d", "p", slices=4), number)
    deployment = custom_resources.deployment(raw)
    advice = advice_of(deployment, imported())
    demand = demand_of(deployment, imported(), advice)
    assert demand, "its profile is imported, so there is advice"
    answer = Assignment(slice_class=demand.slice_class, nodes=("gpu-1",), slots=demand.replicas)
    view = DeploymentView(deployment=deployment, profile=imported(), advice=advice, assignment=answer)
    plan = plan_deployment(view, Settings(), datetime.now(UTC))
    return raw | {"status": next(one.status for one in plan.actions if isinstance(one, WriteStatus))}


RAW: dict[str, Callable[[int], Any]] = {
    "deployment": served,
    "profile": lambda _: fleet.slm_profile("p"),
    "node": node,
    "replica_pod": replica_pod,
    "foreign_pod": lambda _: {"spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running"}},
    "workload": child,
    "service": child,
}


if __name__ == "__main__":
    main()
