"""A cluster in which one model is served and another is being measured: each status is what the planners write.

For the documentation, which shows what commands say of it. No status is written here by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.views import Assignment

from tests import builders as build
from tests.unit.cli.cluster_objects import TEAM
from tests.unit.planning.lives import Life

if TYPE_CHECKING:
    from slm_operator.planning.views import DeploymentView
    from slm_operator.watch.records import Meta

CHAT = {"model": {"uri": "hf://facebook/opt-1.3b"}, "slo": {"itl": {"maxMs": 30}}, "replicas": 2}
CODE = {"model": {"uri": "hf://facebook/opt-2.7b"}}


def served_cluster() -> dict[str, Any]:
    """The API server's answers, by path."""
    chat, measured = _served()
    code, measuring = _measured_now()
    deployments = [_raw(one.deployment.meta, _status(one)) for one in (chat, code)]
    return {
        f"{TEAM}/slmdeployments": {"items": deployments},
        f"{TEAM}/slmdeployments/chat": deployments[0],
        f"{TEAM}/slmprofiles": {"items": [measured, measuring]},
    }


def _served() -> tuple[DeploymentView, dict[str, Any]]:
    """From the published measurements, by a pack of two on one GPU, both engines ready."""
    record = build.deployment("chat", CHAT)
    profile = build.profile(record, build.published("opt-1.3b", *build.SWEEP_AND_PACKS))
    life = Life(profile=profile)
    life.look()
    wants = demand_of(record, profile, advice_of(record, profile))
    assert wants is not None
    pods = (build.replica(f"chat-{i}", ready=True, resource_health={f"GPU-8c2b0f0d::{i}": "Healthy"}) for i in (0, 1))
    view = build.deployment_view(
        record,
        profile,
        assignment=Assignment(nodes=("gpu-1",), slots=2, slice_class=wants.slice_class),
        workload=build.workload("chat", replicas=2, ready=2),
        pods=tuple(pods),
    )
    return view, _raw(profile.meta, life.status)


def _measured_now() -> tuple[DeploymentView, dict[str, Any]]:
    """Its profile has a GPU, and its first point is measured."""
    record = build.deployment("code", CODE)
    life = Life(profile=build.profile(record))
    life.look()
    life.gets_a_gpu()
    life.prints(point=1, doing="measuring B=1: T(1) is what efficiency is held against", gpu_seconds=94.0)
    life.look()
    return build.deployment_view(record, life.profile), _raw(life.profile.meta, life.status)


def _status(view: DeploymentView) -> dict[str, Any]:
    actions = plan_deployment(view, build.SETTINGS, build.NOW).actions
    return next(dict(action.status) for action in actions if isinstance(action, WriteStatus))


def _raw(meta: Meta, status: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": meta.key.name, "namespace": meta.key.namespace}, "status": status}
