"""What the tests of faults share: a bed with an operator that is kept running, and two deployments that serve on it."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.scale_figures import environment
from tests.control_plane.fault_bed import COMMAND, Bed, Keeper, kept_outcomes
from tests.control_plane.fault_proxy import fault_proxy
from tests.control_plane.gpu_fleet import add_gpu_nodes, install, plugins, slm_deployment, slm_profile
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
