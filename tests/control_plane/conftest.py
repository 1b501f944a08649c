"""What several tests share: a bed for faults with an operator that is kept running, and a stage on which profiles live."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.provenance import environment
from tests.control_plane.fault_bed import COMMAND, Bed, Keeper, kept_outcomes
from tests.control_plane.fault_proxy import fault_proxy
from tests.control_plane.gpu_fleet import add_gpu_nodes, install, plugins, slm_deployment, slm_profile
from tests.control_plane.profile_stage import Stage
from tests.testbed.control_plane import ControlPlane

# NB: at the addresses that kwok gives its pods nobody of ours answers, so nobody is to be asked there.
SETTINGS = "nodes: {maxChanging: 100, projectionSeconds: 0}\nwatch: {intervalSeconds: 0}\n"


@pytest.fixture(scope="module")
def bed(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "settings.yaml").write_text(SETTINGS)
    install(control_plane)
    add_gpu_nodes(control_plane, 6, gpus=4, prefix="faulty")
    with plugins(control_plane), fault_proxy(control_plane, folder) as proxy:
        keeper = Keeper(control_plane, (f"--config={folder}/settings.yaml",), proxy.kubeconfig)
        found = Bed(control_plane, proxy, keeper)
        with keeper.at_work():
            yield found
        control_plane.kubectl("delete", "nodes", "--selector=slm-operator.io/managed", "--wait=false")
        control_plane.kubectl("delete", "lease/slm-operator", "--ignore-not-found")
    if "SLM_RECORD" in os.environ:
        path, about = Path(os.environ["SLM_RECORD"]), environment() | {"command": COMMAND}
        outcomes = kept_outcomes(path, about, [asdict(one) for one in found.outcomes])
        path.write_text(json.dumps({"about": about, "outcomes": outcomes}, indent=1) + "\n")


@pytest.fixture
def served(bed: Bed, namespace: str) -> Iterator[str]:
    """A namespace with two deployments that serve."""
    bed.apply(namespace, slm_profile("measured"))
    for name in ("kept", "deleted"):
        bed.apply(namespace, slm_deployment(name, "measured"))
    bed.ready(namespace, {"kept", "deleted"})
    yield namespace
    bed.proxy.faults.clear()
    bed.plane.kubectl("delete", "slmd,slmp", "--all", "--namespace", namespace, "--wait=false")


@pytest.fixture(scope="module")
def profile_plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    install(control_plane)
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    classes = [
        kind | {"metadata": {"name": "profiles"}, "value": -10, "preemptionPolicy": "Never"},
        kind | {"metadata": {"name": "replicas"}, "value": 10},
    ]
    both = {"apiVersion": "v1", "kind": "List", "items": classes}
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(both))
    yield control_plane
    control_plane.kubectl("delete", "priorityclass", "profiles", "replicas")


@pytest.fixture
def stage(profile_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Stage]:
    profile_plane.write_pod_log("")
    made = Stage(profile_plane, namespace, tmp_path)
    yield made
    profile_plane.write_pod_log("")
    made.kubectl("delete", "slmd,slmp,pods", "--all", "--force", "--grace-period=0")
    profile_plane.kubectl("delete", "nodes", "--selector=pool", "--wait=false")
    profile_plane.kubectl("delete", "lease/slm-operator", "--ignore-not-found")
