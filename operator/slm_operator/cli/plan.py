"""`kubectl slm plan`: what would be deployed for a manifest, before it is applied.

With measurements (a file's, or those that the cluster holds for it) that is the advice. Without, it says which profile
would be measured and what that may cost. Changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.cli.cluster import Cluster, ask
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs import from_manifest, measured
from slm_operator.cli.manifests import deployment
from slm_operator.cli.story import show_plan, show_unmeasured
from slm_operator.kube.errors import NotFound
from slm_operator.manifests.profile import profile_name
from slm_operator.planning.advising import Unadvisable, advise_deployment

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_runtime.document import MeasurementDocument


def run(arguments: Namespace) -> int:
    """Print the plan."""
    raw, spec = deployment(arguments.filename)
    name = spec.profiling.profile or profile_name(spec)
    document = from_manifest(arguments.profile) if arguments.profile else _held(arguments, raw, name)
    if document is None:
        show_unmeasured(name, spec)
        return 0
    advice = advise_deployment(spec, document)
    if isinstance(advice, Unadvisable):
        raise Refused(advice.because)
    show_plan(advice, document.ledger)
    return 0


def _held(arguments: Namespace, raw: dict[str, Any], name: str) -> MeasurementDocument | None:
    """What the cluster has measured under this name, in the manifest's namespace."""

    async def look(cluster: Cluster) -> dict[str, Any] | None:
        try:
            return await cluster.profile(name)
        except NotFound:
            return None

    if arguments.namespace is None:
        arguments.namespace = (raw.get("metadata") or {}).get("namespace")
    found = ask(arguments, look)
    return None if found is None else measured(found, f"SLMProfile {name}")
