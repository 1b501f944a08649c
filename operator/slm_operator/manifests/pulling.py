"""Pods that start from the operator's own image, in namespaces that know nothing of its registry.

They name the operator's pull secrets, which whoever administers the namespace puts there: to copy a Secret would need a
right to read them. A name that is not there is no fault, the kubelet then pulls without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.manifests.metadata import Manifest


def pulled_with(workload: Manifest, secrets: Iterable[str]) -> Manifest:
    """A Job or Deployment whose pods name these secrets too, after those of the podTemplate."""
    template = workload["spec"]["template"]
    given = template["spec"].get("imagePullSecrets", [])
    more = [{"name": name} for name in secrets if {"name": name} not in given]
    if not more:
        return workload
    pod = template["spec"] | {"imagePullSecrets": [*given, *more]}
    return workload | {"spec": workload["spec"] | {"template": template | {"spec": pod}}}
