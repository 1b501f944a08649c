"""How Flux, Argo CD's neighbours and kubectl-like tools read an object: the rules of kstatus for custom kinds.

From sigs.k8s.io/cli-utils, pkg/kstatus/status (generic.go, status.go, core.go): deletion, then generation, then the first
of Reconciling and Stalled that is True, then Ready; an object that says nothing is Current.
"""

from __future__ import annotations

from typing import Any, Literal

Status = Literal["Terminating", "InProgress", "Failed", "Current"]


def kstatus(found: dict[str, Any]) -> Status:
    """The status of a custom object."""
    meta, status = found.get("metadata", {}), found.get("status", {})
    if meta.get("deletionTimestamp"):
        return "Terminating"
    observed = status.get("observedGeneration")
    if observed is not None and "generation" in meta and observed != meta["generation"]:
        return "InProgress"
    said = status.get("conditions", ())
    for condition in said:
        if condition["status"] == "True" and condition["type"] in {"Reconciling", "Stalled"}:
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = next((condition for condition in said if condition["type"] == "Ready"), None)
    return "Current" if ready is None or ready["status"] == "True" else "InProgress"
