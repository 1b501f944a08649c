"""What comes nearest when nothing satisfies: by how much it misses, and what would have to change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slm_operator.advisor.advice import CheckName, Closest
from slm_operator.advisor.case import is_partial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.advisor.advice import Candidate, Check

MEASURE_AGAIN = "measure again, with a larger KV pool or a smaller batch"
MEASURE_LONGER = "measure for longer, or ask for the mean instead of a percentile"
LESS_MEMORY = "use a GPU with more memory, a quantised model, a smaller maxModelLen, or fewer engines per GPU"


def nearest(judged: Iterable[Candidate]) -> Candidate | None:
    """Of rejected full-batch candidates the one that came furthest, misses least, makes most."""
    return min((j for j in judged if not is_partial(j.point)), key=_distance, default=None)


def closest_of(judged: Candidate) -> Closest:
    """The miss of that candidate and its mend."""
    failed = judged.last
    return Closest(
        check=failed.name,
        value=failed.value if math.isfinite(failed.value) else None,
        limit=failed.limit,
        because=f"at B={judged.point.batch_size} {failed.because}",
        mend=_mend(failed),
    )


def _mend(failed: Check) -> str:
    if not math.isfinite(failed.value):
        return MEASURE_LONGER
    if failed.name is CheckName.SLO:
        enough = _rounded_up(failed.value)
        return f"raise the limit to at least {enough:.1f} ms, or use a faster GPU, or a smaller or quantised model"
    return LESS_MEMORY if failed.name is CheckName.MEMORY else MEASURE_AGAIN


def _rounded_up(ms: float) -> float:
    """To tenths: a limit of the last digit that people read must be enough."""
    return math.ceil(round(ms * 10, 6)) / 10


def _distance(judged: Candidate) -> tuple[int, float, float]:
    failed = judged.last
    ratio = failed.value / failed.limit if failed.limit else math.inf
    return -list(CheckName).index(failed.name), ratio, -judged.point.throughput_tokens_per_second
