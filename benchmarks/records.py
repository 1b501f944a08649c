"""Recorded runs: what is too long for `make test` runs by name, and the repository keeps what it showed, and when.

    make record                 what there is, and how old each record is
    make record NAME            run it, and keep its record and its figures
    python -m benchmarks.records --stale [--strict]

A record names commit, date, machine and load, and the paths that it guards: once one of them differs from that commit,
the record is stale. `make check` lists those; a release refuses them (`--strict`). It must never keep a run that failed,
nor one of files that no commit has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.provenance import environment

ROOT = Path(__file__).parents[1]
RECORDS, RESULTS = ROOT / "benchmarks" / "records", ROOT / "benchmarks" / "results"
PYTEST = ("pytest", "-p", "no:cacheprovider", "-q", "-s")
CORE, OPERATOR, RUNTIME = "core/slm_core", "operator/slm_operator", "runtime/slm_runtime"
RELEASED = tuple(f"tests/release/{file}.py" for file in ("conftest", "loopback", "place", "reader"))
SHIPPING = tuple(f"tests/release/{file}.py" for file in ("test_release", "test_walkthrough", "test_without_clone"))
FOREIGN = (
    "benchmarks/foreign",
    *(f"tests/e2e/{file}" for file in ("closed_loop.py", "foreign.py", "foreign-deployment.yaml")),
)
DECISIONS = (CORE, *(f"{OPERATOR}/{room}" for room in ("advisor", "api", "manifests", "planning", "slo", "watch")))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run that can be recorded."""

    shows: str
    command: tuple[str, ...]
    """Programs of `.venv/bin`, run in the root; $SLM_RECORD is the file for its figures."""
    guards: tuple[str, ...]
    figures: str | None = None
    """File in benchmarks/results."""


RUNS: dict[str, Recorded] = {
    "agreement": Recorded(
        "a second profile of the real vLLM agrees with the first, a sweep finds nothing better, refusals are named",
        (*PYTEST, "tests/vllm"),
        (CORE, RUNTIME, "tests/vllm"),
        "agreement.json",
    ),
    "clients": Recorded(
        "AIPerf and GuideLLM against the profiler: the same engine, concurrency and lengths",
        ("python", "-m", "benchmarks.clients"),
        (
            f"{CORE}/results",
            f"{CORE}/search",
            RUNTIME,
            "benchmarks/clients/__main__.py",
            "benchmarks/clients/compared.py",
        ),
        "clients.json",
    ),
    "changes": Recorded(
        "every change of two replicas of the real vLLM under load: nobody's request is lost",
        (*PYTEST, "tests/e2e/test_serving_vllm.py"),
        (*DECISIONS, f"{OPERATOR}/reconcile", "tests/e2e/changes.py", "tests/e2e/test_serving_vllm.py"),
        "changes.json",
    ),
    "many": Recorded(
        "the same changes with fifty replicas of the light engine",
        (*PYTEST, "tests/e2e/test_serving_many.py"),
        (*DECISIONS, f"{OPERATOR}/reconcile", "tests/e2e/changes.py", "tests/e2e/test_serving_many.py"),
        "many.json",
    ),
    "packs": Recorded(
        "packs in pods: every change under load, an engine killed, an autoscaler, what was measured against what is served",
        (*PYTEST, "tests/e2e/test_packs.py"),
        (
            *DECISIONS,
            f"{OPERATOR}/reconcile",
            f"{RUNTIME}/serve",
            *(f"tests/e2e/{file}.py" for file in ("bare", "changes", "pack_changes", "test_packs")),
        ),
        "packs.json",
    ),
    "autoscaling": Recorded(
        "an HPA keeps its replicas through a change of advice, from batches of 32 to batches of 96",
        (*PYTEST, "tests/e2e/test_advice_scaled.py"),
        (
            f"{OPERATOR}/gauges.py",
            f"{OPERATOR}/manifests",
            "charts/slm-operator/rules",
            "tests/e2e/test_advice_scaled.py",
        ),
        "autoscaling.json",
    ),
    "keda": Recorded(
        "KEDA itself scales a deployment with its load, and from zero",
        (*PYTEST, "tests/e2e/test_keda.py"),
        (
            f"{OPERATOR}/gauges.py",
            f"{OPERATOR}/manifests",
            "charts/slm-operator/rules",
            *(f"tests/e2e/{file}.py" for file in ("scaling", "test_keda")),
        ),
        "keda.json",
    ),
    "foreign": Recorded(
        "the real engine in a Deployment that is not ours: the advised patch beside an exhaustive sweep",
        (*PYTEST, "tests/e2e/test_foreign.py"),
        (
            *(
                CORE,
                RUNTIME,
                *(f"{OPERATOR}/{room}" for room in ("advisor", "cli/inputs", "cli/render/patches", "manifests")),
            ),
            *(*FOREIGN, "tests/e2e/test_foreign.py"),
            *(f"tests/e2e/foreign-{kind}.yaml" for kind in ("kserve", "kubeai")),
        ),
        "foreign.json",
    ),
    "expected": Recorded(
        "the real vLLM at several loads beside what is expected there, from points of the profiler",
        (*PYTEST, "tests/vllm/test_expected.py"),
        (
            *(CORE, RUNTIME, f"{OPERATOR}/advisor/expectation.py", "benchmarks/foreign", "tests/e2e/closed_loop.py"),
            *(f"tests/vllm/{file}.py" for file in ("loads", "test_expected")),
        ),
        "expected.json",
    ),
    "doors": Recorded(
        "every door tried open, closed, and tried again, on a node that enforces policies; all goes on behind closed ones",
        (*PYTEST, "tests/e2e/test_doors.py"),
        (
            f"{OPERATOR}/manifests",
            *(f"{OPERATOR}/{file}.py" for file in ("cli/preflight/doors", "kube/scrapers", "metrics")),
            "charts/slm-operator/templates",
            *(f"tests/e2e/{file}.py" for file in ("doors", "test_doors")),
            "tests/testbed/network_policy.py",
        ),
        "doors.json",
    ),
    "karpenter": Recorded(
        "beside Karpenter: a pack's pod brings a node, and no node goes while the operator changes it",
        (*PYTEST, "tests/control_plane/test_karpenter.py", "-m", "record"),
        (
            f"{OPERATOR}/manifests",
            f"{OPERATOR}/partitioning",
            f"{OPERATOR}/planning/fleet",
            "tests/control_plane/test_karpenter.py",
        ),
    ),
    "faults": Recorded(
        "how often each fault was met, and how soon all was as it should be",
        (*PYTEST, "tests/control_plane/test_faults.py", "tests/control_plane/test_faults_of_operators.py"),
        (CORE, OPERATOR, "tests/control_plane/test_faults.py", "tests/control_plane/test_faults_of_operators.py"),
        "faults.json",
    ),
    "biggest": Recorded(
        "a hundred of the biggest objects that the API server takes fit into the operator's memory",
        (*PYTEST, "tests/control_plane/test_hostile.py", "-m", "record"),
        (
            f"{OPERATOR}/watch",
            f"{OPERATOR}/kube",
            f"{OPERATOR}/api",
            f"{OPERATOR}/decoding.py",
            "tests/control_plane/test_hostile.py",
        ),
    ),
    "churn": Recorded(
        "an hour of people, nodes and kills: nothing broken, memory stays",
        ("python", "-m", "benchmarks.churn", "--seconds", "3600"),
        (CORE, OPERATOR, "benchmarks/churn/__main__.py", "benchmarks/churn/observer.py"),
        "churn.json",
    ),
    "scale": Recorded(
        "100, 300 and 1,000 deployments beside a bare client: time, memory, requests",
        ("python", "-m", "benchmarks.scale", "--sweep", "--idle-seconds", "300", "--changes", "100"),
        (CORE, OPERATOR, "benchmarks/scale/__main__.py", "benchmarks/scale/run.py"),
        "scale.json",
    ),
    "gpu-rehearsal": Recorded(
        "benchmarks/gpu.py with the real vLLM on CPU and a mock NVML: interrupted, resumed, complete",
        (*PYTEST, "tests/unit/gpu_stages/test_rehearsal.py"),
        (CORE, RUNTIME, "benchmarks/gpu.py", "benchmarks/gpu_stages", "tests/unit/gpu_stages"),
        "gpu-rehearsal.json",
    ),
    "nvidia": Recorded(
        "the ten cases that were run with NVIDIA's own binaries, by installer and release: what the operator does and says",
        ("python", "-m", "benchmarks.nvidia"),
        (*DECISIONS, f"{OPERATOR}/partitioning", f"{OPERATOR}/reconcile", "benchmarks/nvidia", "tests/standin"),
        "nvidia.json",
    ),
    "router": Recorded(
        "HAProxy and vllm-router in front of played engines: each point of a router, its cost, how evenly it loads",
        ("python", "-m", "benchmarks.router"),
        (f"{OPERATOR}/manifests/router.py", "benchmarks/router"),
        "router.json",
    ),
    "seeds": Recorded(
        "20,000 simulated clusters under the shipped loop: no promise is broken, each hard situation is met",
        (*PYTEST, "tests/simulation/test_simulation.py", "-m", "record"),
        (*DECISIONS, f"{OPERATOR}/reconcile", f"{OPERATOR}/kube", "tests/simulation"),
        "seeds.json",
    ),
    "mutation": Recorded(
        "mutants of the advisor and the search: which of them a test notices",
        ("python", "-m", "benchmarks.mutation", "--sample", "250", "--seed", "2"),
        (
            *(f"{OPERATOR}/{room}" for room in ("advisor", "estimator/estimate.py", "slo/judge.py")),
            *(
                f"{CORE}/{room}"
                for room in ("search", "batching.py", "candidates.py", "choice.py", "decision.py", "load.py")
            ),
            *(f"{CORE}/{room}" for room in ("noise.py", "point_checks.py", "slo_check.py")),
            "tests/unit/advisor",
            "tests/unit/runtime_search",
            "benchmarks/mutation/mutants.py",
        ),
        "mutation.json",
    ),
    "shipping": Recorded(
        "make release into an empty registry, broken off, gone on with, again; the pages followed; an answer without the clone",
        (*PYTEST, *SHIPPING),
        (
            "hack/release",
            "charts",
            "images/operator",
            *(*RELEASED, *SHIPPING),
            "tests/docs/walkthrough.py",
            *("docs/start", "docs/how-to/install.md"),
        ),
        "shipping.json",
    ),
    "air-gap": Recorded(
        "an install by the page from a mirror that wants credentials, on a node without a route out; what cannot be pulled is named",
        (*PYTEST, "tests/release/test_air_gap.py"),
        (
            f"{OPERATOR}/manifests",
            f"{OPERATOR}/planning/containers.py",
            "hack/release",
            "charts",
            "images/operator",
            *(*RELEASED, *(f"tests/release/{file}.py" for file in ("closed_node", "gap", "test_air_gap"))),
            f"{OPERATOR}/planning/deployment/packs.py",
            "tests/docs/walkthrough.py",
            "docs/how-to/air-gap.md",
        ),
        "air-gap.json",
    ),
    "fuzz": Recorded(
        "22,500 specs at a real API server: refused with the form, or planned",
        (*PYTEST, "tests/fuzz", "-m", "record"),
        (*DECISIONS, "crds", "tests/fuzz"),
        "fuzz.json",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is kept of a run beside its figures."""

    commit: str
    date: str
    cores: int
    memory_gib: int
    load_before: float
    load_after: float | None
    minutes: float | None
    """None: the run was kept before runs were timed."""
    command: str
    guards: tuple[str, ...]


def path_of(name: str) -> Path:
    """Where a record lies."""
    return RECORDS / f"{name}.json"


def read(name: str) -> Record | None:
    """The record of this name, if there is one."""
    path = path_of(name)
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    return Record(**kept | {"guards": tuple(kept["guards"])})


def staleness(name: str) -> str | None:
    """Why the record of this name is no longer one of the code that is here; None while it is."""
    record = read(name)
    if record is None:
        return "never recorded"
    if _git("cat-file", "-e", f"{record.commit}^{{commit}}").returncode:
        return f"of commit {record.commit}, which this clone does not have"
    changed = _git("diff", "--name-only", record.commit, "--", *RUNS[name].guards).stdout.splitlines()
    if not changed:
        return None
    last = _git("log", "-1", "--format=%h", "--", *changed).stdout.strip()
    return f"of {record.commit} ({record.date}); {len(changed)} of the files that it guards differ, last by {last}"


def run(name: str) -> int:
    """Run it and keep its record; the run's own exit status."""
    recorded = RUNS[name]
    if dirty := _git("status", "--porcelain", "--", *recorded.guards).stdout.strip():
        print(f"commit first what this record guards, so that its commit can be named:\n{dirty}", file=sys.stderr)
        return 2
    about, began = environment(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        program, *arguments = recorded.command
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        status = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"SLM_RECORD": str(figures)}, check=False
        ).returncode
        if status:
            print(f"{name}: exit status {status}; nothing is kept", file=sys.stderr)
            return status
        commit = str(about["commit"]).removesuffix("-dirty")  # what it guards was clean
        if moved := _git("diff", "--name-only", commit, "--", *recorded.guards).stdout.strip():
            print(f"{name}: changed while it ran, so nothing is kept:\n{moved}", file=sys.stderr)
            return 2
        if figures.exists() and recorded.figures:
            (RESULTS / recorded.figures).write_text(figures.read_text())
    record = Record(
        **about | {"commit": commit},
        load_after=round(os.getloadavg()[0], 1),
        minutes=round((time.monotonic() - began) / 60, 1),
        command=f"make record {name}",
        guards=recorded.guards,
    )
    RECORDS.mkdir(exist_ok=True)
    path_of(name).write_text(json.dumps(asdict(record), indent=1) + "\n")
    print(f"kept {path_of(name).relative_to(ROOT)}; now `make generate`, and commit both")
    return 0


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def main() -> int:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=RUNS, help="the run; all are listed when none is named")
    parser.add_argument("--stale", action="store_true", help="only records that are stale")
    parser.add_argument("--strict", action="store_true", help="fail where one is")
    asked = parser.parse_args()
    if asked.name:
        return run(asked.name)
    why = {name: staleness(name) for name in RUNS}
    for name, recorded in RUNS.items():
        if why[name] or not asked.stale:
            print(f"{name:<13} {why[name] or 'up to date'}" + ("" if asked.stale else f"\n{'':<14}{recorded.shows}"))
    return 1 if asked.strict and any(why.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
