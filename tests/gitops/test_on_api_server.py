"""GitOps against a real API server: a new object is not healthy yet, and applying it again changes nothing."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.helm import ROOT
from tests.gitops.kstatus import kstatus
from tests.testbed.cluster import apply_crds
from tests.testbed.gotools import binary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.control_plane
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


def of_keda(manifest: dict[str, Any]) -> bool:
    """An object of the one kind in the examples that Kubernetes itself does not serve."""
    return str(manifest["apiVersion"]).startswith("keda.sh/")


@pytest.fixture
def plane(control_plane: ControlPlane) -> ControlPlane:
    apply_crds(control_plane, ROOT / "crds")
    return control_plane


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_new_object_is_in_progress_and_reapply_changes_nothing(
    plane: ControlPlane, namespace: str, example: Path, tmp_path: Path
) -> None:
    served = tmp_path / example.name
    served.write_text(yaml.safe_dump_all(one for one in yaml.safe_load_all(example.read_text()) if not of_keda(one)))
    where = ("--namespace", namespace, "-f", str(served))
    made = plane.kubectl("apply", "--server-side", "--field-manager=flux", *where, "-o", "json")
    found = json.loads(made)
    for one in found.get("items", [found]):
        if one["apiVersion"].startswith("slm-operator.io/"):
            assert kstatus(one) == "InProgress", "before the operator has looked at it, nothing may pass for healthy"
    done = subprocess.run(
        [
            *(binary("kubectl"), f"--kubeconfig={plane.kubeconfig}", "diff", "--server-side"),
            *("--field-manager=flux", *where),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
