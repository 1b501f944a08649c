"""The kinds of workloads that may run an engine: where each lives, what reads it, and what else its pod is made of.

Another kind is a file beside this one and a row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_operator.cli.inputs.workloads import kserve, kubeai, pods
from slm_operator.kube.resources import WORKLOAD, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slm_operator.cli.inputs.workloads.base import Pod, Raw, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind."""

    resource: Resource
    """The version that is asked of a cluster; files may have another one of the group."""
    short: tuple[str, ...]
    """Further names, as kubectl takes them."""
    read: Callable[[Subject, Raw, Sequence[Raw]], Pod]
    """From an object and those beside it to its pod. Raises Refused."""
    helm: Callable[[Subject, Sequence[str]], Raw] | None = None
    """Values of the one chart that makes such objects, for a list of arguments. None: any chart may."""
    helm_chart: str = ""

    @property
    def group(self) -> str:
        """Its API group."""
        return self.resource.group


KINDS = (
    Kind(resource=WORKLOAD, short=("deploy",), read=pods.templated),
    Kind(resource=Resource("apps/v1", "StatefulSet", "statefulsets"), short=("sts",), read=pods.templated),
    Kind(
        resource=Resource("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices"),
        short=("isvc",),
        read=kserve.inference_service,
    ),
    Kind(
        resource=Resource("serving.kserve.io/v1alpha1", "LLMInferenceService", "llminferenceservices"),
        short=("llmisvc",),
        read=kserve.llm_inference_service,
    ),
    Kind(
        resource=Resource("kubeai.org/v1", "Model", "models"),
        short=(),
        read=kubeai.model,
        helm=kubeai.catalogue,
        helm_chart="KubeAI's chart models",
    ),
)
RUNTIMES = (
    Resource("serving.kserve.io/v1alpha1", "ServingRuntime", "servingruntimes"),
    Resource("serving.kserve.io/v1alpha1", "ClusterServingRuntime", "clusterservingruntimes", namespaced=False),
)
"""What an InferenceService may name, the namespace's own first."""
NAMES = ", ".join(kind.resource.kind for kind in KINDS)


def kind_named(name: str) -> Kind | None:
    """By kind, plural or short name, with or without the group. None: no such kind here."""
    wanted, _, group = name.lower().partition(".")
    for kind in KINDS:
        names = (kind.resource.kind.lower(), kind.resource.plural, *kind.short)
        if wanted in names and group in ("", kind.group):
            return kind
    return None


def kind_of(raw: Raw) -> Kind | None:
    """By an object's own kind and group. None: it is none of these."""
    group = str(raw.get("apiVersion") or "").rpartition("/")[0]
    return next((kind for kind in KINDS if (kind.resource.kind, kind.group) == (raw.get("kind"), group)), None)
