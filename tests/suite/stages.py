"""What `make test` runs: the stages, and which of them go one after the other.

Three lanes, because most tests wait more than they compute: the operator on its kind node, the control planes, and the
rest. Where a stage fails, the others go on. A stage must not need that another one has passed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

GOTOOLS = (sys.executable, "-m", "tests.testbed.gotools")
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q")


@dataclass(frozen=True, slots=True)
class Stage:
    """One command. Its tests tell of themselves by `reporting`."""

    name: str
    command: tuple[str, ...]


LANES: dict[str, tuple[Stage, ...]] = {
    "node": (
        Stage("node-tools", (*GOTOOLS, "kubeadm", "etcd", "coredns", "kind", "helm")),
        Stage("operator", (*PYTEST, "tests/e2e")),
    ),
    "planes": (
        Stage("tools", GOTOOLS),
        Stage("control-plane", (*PYTEST, "-m", "control_plane")),
    ),
    "rest": (
        Stage("check", ("make", "--no-print-directory", "check")),
        Stage("engine", (*PYTEST, "tests/vllm")),
        Stage("slow", (*PYTEST, "-m", "slow and not control_plane and not kind and not vllm")),
        Stage("kind", (*PYTEST, "-m", "kind", "--ignore=tests/e2e")),
    ),
}
