"""What `kubectl slm check` says of doors that an administrator may close: each is a value of the chart, and off by default where it needs to know the cluster.

Seen by what the chart has made, and in the operator's settings. Must never call an open door a fault: what serves behind a
gateway, in namespaces of one team, may need none of them closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.findings import ASK, Answer, ok, warning
from slm_operator.kube.resources import ADMISSION_POLICY, NETWORK_POLICY, RESOURCE_QUOTA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slm_operator.cli.cluster import Cluster
    from slm_operator.cli.preflight.facts import Facts
    from slm_operator.settings import Settings

    Check = Callable[[Facts], Answer | None]

OF_ENGINES, OF_SLICES = "-engines", "-slices"
"""How what the chart makes for engines and for slices is named, after its release; what is about the operator has other names."""
RESTRICTED = "node-restriction.kubernetes.io/"
"""Domain of labels that no kubelet may set on its own node. Source: Kubernetes, NodeRestriction admission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the chart has made."""

    admission: bool = True
    """Policies for the operator's own token."""
    allowed_engines: bool = True
    """A policy of what engines may be."""
    allowed_slices: bool = True
    """A policy of who may ask for slices."""
    operators_network: bool = True
    """A NetworkPolicy of the operator's pods."""
    engines_network: bool = True
    """One of engines, in some namespace."""
    quota: bool = True
    """A quota, in some namespace."""


async def doors(cluster: Cluster, selector: str) -> Doors:
    """Look for them. `selector`: of the chart's objects."""
    policies = _names(await cluster.client.list(ADMISSION_POLICY, selector=selector))
    networks = _names(await cluster.client.list(NETWORK_POLICY, selector=selector))
    return Doors(
        admission=any(not name.endswith((OF_ENGINES, OF_SLICES)) for name in policies),
        allowed_engines=any(name.endswith(OF_ENGINES) for name in policies),
        allowed_slices=any(name.endswith(OF_SLICES) for name in policies),
        operators_network=any(not name.endswith(OF_ENGINES) for name in networks),
        engines_network=any(name.endswith(OF_ENGINES) for name in networks),
        quota=bool(await cluster.client.list(RESOURCE_QUOTA, selector=selector)),
    )


def _names(raws: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(raw["metadata"]["name"] for raw in raws)


def _open(facts: Facts) -> Answer | None:
    seen = facts.doors
    if isinstance(facts.operators, Unseen) or not facts.operators or seen is None:
        return None
    if isinstance(seen, Unseen) or facts.settings_doubt:
        why = f"no right to {seen.right}" if isinstance(seen, Unseen) else facts.settings_doubt
        return warning(f"which doors are open is not known: {why}", ASK)
    secure = all(one.secure_metrics for one in facts.operators)
    left = [value for value, is_closed in _closed(seen, facts.settings, secure_metrics=secure).items() if not is_closed]
    if not left:
        return ok("every one that the chart has is closed")
    return ok(f"open, each a value of the chart: {'; '.join(left)}")


def _closed(seen: Doors, settings: Settings, *, secure_metrics: bool) -> dict[str, bool]:
    """Each value of the chart that closes a door: does it? In the mode for namespaces nothing is made for a whole cluster, and no node is touched."""
    tenancy, bound = settings.tenancy, bool(settings.namespaces)
    return {
        "policy.enabled (what the operator's token may write)": seen.admission or bound,
        "policy.engines.images (what engines may be)": seen.allowed_engines or bound,
        "policy.slices.enabled (who may ask for slices of GPUs)": seen.allowed_slices or bound,
        "networkPolicy.enabled (whom the operator may speak with)": seen.operators_network,
        "networkPolicy.engines.namespaces (who may ask engines)": seen.engines_network,
        "metrics.secure.enabled (who may read the operator's figures)": secure_metrics,
        "config.defaults.readOnlyRootFilesystem (what engines may write)": settings.defaults.read_only_root_filesystem,
        f"config.nodes.optInLabel below {RESTRICTED} (who may opt a node in)": bound
        or settings.nodes.opt_in_label.startswith(RESTRICTED),
        "config.tenancy.maxNodesPerNamespace (how many nodes are partitioned for one namespace)": bound
        or tenancy.max_nodes_per_namespace is not None,
        "config.tenancy.maxProfilesPerNamespace (how many profiles of one namespace run at once)": tenancy.max_profiles_per_namespace
        is not None,
        "quota.namespaces (how many objects a namespace may have)": seen.quota,
    }


DOOR_CHECKS: tuple[tuple[str, Check], ...] = (("Doors", _open),)
