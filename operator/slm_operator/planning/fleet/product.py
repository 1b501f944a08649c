"""Which GPU product serves a deployment: the one that its advice was measured on and no other, named in spec or not.

What an earlier version made selects no product that spec does not name. So it stays until advice or place changes, because an
upgrade of the operator restarts nothing. Must never choose: where the product is gone, a person does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from slm_core.measurements import CPU

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.manifests.served import Served

_UNKNOWN = "unknown"
"""What is converted from other tools' results, which do not tell."""
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


class Binding(NamedTuple):
    """Where replicas may run."""

    product: str | None
    """None: on any."""
    bound: bool = True
    """Whether to that product, or as an earlier version left it."""


def binding_of(
    spec: SLMDeploymentSpec, digest: str, document: MeasurementDocument, served: Served | None = None
) -> Binding:
    """Where replicas of this advice may run. `served`: what those that are there were made from."""
    if served is not None and not served.bound and served.digest == digest and _is_place_of(served, spec):
        return Binding(spec.accelerator.product, bound=False)
    return Binding(spec.accelerator.product or measured_product(document))


def measured_product(document: MeasurementDocument) -> str | None:
    """The product that a document speaks of, as nodes are labelled; None where it speaks of no GPU."""
    product = document.gpu.product
    return None if product in {CPU, _UNKNOWN, ""} else product


def unservable(spec: SLMDeploymentSpec, document: MeasurementDocument) -> str | None:
    """Why what was measured can be served on no GPU that spec allows, and the remedy; None when it can."""
    named, measured = spec.accelerator.product, measured_product(document)
    if measured is None or measured == named:
        return None
    if named is not None:
        return (
            f"its profile was measured on {measured}, and spec.accelerator.products names {named}: what is good for one is not known to "
            f"be for the other. Name {measured}, or have {named} measured: remove spec.profiling.profileRef"
        )
    if not _LABEL.fullmatch(measured):
        return f"its profile was measured on {measured!r}, which no label nvidia.com/gpu.product can say: correct gpu.product in the document"
    return None


def said_of(binding: Binding, spec: SLMDeploymentSpec, document: MeasurementDocument) -> str:
    """What is to be known of a product that spec does not name, as sentences to add."""
    if spec.accelerator.product is not None or (measured := measured_product(document)) is None:
        return ""
    if binding.bound:
        return f", of {measured} only, which was measured"
    return (
        f", of any product: an earlier version made the replicas, and {measured} was measured. "
        f"spec.accelerator.products: [{measured}] binds them, and restarts them once"
    )


def _is_place_of(served: Served, spec: SLMDeploymentSpec) -> bool:
    asked = spec.accelerator
    was = (served.product, served.node_selector, served.shared_tenancy)
    return was == (asked.product, asked.node_selector, spec.sharing.tenancy == "Shared")
