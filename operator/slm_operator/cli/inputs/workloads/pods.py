"""Deployment and StatefulSet: an engine in a pod template, as it is written there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.cli.inputs.workloads.base import Pod
from slm_operator.cli.inputs.workloads.containers import containers_at, objects, part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.cli.inputs.workloads.base import Raw, Subject

SPEC = ("spec", "template", "spec")


def templated(_subject: Subject, raw: Raw, _beside: Sequence[Raw]) -> Pod:
    """Its pod."""
    spec = part(raw, *SPEC)
    return Pod(
        containers=tuple(containers_at(spec, SPEC)),
        node_selector={str(key): str(value) for key, value in part(spec, "nodeSelector").items()},
        tolerations=objects(spec.get("tolerations")),
        volumes=objects(spec.get("volumes")),
    )
