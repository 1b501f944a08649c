"""The message of SLOMet: what is to be thought of the advice, what was measured, what was expected there, what fits, what to do.

Must never decide: the judgement is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.wording import several

from slm_operator.advisor.expectation import Reach
from slm_operator.slo.judge import Drift, Sign, untold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_operator.advisor.expectation import Expectation
    from slm_operator.slo.baseline import Baseline
    from slm_operator.slo.judge import Judgement, Window
    from slm_operator.slo.window import Figures


def sentence(baseline: Baseline, judgement: Judgement, window: Window, figures: Figures) -> str:
    """All of it."""
    parts = (
        judgement.because,
        *untold(baseline.expected.limits, window).values(),
        *_measured(baseline, figures, of_these_lengths=not lengths_changed(judgement)),
        _restarted(window),
        _remedy(baseline, judgement, window),
    )
    return "; ".join(part for part in parts if part)


def lengths_changed(judgement: Judgement) -> bool:
    """Whether measuring the same lengths again would not help."""
    return any(finding.sign is Sign.WORKLOAD_CHANGED for finding in judgement.findings)


def _measured(baseline: Baseline, figures: Figures, *, of_these_lengths: bool) -> Iterator[str]:
    yield (
        f"measured then: {figures.throughput_tokens_per_second:.0f} tokens/s a GPU at an ITL of {figures.itl_ms:.1f} ms "
        f"with {figures.in_flight:.1f} requests in flight"
    )
    if baseline.curve is None:
        if baseline.predicted is not None:
            at = f"{baseline.predicted.throughput_tokens_per_second:.0f} tokens/s at {baseline.predicted.itl_ms:.1f} ms"
            yield f"predicted under the load that was advised for: {at}"
        return
    if figures.expected is None:
        yield "nothing is expected there, because so many were not measured"
    else:
        lengths = "" if of_these_lengths else ", with the lengths that were measured"
        yield f"expected with so many{lengths}: {_expected(figures.expected)}"
    if figures.headroom is not None and of_these_lengths:
        yield f"{figures.headroom} more a GPU fit under the SLO" if figures.headroom else "no more fit under the SLO"


def _expected(there: Expectation) -> str:
    rate, itl = f"{there.throughput_tokens_per_second:.0f} tokens/s", f"{there.itl_ms:.1f} ms"
    match there.reach:
        case Reach.BOUND:
            return f"at least {rate}, at most {itl}"
        case Reach.WAITING:
            return f"{rate} at {itl}, as of full batches, and some wait"
        case Reach.MEASURED:
            return f"{rate} at {itl}"


def _restarted(window: Window) -> str:
    return f"left out is what began to count anew: {several(window.restarted, 'replica')}" if window.restarted else ""


def _remedy(baseline: Baseline, judgement: Judgement, window: Window) -> str:
    if lengths_changed(judgement):
        lengths = f"inputTokens {window.input_tokens_mean:.0f} and outputTokens {window.output_tokens_mean:.0f}"
        return f"set spec.workload to {lengths}: a profile of that load is measured then"
    if judgement.drift is Drift.REPROFILE_ADVISED:
        return f"delete SLMProfile {baseline.profile} to have it measured again"
    return ""
