"""What enforces NetworkPolicy on a kind node: kube-router's firewall, for the node's own network has nothing that does.

    with network_policies(stage):
        the policies that are there hold

Exists because a policy that nothing enforces lets everybody through, and so a test of it would pass without it. Assumes that pods are
routed (the node's CNI is `ptp`), so that what one sends to another passes the node's iptables. Must not be left: rules stay in a node's kernel.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from .gotools import binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .stage import Stage

FOLDER = Path(__file__).with_name("kube_router")
IMAGE = "slm-operator/kube-router:test"
POD = "kube-router"
NAMESPACE = "kube-system"
FORGET = "iptables-save | grep --invert-match -e KUBE-ROUTER -e KUBE-POD-FW -e KUBE-NWPLCY | iptables-restore"
"""NB: its own --cleanup-config leaves the rules in 2.1."""


@contextlib.contextmanager
def network_policies(stage: Stage) -> Iterator[None]:
    """Enforced from here on; afterwards the node's rules are gone. The first build takes minutes."""
    _provide_image(stage)
    manifests = list(yaml.safe_load_all((FOLDER / "kube-router.yaml").read_text()))
    kubectl = stage.cluster.kubectl
    try:
        stage.apply(*manifests)
        kubectl("wait", f"pod/{POD}", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=240s")
        yield
    finally:
        kubectl("delete", "--ignore-not-found", "--filename", "-", stdin=yaml.safe_dump_all(manifests))
        stage.cluster.exec("bash", "-c", FORGET)


def _provide_image(stage: Stage) -> None:
    with tempfile.TemporaryDirectory(prefix="slm-kube-router-") as context:
        for path in (FOLDER / "Dockerfile", binary(POD)):
            shutil.copy2(path, context)
        stage.cluster.build(Path(context, "Dockerfile"), Path(context), IMAGE)
    stage.cluster.load_image(IMAGE)
