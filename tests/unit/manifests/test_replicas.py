"""What a replica's pod is: the same for the same spec and advice, patient with a busy engine, and safe to start at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from slm_core.engines.registry import default
from slm_core.measurements import Ledger, SharingMode
from slm_core.pack_pod import PRE_STOP_SECONDS
from slm_core.units import GIB
from slm_operator.api import names
from slm_operator.manifests.engine import SHUTDOWN_SECONDS
from slm_operator.manifests.replicas import Nodes, pod_template, replicas
from slm_operator.manifests.resources import resources

from tests import builders as build

from . import cases

HASHES = Path(__file__).parents[2] / "golden" / "manifests" / "template-hashes.yaml"
HERE = Nodes(opt_in_label=names.OPT_IN_LABEL, bound=False)


def engine(**more: Any) -> dict[str, Any]:
    container: dict[str, Any] = template(**more)["spec"]["containers"][0]
    return container


def template(spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    record = build.deployment(spec=spec)
    serving = build.serving(SharingMode.MPS, 2, **more)
    return pod_template(record, build.spec_of(record), serving, HERE)


def test_no_upgrade_restarts_an_engine_unawares() -> None:
    """The recorded hashes may change only in a release whose notes say that engines restart."""
    (recorded,) = yaml.safe_load_all(HASHES.read_text())
    assert cases.golden()["template-hashes"] == [recorded]


UNTOUCHED: dict[str, dict[str, Any]] = {
    "a label": {"labels": {"team": "a"}},
    "an annotation": {"annotations": {"note": "b"}},
    "a new generation": {"generation": 7},
    "a new resource version": {"resource_version": "99"},
    "a new uid": {"uid": "other"},
}


@pytest.mark.parametrize("case", UNTOUCHED)
def test_change_outside_spec_and_advice_restarts_no_engine(case: str) -> None:
    record, read = build.deployment(), build.deployment_spec()
    changed = replace(record, meta=replace(record.meta, **UNTOUCHED[case]))
    status = replace(changed, status={"phase": "Ready", "readyReplicas": 2})
    serving = build.serving(SharingMode.MPS, 2)
    made = [pod_template(one, read, serving, HERE) for one in (changed, status)]
    assert made == [template(), template()]


def test_new_profile_of_same_advice_is_named_and_restarts_none() -> None:
    record, read = build.deployment(), build.deployment_spec()
    serving = build.serving(SharingMode.MPS, 2)
    first, second = (
        replicas(record, read, serving, build.replica_fleet(serving, 2, name)) for name in ("opt-1", "opt-2")
    )
    assert first["spec"] == second["spec"]
    assert second["metadata"]["annotations"][names.PROFILE_LABEL] == "opt-2"


def test_weights_a_few_bytes_apart_restart_nothing() -> None:
    assert template(weights_bytes=2_600_000_000) == template(weights_bytes=2_600_000_001)


def test_other_advice_is_visible_on_the_pod() -> None:
    seen = {template(batch_size=batch)["metadata"]["annotations"][names.ADVICE_ANNOTATION] for batch in (64, 96)}
    assert len(seen) == 2


def test_scaling_changes_no_pod() -> None:
    record, read = build.deployment(), build.deployment_spec()
    serving = build.serving(SharingMode.MPS, 2)
    made = [replicas(record, read, serving, build.replica_fleet(serving, count)) for count in (0, 1, 9)]
    assert len({str(one["spec"]["template"]) for one in made}) == 1


ROLLS = {
    "all slices taken: one goes before one comes": (False, {"maxSurge": 0, "maxUnavailable": 1}),
    "a slice to spare: one comes before one goes": (True, {"maxSurge": 1, "maxUnavailable": 0}),
}


@pytest.mark.parametrize("case", ROLLS)
def test_rolling_update_of_a_spare_slot(case: str) -> None:
    spare, rolling = ROLLS[case]
    record, read = build.deployment(), build.deployment_spec()
    serving = build.serving(SharingMode.MPS, 2)
    made = replicas(record, read, serving, build.replica_fleet(serving, spare_slot=spare))
    assert made["spec"]["strategy"]["rollingUpdate"] == rolling


def test_engine_has_5_min_of_silence_and_30_min_to_start() -> None:
    probes = engine()
    patience = {
        name: probes[name]["periodSeconds"] * probes[name]["failureThreshold"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert patience == {"startupProbe": 1800, "readinessProbe": 15, "livenessProbe": 300}
    assert all(probes[name]["httpGet"]["path"] == "/health" for name in patience)


def test_the_grace_period_is_longer_than_what_it_must_cover() -> None:
    made = template()["spec"]
    assert made["terminationGracePeriodSeconds"] > PRE_STOP_SECONDS + SHUTDOWN_SECONDS
    assert made["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == PRE_STOP_SECONDS


def test_the_queue_holds_one_batch_behind_the_one_that_runs() -> None:
    args = engine(batch_size=96)["args"]
    assert args[args.index("--max-num-queued-reqs") + 1] == "192"


HOST_MEMORY = {
    "weights not known": (None, "8Gi"),
    "a small model": (250_000_000, "8Gi"),
    "7 billion parameters in 16 bits": (14_000_000_000, "20Gi"),
}


@pytest.mark.parametrize("case", HOST_MEMORY)
def test_host_memory_follows_the_weights(case: str) -> None:
    weights_bytes, memory = HOST_MEMORY[case]
    made = resources("nvidia.com/gpu", weights_bytes)
    assert made["requests"] == made["limits"] == {"cpu": "2", "memory": memory, "nvidia.com/gpu": "1"}


def test_spread_over_hostnames_is_preferred_not_required() -> None:
    (spread,) = template()["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["nodeTaintsPolicy"] == "Honor"


@given(
    device_gib=st.integers(8, 192),
    engines_per_gpu=st.integers(1, 16),
    context=st.integers(100 << 20, 600 << 20),
    used=st.floats(0.0, 1.0),
)
def test_engines_starting_together_find_their_free_memory(
    device_gib: int, engines_per_gpu: int, context: int, used: float
) -> None:
    """The last one sees the least: all others have taken their whole slice, and its own context is made already."""
    device_bytes = device_gib * GIB
    slice_bytes = device_bytes // engines_per_gpu
    ledger = Ledger(
        device_bytes=device_bytes,
        weights_bytes=0,
        activation_peak_bytes=0,
        context_bytes=context,
        kv_bytes_per_token=1,
        kv_pool_bytes=0,
    )
    others = int(used * slice_bytes) * (engines_per_gpu - 1)
    free = device_bytes - others - context
    asked = default().fraction_while_serving(engines_per_gpu, ledger)
    # vLLM, v1/worker/utils.py, request_memory: ceil(total * utilization) must be free.
    assert -(-device_bytes * round(asked * 100) // 100) <= free or slice_bytes <= context + device_bytes // 100
