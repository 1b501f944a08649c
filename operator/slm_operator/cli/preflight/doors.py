"""What `kubectl slm check` says of doors that an administrator may close: each is a value of the chart, and off by default where it needs to know the cluster.

Seen by what the chart has made, and in the operator's settings. Must never call an open door a fault: what serves behind a
gateway, in namespaces of one team, may need none of them closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.findings import ASK, Answer, ok, warning
from slm_operator.kube.resources import ADMISSION_POLICY, NETWORK_POLICY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slm_operator.cli.cluster import Cluster
    from slm_operator.cli.preflight.facts import Facts

    Check = Callable[[Facts], Answer | None]

OF_ENGINES = "-engines"
"""How the chart's NetworkPolicy of engines is named, after its release; the operator's has the release's name alone."""
RESTRICTED = "node-restriction.kubernetes.io/"
"""Domain of labels that no kubelet may set on its own node. Source: Kubernetes, NodeRestriction admission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the chart has made."""

    admission: bool = True
    """A policy for the operator's own token."""
    operators_network: bool = True
    """A NetworkPolicy of its pods."""
    engines_network: bool = True
    """One of engines, in some namespace."""


async def doors(cluster: Cluster, selector: str) -> Doors:
    """Look for them. `selector`: of the chart's objects."""
    policies = await cluster.client.list(ADMISSION_POLICY, selector=selector)
    networks = _names(await cluster.client.list(NETWORK_POLICY, selector=selector))
    return Doors(
        admission=bool(policies),
        operators_network=any(not name.endswith(OF_ENGINES) for name in networks),
        engines_network=any(name.endswith(OF_ENGINES) for name in networks),
    )


def _names(raws: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(raw["metadata"]["name"] for raw in raws)


def _open(facts: Facts) -> Answer | None:
    seen, settings = facts.doors, facts.settings
    if isinstance(facts.operators, Unseen) or not facts.operators or seen is None:
        return None
    if isinstance(seen, Unseen) or facts.settings_doubt:
        why = f"no right to {seen.right}" if isinstance(seen, Unseen) else facts.settings_doubt
        return warning(f"which doors are open is not known: {why}", ASK)
    closed = {
        "policy.enabled (what the operator's token may write)": seen.admission or bool(settings.namespaces),
        "networkPolicy.enabled (whom the operator may speak with)": seen.operators_network,
        "networkPolicy.engines.namespaces (who may ask engines)": seen.engines_network,
        "config.defaults.readOnlyRootFilesystem (what engines may write)": settings.defaults.read_only_root_filesystem,
        f"config.nodes.optInLabel below {RESTRICTED} (who may opt a node in)": bool(settings.namespaces)
        or settings.nodes.opt_in_label.startswith(RESTRICTED),
    }
    left = [value for value, is_closed in closed.items() if not is_closed]
    if not left:
        return ok("every one that the chart has is closed")
    return ok(f"open, each a value of the chart: {'; '.join(left)}")


DOOR_CHECKS: tuple[tuple[str, Check], ...] = (("Doors", _open),)
