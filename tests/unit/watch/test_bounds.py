"""What a record takes of memory, however big its object is: each kind that a tenant may write, at its biggest."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.measurements import MOST_ITEMS, SCHEMA
from slm_operator.decoding import decode
from slm_operator.watch import custom_resources, projection
from slm_operator.watch.applied import owned
from slm_operator.watch.pods import pod

from tests.builders import Raw, raw_meta

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 1000
LONG = "x" * 100_000
MODEL = {"uri": "hf://facebook/opt-1.3b"}
LABELS = {"slm-operator.io/deployment": "d", "slm-operator.io/profile": "p"}
HEAD = raw_meta(
    "a",
    labels=LABELS | {f"slm-operator.io/l{number}": "v" for number in range(MANY)},
    annotations={f"slm-operator.io/a{number}": "v" for number in range(MANY)} | {"slm-operator.io/applied": LONG},
    finalizers=[f"example.com/{number}" for number in range(MANY)],
    ownerReferences=[{"kind": LONG, "name": LONG, "uid": LONG}, *({"uid": f"u{number}"} for number in range(MANY))],
    managedFields=[{"manager": "slm-operator", "operation": "Apply", "fieldsV1": {"f:x": [[]] * MANY}}],
)
POINT = {
    "batchSize": 1000, "throughputTokensPerSecond": 1.5, "outputTokensPerSecond": 2.5, "itlMs": {"meanMs": 1.5, "p50Ms": 2.5},
    "ttftMs": {"meanMs": 3.5, "p50Ms": 4.5, "p90Ms": 5.5, "p99Ms": 6.5, "samples": 1000}, "kvPeakFraction": 0.25,
    "meanRunning": 7.5, "windowSeconds": 8.5, "requests": 1000, "inputTokensMean": 9.5, "outputTokensMean": 10.5,
}  # fmt: skip


def document(points: int) -> Raw:
    model, engine, gpu = {"uri": "/m"}, {"version": "1", "args": ["a"]}, {"product": "CPU", "memoryBytes": 1}
    load = {"source": "fixed", "inputTokensMean": 1, "outputTokensMean": 2}
    points_of = [dict(POINT) for _ in range(points)]
    return {"schema": SCHEMA, "model": model, "engine": engine, "gpu": gpu, "workload": load, "points": points_of}


def of(**body: Any) -> Raw:
    return {"metadata": HEAD, **body}


def condition(kind: str, status: str) -> Raw:
    return {"type": kind, "status": status, "reason": LONG, "message": LONG}


CONTAINER = {
    "name": "engine",
    "env": [{"name": "A", "value": LONG}] * 10,
    "resources": {"limits": {f"nvidia.com/r{number}": "1" for number in range(MANY)} | {"nvidia.com/gpu": "1"}},
}
STATE = {"waiting": {"reason": LONG, "message": LONG}}
HEALTH = [{"resources": [{"resourceID": f"GPU-{number}", "health": "Healthy"} for number in range(MANY)]}]
POD = of(
    spec={"containers": [CONTAINER] * 3},
    status={
        "phase": "Failed", "reason": LONG, "message": LONG, "conditions": [condition("PodScheduled", "False")],
        "containerStatuses": [{"state": STATE, "lastState": {"terminated": {"reason": LONG, "message": LONG}},
                               "allocatedResourcesStatus": HEALTH}],
    },
)  # fmt: skip
EMPTY = {"podTemplate": {"spec": {"x": [[]] * 2500}}}
BIGGEST: dict[str, tuple[Callable[[Raw], Any], Raw, int]] = {
    "a pod": (pod, POD, 64),
    "a Deployment": (projection.workload, of(status={"conditions": [condition("ReplicaFailure", "True")]}), 16),
    "a Job": (projection.job, of(status={"conditions": [condition("Failed", "True")]}), 16),
    "what we applied": (owned, of(), 16),
    "an SLMDeployment of lists": (custom_resources.deployment, of(spec={"model": MODEL, **EMPTY}), 16),
    "an SLMDeployment of texts": (
        custom_resources.deployment,
        of(spec={"model": MODEL, "podTemplate": {"x": LONG}}),
        16,
    ),
    "an SLMProfile of lists": (custom_resources.profile, of(spec={"model": MODEL, **EMPTY}), 16),
    "an SLMProfile of figures": (
        custom_resources.profile,
        of(spec={"model": MODEL, "measurements": document(501)}),
        32,
    ),
    "an SLMProfile, measured": (
        custom_resources.profile,
        of(spec={"model": MODEL}, status={"measurements": document(100)}),
        160,
    ),
    "an unknown field": (
        custom_resources.profile,
        of(spec={"model": MODEL, "measurements": {"schema": SCHEMA, LONG: 1}}),
        16,
    ),
}
"""By its name, a projection, the object, and the most KiB that its record may take."""


def kib_of(project: Callable[[Raw], Any], raw: Raw) -> float:
    """NB: the least of three, because other threads of the test run are counted in what they allocate meanwhile."""
    text = json.dumps(raw)
    project(decode(text))  # what is made once
    return min(kib_once(project, text) for _ in range(3))


def kib_once(project: Callable[[Raw], Any], text: str) -> float:
    given = decode(text)
    tracemalloc.start()
    record = project(given)
    del given
    took, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert record is not None
    return took / 1024


@pytest.mark.parametrize("biggest", BIGGEST)
def test_a_record_is_small_however_big_its_object_is(biggest: str) -> None:
    project, raw, most = BIGGEST[biggest]
    assert kib_of(project, raw) < most


@pytest.mark.parametrize("inside", [{"spec": {"x": [[]] * 2001}}, {"spec": {"x": "y" * (64 << 10)}}])
def test_a_pod_template_that_is_too_big_is_reported_by_its_place(inside: Raw) -> None:
    for project in (custom_resources.deployment, custom_resources.profile):
        record: Any = project({"metadata": raw_meta("a"), "spec": {"model": MODEL, "podTemplate": inside}})
        assert record.spec is None
        assert record.broken.startswith("spec.podTemplate: spec may have 64 KiB of JSON and 2000 values at most")


def test_a_pod_template_of_a_thousand_values_is_read() -> None:
    spec = {"model": MODEL, "podTemplate": {"spec": {"x": [[]] * 1000, "y": "y" * (60 << 10)}}}
    assert custom_resources.deployment({"metadata": raw_meta("a"), "spec": spec}).broken is None


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("points", {"points": [dict(POINT)] * (MOST_ITEMS["points"] + 1)}),
        ("engine.args", {"engine": {"version": "1", "args": ["a"] * (MOST_ITEMS["args"] + 1)}}),
        ("points[0].marks", {"points": [POINT | {"marks": ["Wide"] * (MOST_ITEMS["marks"] + 1)}]}),
        ("provenance", {"provenance": "x" * 1025}),
        ("engine.args[0]", {"engine": {"version": "1", "args": ["x" * 1025]}}),
    ],
)
def test_measurements_beyond_a_bound_are_reported_by_their_place(place: str, change: Raw) -> None:
    assert custom_resources.profile(of(spec={"model": MODEL, "measurements": document(1)})).broken is None
    reported = custom_resources.profile(of(spec={"model": MODEL, "measurements": document(1) | change})).broken
    assert reported is not None
    assert reported.startswith(f"spec.measurements: {place}: ")
    assert "are more than" in reported


def test_measured_figures_are_kept_once() -> None:
    record = custom_resources.profile(
        of(spec={"model": MODEL}, status={"phase": "Complete", "measurements": document(1)})
    )
    assert record.status == {"phase": "Complete", "measurements": record.measurements}


def test_record_keeps_gpus_and_controller_of_many_resources() -> None:
    owners = [*HEAD["ownerReferences"], {"kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}]
    record = pod(POD | {"metadata": HEAD | {"ownerReferences": owners}})
    assert record is not None
    assert record.gpu_requests["nvidia.com/gpu"] == 3
    assert record.meta.is_controlled_by("u")
