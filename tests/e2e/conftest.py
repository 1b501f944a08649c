"""The stage for end-to-end tests: one kind node with the stand-in GPU, the operator installed by its chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from slm_operator.api.names import GROUP

from tests.testbed.stage import OPERATOR_NAMESPACE, Stage

from .bare import restricted_namespace
from .first import NAMESPACE
from .serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.kind import KindCluster

# Shorter than the minute that a kubelet may take: a key that is not there yet ends the sidecar, which starts again.
FAST = ("config.nodes.projectionSeconds=15", "config.nodes.convergenceSeconds=120")
READ_ONLY = "config.defaults.readOnlyRootFilesystem=true"
"""Off by default because no GPU has run it: here the real engine serves so, on CPU."""


@pytest.fixture(scope="session")
def stage(kind_cluster: KindCluster) -> Iterator[Stage]:
    made = Stage(kind_cluster, print)
    made.build_images()
    made.install_gpu()
    made.install_operator(*FAST)
    yield made
    made.helm("uninstall", "slm-operator", "--namespace", OPERATOR_NAMESPACE, "--wait")


@pytest.fixture(scope="session")
def first_namespace(stage: Stage) -> Iterator[str]:
    """Where the example with the real engine is applied: restricted, with the model, and with its profile once it is measured."""
    restricted_namespace(stage, NAMESPACE)
    yield NAMESPACE
    stage.cluster.kubectl("delete", "namespace", NAMESPACE)


def node_at_rest(stage: Stage) -> dict[str, dict[str, str]]:
    """The node's marks once the operator has taken its own away: after an earlier test it may be giving the node back."""
    seen: dict[str, dict[str, str]] = {}

    def is_at_rest() -> bool:
        seen.update(node_marks(stage))
        return not any(name.startswith(f"{GROUP}/") for marks in seen.values() for name in marks)

    until(is_at_rest, timeout_s=240)
    return seen


def node_marks(stage: Stage) -> dict[str, dict[str, str]]:
    """Labels, annotations and taints of the node, without those that Kubernetes and the stand-in keep changing."""
    node = stage.get("node", stage.cluster.node)
    labels = {name: value for name, value in node["metadata"]["labels"].items() if name != "nvidia.com/gfd.timestamp"}
    return {
        "labels": labels,
        "annotations": dict(node["metadata"].get("annotations", {})),
        "taints": {
            taint["key"]: taint["effect"]
            for taint in node["spec"].get("taints", [])
            if not taint["key"].startswith("node.kubernetes.io/")
        },
    }


LAST = ("test_first_pack.py", "test_first_answer.py", "test_rbac.py")
"""The real engine computes for minutes, which goes faster once the other lanes are done; and the RBAC audit reads the log of
all other tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In order of files, but for the last ones."""
    items.sort(key=lambda item: LAST.index(item.path.name) if item.path.name in LAST else -1)
