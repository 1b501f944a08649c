"""Pods that start from the operator's own image, in namespaces that know nothing of its registry: profiles and packs.

They name the operator's pull secrets, which whoever administers the namespace puts there: to copy a Secret would need a
right to read them. A name that is not there is no fault, the kubelet then pulls without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def pulled_with(template: dict[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """A pod's template that names these secrets too, after those of the podTemplate."""
    given = template["spec"].get("imagePullSecrets", [])
    more = [{"name": name} for name in secrets if {"name": name} not in given]
    return template | {"spec": template["spec"] | {"imagePullSecrets": [*given, *more]}} if more else template
