"""What the advice rests on: which profile, and how thin its evidence is for just this deployment's load and SLO.

A profile that was measured for another question is advised from at once, and extended when a GPU is free. Until then, and
where it cannot be extended, the condition says what lacks: no answer is a silent guess. Must never hold an advice back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.manifests.question import lacking, question_of
from slm_operator.planning.profile.answers import answer_to, answers_of

if TYPE_CHECKING:
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.planning.views import DeploymentView
    from slm_operator.watch.records import Key


def profile_title(profile: Key, namespace: str) -> str:
    """A profile's name for readers of a namespace."""
    library = "" if profile.namespace == namespace else f" of library namespace {profile.namespace}"
    return f"SLMProfile {profile.name}{library}"


def thin_evidence(view: DeploymentView, spec: SLMDeploymentSpec) -> str:
    """What the profile lacks for this question, as a sentence to add; empty where it answers it, or was imported."""
    found = view.profile
    if found is None or found.spec is None or found.measurements is None or found.imported:
        return ""
    title = profile_title(found.meta.key, view.deployment.meta.key.namespace)
    question = question_of(spec)
    answer = answer_to(found, question, answers_of(found))
    if answer is not None:
        return (
            f" The evidence is thin for this load and SLO: of {title}, {answer.shortfall}" if answer.shortfall else ""
        )
    lacks = lacking(question, found.spec, found.measurements)
    if lacks is None:
        return ""
    return f" The evidence is thin: {title} was measured for another load or SLO ({lacks}); {_what_follows(view, spec)}"


def _what_follows(view: DeploymentView, spec: SLMDeploymentSpec) -> str:
    found = view.profile
    assert found is not None
    if spec.profiling.profile_name is not None:
        return (
            "one that spec.profiling.profileRef names is not extended: remove that field, and it is found by its spec"
        )
    if found.meta.key.namespace != view.deployment.meta.key.namespace:
        return "a library is extended where it is kept, by an SLMDeployment there that asks the same"
    if spec.profiling.policy == "Never":
        return "it is not extended, because spec.profiling.policy is Never"
    if spec.paused:
        return "it is not extended while spec.paused is set"
    return "it is extended when a GPU is free"
