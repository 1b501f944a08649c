"""What one deployment needs of the fleet, derived from its spec and its advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.measurements import SharingMode

from slm_operator.api.profile import ENDED
from slm_operator.manifests.overlay import refused_fields
from slm_operator.manifests.replicas import advice_digest
from slm_operator.partitioning.base import SliceClass
from slm_operator.partitioning.node_slices import NODE_SLICES
from slm_operator.partitioning.pack_pod import PACK_POD
from slm_operator.planning.deployment.advising import Unadvisable, serving_of, slice_bytes_of
from slm_operator.planning.fleet.product import binding_of
from slm_operator.planning.fleet.tolerations import tolerations_of
from slm_operator.planning.views import Demand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.measurements import MeasurementDocument

    from slm_operator.advisor.advice import Advice
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.defaults import Kept
    from slm_operator.manifests.served import Served
    from slm_operator.planning.fleet.product import Binding
    from slm_operator.watch.records import DeploymentRecord, ProfileRecord

Place = tuple[str | None, "Mapping[str, str]", bool, str]
"""GPU product, labels of nodes, shared tenancy, who is to divide the GPU."""


def demand_of(
    deployment: DeploymentRecord,
    profile: ProfileRecord | None,
    advice: Advice | Unadvisable | None,
    served: Served | None = None,
) -> Demand | None:
    """The demand, or None while nothing can be said: broken, going, paused, or nothing decided and `served` before."""
    if deployment.spec is not None and deployment.spec.paused:
        return None
    return _advised(deployment, profile, advice, served) or _as_before(deployment, served)


def wanted_as_before(deployment: DeploymentRecord, served: Served) -> int | None:
    """The user's number, or what the operator keeps while nobody sets one. None: spec cannot be read."""
    if deployment.spec is None:
        return None
    given = deployment.spec.replicas
    kept = deployment.own_replicas if given is None else given
    return served.configuration.engines_per_gpu if kept is None else kept


def served_class(served: Served) -> SliceClass:
    """How a node is partitioned for what is served."""
    configuration = served.configuration
    return SliceClass(
        mode=SharingMode(configuration.sharing_mode),
        engines_per_gpu=configuration.engines_per_gpu,
        in_one_pod=served.pack is not None,
    )


def place_served(served: Served) -> Place:
    """On which nodes engines run that go on as they are."""
    way = PACK_POD if served.pack is not None else NODE_SLICES
    return served.product, served.node_selector, served.shared_tenancy, way.name


def tolerations_given(spec: SLMDeploymentSpec, kept: Kept | None) -> list[dict[str, Any]]:
    """Those of spec, of the defaults and of the user's own template, as pods have them."""
    default = kept.values.tolerations if kept is not None else ()
    return [*(one.given() for one in (*spec.accelerator.tolerations, *default)), *_more_tolerations(spec)]


def _as_before(deployment: DeploymentRecord, served: Served | None) -> Demand | None:
    """The demand of replicas that go on, in the number that is wanted now."""
    if served is None or deployment.meta.deleting:
        return None
    replicas = wanted_as_before(deployment, served)
    if replicas is None:
        return None
    return Demand(
        deployment=deployment.meta.key,
        uid=deployment.meta.uid,
        slice_class=served_class(served),
        replicas=replicas,
        product=served.product,
        node_selector=dict(served.node_selector),
        tolerations=tolerations_of(served.tolerations),
        shared_tenancy=served.shared_tenancy,
        slice_bytes=served.slice_bytes,
        asked=place_served(served)[-1],
        runs=served_class(served),
    )


def _advised(
    deployment: DeploymentRecord,
    profile: ProfileRecord | None,
    advice: Advice | Unadvisable | None,
    served: Served | None,
) -> Demand | None:
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
        product=binding_for(spec, advice, profile.measurements, served).product,
        node_selector=dict(spec.accelerator.node_selector),
        tolerations=tolerations_of(tolerations_given(spec, deployment.defaults)),
        shared_tenancy=spec.sharing.tenancy == "Shared",
        slice_bytes=slice_bytes_of(advice, profile.measurements.ledger),
        asked=spec.sharing.partitioning,
        runs=None if served is None else served_class(served),
    )


def may_run_in_packs(spec: SLMDeploymentSpec, served: Served | None) -> bool:
    """Whether no node's label decides which sharing modes it can have. NB: what runs in slices stays there under Auto."""
    sharing = spec.sharing
    if sharing.tenancy == "Shared" or sharing.partitioning == NODE_SLICES.name:
        return False
    return sharing.partitioning == PACK_POD.name or not _runs_in_slices(served)


def _runs_in_slices(served: Served | None) -> bool:
    return served is not None and served.configuration.engines_per_gpu > 1 and served.pack is None


def slice_class_of(advice: Advice) -> SliceClass:
    """How a GPU must be divided for what is advised, whoever does it."""
    return SliceClass(mode=advice.configuration.sharing_mode, engines_per_gpu=advice.configuration.engines_per_gpu)


def binding_for(
    spec: SLMDeploymentSpec, advice: Advice, document: MeasurementDocument, served: Served | None
) -> Binding:
    """Where replicas of this advice may run."""
    return binding_of(spec, advice_digest(serving_of(spec.engine, advice, document)), document, served)


def place_of(spec: SLMDeploymentSpec, product: str | None) -> Place:
    """Which nodes this spec requests, of that product, and whether to itself."""
    sharing = spec.sharing
    return product, spec.accelerator.node_selector, sharing.tenancy == "Shared", sharing.partitioning


def place_asked(demand: Demand) -> Place:
    """The same of a demand: it may have been made for an earlier spec."""
    return demand.product, demand.node_selector, demand.shared_tenancy, demand.asked


def wanted_replicas(spec: SLMDeploymentSpec, advice: Advice) -> int:
    """The user's number, or one full pack."""
    return advice.configuration.engines_per_gpu if spec.replicas is None else spec.replicas


def _more_tolerations(spec: SLMDeploymentSpec) -> list[dict[str, Any]]:
    """Those of the user's own template, which are added to ours; of a template that is refused there are none."""
    overlay: dict[str, Any] = spec.pod_template or {}
    return [] if refused_fields(overlay) else (overlay.get("spec") or {}).get("tolerations") or []


def _ended(profile: ProfileRecord) -> bool:
    """Whether no more points will come: the search ended early, with what it had."""
    return profile.imported or profile.status.get("phase") in ENDED
