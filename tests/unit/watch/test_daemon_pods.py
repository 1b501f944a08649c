"""Pods of NVIDIA's MPS daemon: it is its own container that is ready and has started, whatever its neighbour does."""

from typing import Any

import pytest
from slm_operator.watch.projection import daemons_of
from slm_operator.watch.records import Cause, DaemonPodRecord

from tests.standin.deployment import NAMESPACE, pod_of
from tests.standin.releases import CHART, CHART_CORRECTED, GPU_OPERATOR, GPU_OPERATOR_BEFORE, Release

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
RUNS_SINCE_LATE = {"ready": True, "state": {"running": {"startedAt": LATE}}}
BACK_OFF = {"ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}


def seen(release: Release, sidecar: dict[str, Any], daemon: dict[str, Any], ready: str = "False") -> DaemonPodRecord:
    """A pod of the MPS daemon as the kubelet reports it."""
    spec = pod_of("mps-control-daemon", release)
    states = {one["name"]: daemon if one["name"] == "mps-control-daemon-ctr" else sidecar for one in spec["containers"]}
    status = {
        "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": [{"name": name} | state for name, state in states.items()],
    }
    record = daemons_of(NAMESPACE)({"metadata": {"namespace": NAMESPACE, "name": "p"}, "spec": spec, "status": status})
    assert record is not None
    return record


DAEMON_RUNS = {"ready": True, "state": {"running": {"startedAt": EARLY}}}


@pytest.mark.parametrize("release", [CHART, GPU_OPERATOR], ids=["chart", "GPU Operator"])
def test_a_daemon_beside_a_sidecar_in_back_off_is_ready(release: Release) -> None:
    record = seen(release, BACK_OFF, DAEMON_RUNS)
    assert (record.ready, record.started) == (True, EARLY)
    assert record.waiting == Cause("CrashLoopBackOff")


def test_a_daemon_that_does_not_run_is_not_ready() -> None:
    record = seen(CHART, RUNS_SINCE_LATE, BACK_OFF, ready="True")
    assert (record.ready, record.started) == (False, None)


@pytest.mark.parametrize(
    ("release", "started"),
    [(CHART, EARLY), (GPU_OPERATOR_BEFORE, EARLY), (CHART_CORRECTED, LATE)],
    ids=["no signal arrives", "it waits for the label", "its signals restart the daemon"],
)
def test_a_sidecar_s_restart_counts_where_it_restarts_the_daemon(release: Release, started: str) -> None:
    assert seen(release, RUNS_SINCE_LATE, DAEMON_RUNS, ready="True").started == started


def test_the_plugin_s_pod_is_ready_as_its_kubelet_says() -> None:
    raw = {
        "metadata": {"namespace": NAMESPACE, "name": "p"},
        "spec": pod_of("device-plugin", CHART),
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    record = daemons_of(NAMESPACE)(raw)
    assert record is not None
    assert record.ready
    assert record.config_manager is not None
    assert record.config_manager.version == (0, 20, 0)


def test_what_pods_have_in_common_is_kept_once() -> None:
    one, other = seen(CHART, BACK_OFF, DAEMON_RUNS), seen(CHART, BACK_OFF, DAEMON_RUNS)
    assert one.config_manager is other.config_manager
    assert all(mine is theirs for mine, theirs in zip(one.containers, other.containers, strict=True))
