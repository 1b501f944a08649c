"""Whether another engine image is as fast as the one that it replaced: the best single engine of both profiles, under this spec.

A new image is measured before it serves, and the former profile outlives it: so the two can be compared, each by its own
measurements. One engine by itself, for packs may be served differently for other reasons. What was found is kept in status, for
the former profile may go. Must never hold anything up: it is said, and the user decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.noise import of_comparison

from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.planning.deployment.advising import Unadvisable, advise_deployment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.candidates import Predicted
    from slm_core.measurements import MeasurementDocument

    from slm_operator.advisor.advice import Advice
    from slm_operator.planning.views import DeploymentView

DIGITS = 4
"""Of fractions, in status."""


def replaced_name(status: Mapping[str, Any], profile: str | None) -> str | None:
    """Name of the profile that was advised from before this one. None: there was none."""
    advice: Mapping[str, Any] = status.get("advice") or {}
    last = (advice.get("profileRef") or {}).get("name")
    if last is not None and last != profile:
        return str(last)
    before = ((advice.get("replaced") or {}).get("profileRef") or {}).get("name")
    return None if before is None else str(before)


def replaced_status(view: DeploymentView, advice: Advice) -> dict[str, Any] | None:
    """`status.advice.replaced`: as it was for this spec and profile, else compared anew. None: there is nothing to compare with."""
    record, now = view.deployment, view.profile
    if now is None or now.measurements is None or record.spec is None:
        return None
    name = replaced_name(record.status, now.meta.key.name)
    kept: dict[str, Any] = (record.status.get("advice") or {}).get("replaced") or {}
    if name is not None and _is_of(kept, name, record.meta.generation):
        return kept
    former = view.replaced.measurements if view.replaced is not None else None
    if former is None or not _is_another_engine(former, now.measurements):
        return None
    then = advise_deployment(record.spec, former)
    if isinstance(then, Unadvisable) or then.best_single is None or advice.best_single is None:
        return None
    change, noise = _compared(then.best_single, advice.best_single)
    return {
        "profileRef": {"name": name},
        "engineImage": former.engine.image,
        "generation": record.meta.generation,
        "tokensPerSecondPerGpu": round(then.best_single.throughput_tokens_per_second, 1),
        "changeFraction": round(change, DIGITS),
        "noiseFraction": round(noise, DIGITS),
    }


def as_fast_as_before(replaced: Mapping[str, Any] | None, profile: str) -> Finding | None:
    """The condition that says so; None without anything to compare with."""
    if not replaced:
        return None
    change, noise = replaced["changeFraction"], replaced["noiseFraction"]
    name, image = replaced["profileRef"]["name"], replaced["engineImage"]
    said = f"the best single engine makes {change:+.1%} tokens/s against that of {image}, measured as SLMProfile {name}"
    if change >= -noise:
        return Finding(
            type=Condition.AS_FAST, holds=True, reason=Reason.AS_FAST, message=f"{said}; noise is {noise:.1%}"
        )
    remedy = f"see what differs: kubectl slm profile diff {name} {profile}, or set spec.engine.image back"
    message = f"{said}, which is beyond the noise of {noise:.1%}: {remedy}"
    return Finding(type=Condition.AS_FAST, holds=False, reason=Reason.SLOWER_ENGINE, message=message)


def _is_another_engine(former: MeasurementDocument, now: MeasurementDocument) -> bool:
    """Another image for the same model on the same GPU: of others a difference says nothing."""
    alike = (former.model.uri, former.gpu.product) == (now.model.uri, now.gpu.product)
    return alike and None not in (former.engine.image, now.engine.image) and former.engine.image != now.engine.image


def _is_of(kept: Mapping[str, Any], name: str, generation: int) -> bool:
    return (kept.get("profileRef") or {}).get("name") == name and kept.get("generation") == generation


def _compared(former: Predicted, now: Predicted) -> tuple[float, float]:
    fits = [one.fit_fraction for one in (former, now) if one.fit_fraction is not None]
    change = now.throughput_tokens_per_second / former.throughput_tokens_per_second - 1
    return change, of_comparison(former.ci_fraction, now.ci_fraction, fit_fraction=max(fits, default=None))
