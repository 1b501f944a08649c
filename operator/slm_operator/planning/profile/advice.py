"""`status.advice` of a profile: what it advises for the question that it was made for, though nobody deploys it.

So measuring and advising need no deployment: engines that somebody else runs are set up by it. A deployment decides for its own
question, and its advice is in its own status. Must never hold a measurement up: where there is no answer, status says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.sharing import asked_mode
from slm_core.tuning import tuned

from slm_operator.advisor.advice import Settings as Asked
from slm_operator.advisor.advise import advise
from slm_operator.advisor.validate import AdviceError
from slm_operator.api.profile import MEASURED
from slm_operator.planning.deployment.advising import DecidedFrom, advice_status, as_asked, priced

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.api.profile import SLMProfileSpec
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Prices

MOST = 1024
"""Characters of why there is none."""


def profile_advice(view: ProfileView, phase: str, prices: Prices, now: datetime) -> dict[str, Any]:
    """`advice` or `noAdviceBecause` of the status, once something is measured; as they were while that cannot be read."""
    record, document = view.profile, view.log.document or view.profile.measurements
    spec = record.spec
    if phase not in MEASURED:
        return {}
    if spec is None or document is None:
        return {name: record.status[name] for name in ("advice", "noAdviceBecause") if name in record.status}
    asked = priced(_asked(spec), document.gpu.product, prices)
    try:
        advice = advise(as_asked(spec.workload, document), spec.search.slo.limits().or_default(), asked)
    except AdviceError as error:
        return {"noAdviceBecause": str(error)[:MOST]}
    basis = DecidedFrom(
        profile=None, generation=record.meta.generation, digest=None, former=record.status.get("advice") or {}
    )
    return {"advice": advice_status(advice, basis, now)}


def _asked(spec: SLMProfileSpec) -> Asked:
    search, workload = spec.search, spec.workload
    return Asked(
        **tuned(search),
        mode=asked_mode(search.mode),
        engines_per_gpu=search.engines_per_gpu,
        max_engines_per_gpu=search.max_engines_per_gpu,
        concurrency=workload.concurrency_per_gpu,
        requests_per_second=workload.requests_per_second_per_gpu,
    )
