"""Nothing of a kind cluster stays behind, and a failed test finds its logs. What runs on one is every other test's to say."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.kind.isolated_engine import state_of_the_machine
from tests.testbed.cluster import log_tails
from tests.testbed.docker_engine import running_engine, users
from tests.testbed.gotools import binary
from tests.testbed.kind import KindCluster, attach

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("ended_by", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_private_engine_leaves_nothing_however_its_user_ends(ended_by: str) -> None:
    if running_engine() is not None:
        pytest.skip("this machine has a Docker engine, so none is started")
    # NB: not tmp_path, whose name is too long for containerd's sockets.
    with tempfile.TemporaryDirectory(prefix="slm-") as cache:
        done = subprocess.run(
            [
                "unshare",
                "--net",
                "--mount",
                sys.executable,
                "-m",
                "tests.kind.isolated_engine",
                ended_by,
                binary("etcd"),
            ],
            cwd=ROOT,
            env=os.environ | {"SLM_CACHE": cache},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert reported["started"] == "running\n"
    for what in ("processes", "mounts", "interfaces", "rules", "control groups", "engine folders", "kernel settings"):
        assert reported["during"][what] != reported["before"][what], (
            f"{what}: nothing to clean up, so nothing was shown"
        )
    if ended_by == "SIGKILL":
        assert reported["after"] != reported["before"]  # nobody could clean up, until the next user came
    else:
        assert reported["after"] == reported["before"]
    assert reported["containers of the next"] == ""
    assert reported["after the next"] == reported["before"]


def test_cluster_up_keeps_a_cluster_and_cluster_down_ends_it() -> None:
    if attach() is not None:
        pytest.skip("somebody plays with the cluster that `make cluster-up` left")
    before = state_of_the_machine()
    try:
        printed = run_testbed("up")
        kept = attach()
        assert kept is not None
        assert printed == f"export KUBECONFIG={kept.kubeconfig}\n"
        assert "Ready" in kept.kubectl("get", "nodes")
        assert run_testbed("up") == printed  # the same one
    finally:
        run_testbed("down")
    assert attach() is None
    after = state_of_the_machine()
    # Somebody else's engine and clusters may have come and gone meanwhile.
    assert kept.name not in after["clusters"] if users() else after == before


def run_testbed(what: str) -> str:
    command = [sys.executable, "-m", "tests.testbed", what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_logs_hold_the_journal_and_every_container(kind_cluster: KindCluster) -> None:
    assert log_tails(kind_cluster).keys() == {"node", "kubelet", "containerd"}
    assert any("kube-apiserver" in path.name for path in (kind_cluster.logs / "pods").iterdir())
