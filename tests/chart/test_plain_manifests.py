"""`kubectl apply -k config/default` on a real API server: taken, enforced, and without a difference the second time."""

import subprocess

import pytest

from tests.chart.helm import ROOT
from tests.control_plane.operator_process import wait_until
from tests.testbed.control_plane import ControlPlane
from tests.testbed.gotools import binary

pytestmark = pytest.mark.control_plane


@pytest.fixture
def applied(control_plane: ControlPlane) -> ControlPlane:
    made = control_plane.kubectl("create", "namespace", "nvidia-device-plugin", "--dry-run=client", "--output=yaml")
    control_plane.kubectl("apply", "--filename", "-", stdin=made)
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "config/default"))
    return control_plane


def test_second_apply_of_plain_manifests_changes_nothing(applied: ControlPlane) -> None:
    def is_none_left() -> bool:
        """NB: kubectl asks twice for each object, and controllers still write the status of what was just applied."""
        print(found := difference(applied))
        return not found

    wait_until(is_none_left, timeout_s=60)


def difference(plane: ControlPlane) -> str:
    done = subprocess.run(
        [
            *(binary("kubectl"), f"--kubeconfig={plane.kubeconfig}", "diff", "--server-side"),
            *("-k", str(ROOT / "config/default")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


def test_restricted_namespace_admits_the_operators_pods(applied: ControlPlane) -> None:
    inside = ("--namespace", "slm-system")
    labels = applied.kubectl("get", "namespace", "slm-system", "-o", "jsonpath={.metadata.labels}")
    assert '"pod-security.kubernetes.io/enforce":"restricted"' in labels
    wanted = "--for=jsonpath={.status.replicas}=2"  # no node runs them here: that both were admitted is what counts
    applied.kubectl("wait", "deployment/slm-operator", wanted, "--timeout=240s", *inside)
