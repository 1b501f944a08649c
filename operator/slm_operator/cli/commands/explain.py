"""`kubectl slm explain`: what the operator decided for a deployment, and why, from its status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from slm_operator.api.status import SLMDeploymentStatus
from slm_operator.cli.cluster import ask
from slm_operator.cli.errors import Refused
from slm_operator.cli.render.story import show_status

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print the status of one deployment as a story. Exit code 1 while it is not ready."""
    raw = ask(arguments, lambda cluster: cluster.deployment(arguments.name))
    try:
        status = SLMDeploymentStatus.model_validate(raw.get("status") or {})
    except ValidationError:
        raise Refused(
            f"the status of SLMDeployment {arguments.name} cannot be read by this version: `kubectl slm check` compares "
            f"them, `kubectl get slmd {arguments.name} -o yaml` shows it"
        ) from None
    show_status(arguments.name, status)
    return 0 if any(c.type == "Ready" and c.status == "True" for c in status.conditions) else 1
