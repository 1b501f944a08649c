"""What one deployment needs of the fleet, derived from its spec and its advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.manifests.overlay import refused_fields
from slm_operator.manifests.profile import profile_key
from slm_operator.partitioning.base import SliceClass
from slm_operator.planning.deployment.advising import Unadvisable, slice_bytes_of
from slm_operator.planning.fleet.tolerations import tolerations_of
from slm_operator.planning.views import Demand

if TYPE_CHECKING:
    from slm_operator.advisor.advice import Advice
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.watch.records import DeploymentRecord, ProfileRecord

__all__ = ["demand_of", "profile_key", "slice_class_of", "wanted_replicas", "wants_same_nodes"]


def demand_of(
    deployment: DeploymentRecord, profile: ProfileRecord | None, advice: Advice | Unadvisable | None
) -> Demand | None:
    """The demand, or None while nothing can be said: broken, going, unmeasured, or held back by its SLO policy."""
    spec = deployment.spec
    if spec is None or deployment.meta.deleting or profile is None or profile.measurements is None:
        return None
    if not profile.measurements.complete and not _ended(profile):
        return None
    if advice is None or isinstance(advice, Unadvisable) or (not advice.feasible and spec.slo.on_infeasible == "Hold"):
        return None
    return Demand(
        deployment=deployment.meta.key,
        uid=deployment.meta.uid,
        slice_class=slice_class_of(advice),
        replicas=wanted_replicas(spec, advice),
        product=spec.accelerator.product,
        node_selector=dict(spec.accelerator.node_selector),
        tolerations=tolerations_of([*(one.given() for one in spec.accelerator.tolerations), *_more_tolerations(spec)]),
        shared_tenancy=spec.sharing.tenancy == "Shared",
        slice_bytes=slice_bytes_of(advice, profile.measurements.ledger),
    )


def slice_class_of(advice: Advice) -> SliceClass:
    """How a node must be partitioned for what is advised."""
    return SliceClass(mode=advice.configuration.sharing_mode, engines_per_gpu=advice.configuration.engines_per_gpu)


def wants_same_nodes(spec: SLMDeploymentSpec, demand: Demand) -> bool:
    """Whether a demand was made for the same kind of nodes, and the same tenancy, as this spec requests."""
    place = spec.accelerator.product, spec.accelerator.node_selector, spec.sharing.tenancy == "Shared"
    return place == (demand.product, demand.node_selector, demand.shared_tenancy)


def wanted_replicas(spec: SLMDeploymentSpec, advice: Advice) -> int:
    """The user's number, or one full pack."""
    return advice.configuration.engines_per_gpu if spec.replicas is None else spec.replicas


def _more_tolerations(spec: SLMDeploymentSpec) -> list[dict[str, Any]]:
    """Those of the user's own template, which are added to ours; of a template that is refused there are none."""
    overlay: dict[str, Any] = spec.pod_template or {}
    return [] if refused_fields(overlay) else (overlay.get("spec") or {}).get("tolerations") or []


def _ended(profile: ProfileRecord) -> bool:
    """Whether no more points will come: the search ended early, with what it had."""
    return profile.imported or profile.status.get("phase") in {"Complete", "Failed"}
