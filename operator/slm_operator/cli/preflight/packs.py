"""What `kubectl slm check` says of packs in pods: autoscalers that count pods where engines are meant, and supervisors of an older release.

Looked at with the user's own rights: the operator itself has none on autoscalers, and needs none. Must never change anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.findings import Answer, ok, some, warning
from slm_operator.manifests.served import read_served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from slm_operator.cli.preflight.facts import Facts

    Check = Callable[[Facts], Answer | None]

_OVER_PODS = frozenset({"Pods", "Resource", "ContainerResource"})
"""Types of metrics that are averages over pods. Kubernetes API: autoscaling/v2, MetricSourceType."""
_OF_OBJECTS = {"Object": "object", "External": "external"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSeen:
    """A Deployment of pods that run several engines each."""

    name: str
    """Of its SLMDeployment."""
    engines: int
    """In each pod."""
    supervisor_image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """A HorizontalPodAutoscaler of an SLMDeployment."""

    name: str
    target: str
    counts_pods: tuple[str, ...] = ()
    """Those of its metrics by which it counts pods, as a person names them."""


def packs_in(raws: Iterable[Mapping[str, Any]]) -> tuple[PackSeen, ...]:
    """The packs among Deployments."""
    return tuple(one for one in map(_pack, raws) if one is not None)


def _pack(raw: Mapping[str, Any]) -> PackSeen | None:
    meta = raw["metadata"]
    served = read_served((meta.get("annotations") or {}).get(names.SERVED_ANNOTATION))
    owner = next((one for one in meta.get("ownerReferences") or () if one.get("kind") == names.DEPLOYMENT_KIND), None)
    if served is None or served.pack is None or owner is None or served.configuration.engines_per_gpu == 1:
        return None
    return PackSeen(
        name=str(owner.get("name")),
        engines=served.configuration.engines_per_gpu,
        supervisor_image=served.pack.means.supervisor_image,
    )


def autoscalers_in(raws: Iterable[Mapping[str, Any]]) -> tuple[Autoscaler, ...]:
    """Those of SLMDeployments among HorizontalPodAutoscalers."""
    found = []
    for raw in raws:
        spec = raw.get("spec") or {}
        target = spec.get("scaleTargetRef") or {}
        if target.get("kind") == names.DEPLOYMENT_KIND:
            wrong = tuple(word for one in spec.get("metrics") or () if (word := _counting_pods(one)))
            found.append(Autoscaler(name=raw["metadata"]["name"], target=str(target.get("name")), counts_pods=wrong))
    return tuple(found)


def _counting_pods(metric: Mapping[str, Any]) -> str | None:
    kind = str(metric.get("type") or "")
    if kind in _OVER_PODS:
        return kind
    source = metric.get(_OF_OBJECTS.get(kind, "")) or {}
    return f"{kind} with a Value" if (source.get("target") or {}).get("type") == "Value" else None


def _autoscalers(facts: Facts) -> Answer | None:
    if isinstance(facts.packs, Unseen) or isinstance(facts.autoscalers, Unseen):
        return None  # the right is said already, among those that the commands use
    engines = {one.name: one.engines for one in facts.packs}
    over = [one for one in facts.autoscalers if one.target in engines]
    wrong = [one for one in over if one.counts_pods]
    if not over:
        return None
    if not wrong:
        return ok(f"{some([one.name for one in over])}: their metrics count engines, not pods")
    first = wrong[0]
    return warning(
        f"HorizontalPodAutoscaler {some([one.name for one in wrong])} counts pods ({', '.join(first.counts_pods)}), and each "
        f"pod of {first.target} runs {engines[first.target]} engines: it asks for too few",
        "use a metric of type Object or External with an AverageValue (docs/how-to/autoscaling.md)",
    )


def _supervisors(facts: Facts) -> Answer | None:
    if isinstance(facts.packs, Unseen) or not facts.packs or facts.settings_doubt:
        return None
    settings = facts.settings
    now = settings.packs.supervisor_image or settings.profiling.image
    older = [one.name for one in facts.packs if one.supervisor_image != now]
    if not older:
        return ok(f"every pack has the supervisor of {now}")
    return warning(
        f"{some(older)} run a supervisor of another release than {now}: an upgrade restarts no pack",
        "they take it with the next change of their pod; an annotation in spec.podTemplate.metadata is one",
    )


PACK_CHECKS: tuple[tuple[str, Check], ...] = (("Autoscalers", _autoscalers), ("Supervisors", _supervisors))
