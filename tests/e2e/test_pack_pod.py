"""A pack in a pod, on a cluster that has one `nvidia.com/gpu` and nothing else: no opt-in, no configuration, no feature discovery."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests import builders as build
from tests.standin.deployment import GPU_NODE_LABEL, objects
from tests.standin.deployment import NAMESPACE as PLUGIN_NAMESPACE
from tests.testbed.stage import STANDIN_IMAGE

from .light import applied, import_profile, light, wait_until_ready
from .load import POD, place_client, steady_load
from .serving import TOKEN_MS, assert_nothing_lost, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

NAMESPACE = "pack-pod"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@pytest.fixture
def bare(stage: Stage) -> Iterator[Stage]:
    """The device plugin alone, and a namespace under the restricted standard; the full stack again afterwards."""
    kubectl = stage.cluster.kubectl
    kubectl("delete", "daemonset", "--all", "--namespace", PLUGIN_NAMESPACE, "--cascade=foreground")
    stage.apply(*(one for one in objects(image=STANDIN_IMAGE, config_manager=False) if not _discovers(one)))
    known = stage.get("node", stage.cluster.node)["metadata"]["labels"]
    told = [name for name in known if name.startswith("nvidia.com/") and name not in GPU_NODE_LABEL]
    kubectl("label", "node", stage.cluster.node, "slm-operator.io/managed-", *(f"{name}-" for name in told))
    stage.wait_for_plugin()
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, RESTRICTED)
    stage.provide_model(NAMESPACE)
    import_profile(stage, NAMESPACE, document=build.published("opt-1.3b"))  # with a ledger: a pack needs its KV bytes
    place_client(stage)
    yield stage
    kubectl("delete", "namespace", POD)
    kubectl("delete", "namespace", NAMESPACE, timeout_s=240)
    kubectl("delete", "daemonset", "--all", "--namespace", PLUGIN_NAMESPACE, "--cascade=foreground")
    stage.install_gpu()


def _discovers(made: dict[str, Any]) -> bool:
    return made["kind"] == "DaemonSet" and "feature-discovery" in made["metadata"]["name"]


def asked(**spec: Any) -> dict[str, Any]:
    base = {
        "engine": {"env": [TOKEN_MS]},
        "profiling": {"profileRef": {"name": "imported"}},
        "slo": {"itl": {"maxMs": 12}},
        "replicas": 2,
    }
    return light("chat", **(base | spec))


def status(stage: Stage) -> dict[str, Any]:
    return dict(stage.get("slmd", "chat", NAMESPACE).get("status") or {})


def pods(stage: Stage) -> list[dict[str, Any]]:
    chosen = ("--selector", "slm-operator.io/deployment=chat")
    listed = stage.cluster.kubectl("get", "pods", "--namespace", NAMESPACE, *chosen, "--output", "json")
    found: list[dict[str, Any]] = json.loads(listed)["items"]
    return found


def test_a_pack_is_served_and_changed_where_nothing_opted_in(bare: Stage) -> None:
    with applied(bare, NAMESPACE, asked()):
        wait_until_ready(bare, NAMESPACE, "chat")
        said = status(bare)
        assert (said["sharing"]["partitioning"], said["sharing"]["reason"]) == ("PackPod", "NoNodeFits")
        assert (said["replicas"], said["readyReplicas"], said["sharing"]["pods"]) == (2, 2, 1)
        (before,) = pods(bare)
        with steady_load(bare, NAMESPACE, "chat") as load:
            change = json.dumps({"spec": {"slo": {"itl": {"maxMs": 8}}}})
            bare.cluster.kubectl("patch", "slmd", "chat", "--namespace", NAMESPACE, "--type=merge", "--patch", change)
            until(lambda: _is_announced(bare), timeout_s=120)
            until(lambda: _is_followed(bare, before["metadata"]["uid"]), timeout_s=240)
            wait_until_ready(bare, NAMESPACE, "chat")
        assert_nothing_lost(load.account, outage=True)


def _is_announced(stage: Stage) -> bool:
    return any(one["reason"] == "ReplacedInPlace" for one in status(stage)["conditions"])


def _is_followed(stage: Stage, former: str) -> bool:
    found = pods(stage)
    return [one["metadata"]["uid"] for one in found] != [former] and len(found) == 1
