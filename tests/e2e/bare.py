"""The node with `nvidia.com/gpu` and nothing else: no opt-in, no configuration, no feature discovery.

    with bare(stage): ...

It is what a team is given that has no rights on nodes, and where a pack can only be served in a pod.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.standin.deployment import GPU_NODE_LABEL, objects
from tests.standin.deployment import NAMESPACE as PLUGIN_NAMESPACE
from tests.standin.settings import Hardware
from tests.testbed.stage import STANDIN_IMAGE

from .serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

PRODUCT = "nvidia.com/gpu.product"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@contextlib.contextmanager
def bare(stage: Stage, gpus: int = 1) -> Iterator[None]:
    """The device plugin alone, with so many GPUs; afterwards the full stack again, with one."""
    kubectl, node = stage.cluster.kubectl, stage.cluster.node
    until(lambda: PRODUCT in _told(stage), timeout_s=240)
    _remove_stack(stage)
    plugin = objects(image=STANDIN_IMAGE, hardware=Hardware(count=gpus), config_manager=False)
    stage.apply(*(one for one in plugin if not _discovers(one)))
    kubectl("label", "node", node, "slm-operator.io/managed-", *(f"{name}-" for name in _told(stage)))
    stage.wait_for_plugin(gpus)
    yield
    _remove_stack(stage)
    stage.install_gpu()
    # NB: who asks for slices before feature discovery has spoken gets a pack in a pod, and keeps it.
    until(lambda: PRODUCT in _told(stage), timeout_s=240)


def restricted_namespace(stage: Stage, name: str) -> None:
    """A namespace under the restricted Pod Security Standard, with the model."""
    stage.cluster.kubectl("create", "namespace", name)
    stage.cluster.kubectl("label", "namespace", name, RESTRICTED)
    stage.provide_model(name)


def _told(stage: Stage) -> set[str]:
    """What feature discovery and the operator have written on the node."""
    known = stage.get("node", stage.cluster.node)["metadata"]["labels"]
    return {name for name in known if name.startswith("nvidia.com/") and name not in GPU_NODE_LABEL}


def _remove_stack(stage: Stage) -> None:
    daemon_sets = ("daemonset", "--all", "--namespace", PLUGIN_NAMESPACE)
    stage.cluster.kubectl("delete", *daemon_sets, "--cascade=foreground")


def _discovers(made: dict[str, Any]) -> bool:
    return made["kind"] == "DaemonSet" and "feature-discovery" in made["metadata"]["name"]
