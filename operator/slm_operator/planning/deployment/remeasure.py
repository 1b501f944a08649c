"""Measuring again when the SLO monitor asks for it and the user allowed it: spec.profiling.policy OnDrift.

A second SLMProfile is made beside the first, which stays and is advised from until the second is complete: nothing that
runs waits for it, and it starts when a whole GPU is free. At most once a day and within maxGpuMinutes. Must not measure
again what would come out the same: other lengths or a thin load are a matter of spec, and the monitor says so.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from slm_operator.api.conditions import moment
from slm_operator.manifests.profile import profile
from slm_operator.planning.actions import Apply
from slm_operator.slo.judge import Drift

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.planning.views import DeploymentView

AT_MOST_EVERY = timedelta(days=1)


def remeasured(view: DeploymentView, now: datetime) -> tuple[Apply, ...]:
    """The profile to be measured now, or nothing."""
    spec, verdict, found = view.deployment.spec, view.slo_verdict, view.profile
    if spec is None or spec.paused or spec.profiling.policy != "OnDrift" or spec.profiling.profile_name is not None:
        return ()
    if verdict is None or verdict.reason != Drift.REPROFILE_ADVISED or verdict.spec_must_change:
        return ()
    if found is None or found.measurements is None or found.imported or found.measurements.measured_at is None:
        return ()
    measured_at = found.measurements.measured_at
    at = moment(measured_at)
    if at is not None and now - at < AT_MOST_EVERY:  # NB: a document may say anything: what is no time is long ago
        return ()
    manifest = profile(view.deployment, spec, measured_at)
    return (Apply(manifest=manifest, because=f"spec.profiling.policy is OnDrift, and {verdict.message}"),)
