"""An engine's own histograms of latency: between which two figures a percentile lies.

A histogram counts how many values were at most each of its bounds, so it tells no percentile, only the two bounds around it:
which is enough to judge a limit that is not between them. Must never interpolate: what lies inside a bucket is not known.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from operator import add, sub
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_BUCKETS = 64
"""A page with more of them is no engine's: vLLM has about twenty."""
_LE = re.compile(r'(?:^|,)le="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values were at most each bound."""

    bounds: tuple[float, ...]
    """In seconds, rising; the last is infinite."""
    counts: tuple[float, ...]
    """Never falling; the last is all."""

    @property
    def total(self) -> float:
        """All values."""
        return self.counts[-1]

    def since(self, before: Histogram) -> Histogram | None:
        """What came since. None where it began anew, or has other bounds."""
        gained = tuple(map(sub, self.counts, before.counts))
        return Histogram(self.bounds, gained) if before.bounds == self.bounds and is_rising(gained) else None

    def around(self, quantile: float) -> tuple[float, float]:
        """The bounds between which a quantile lies, in seconds: above the first, at most the second. Needs values."""
        at = next(at for at, count in enumerate(self.counts) if count >= quantile * self.total)
        return (self.bounds[at - 1] if at else 0.0), self.bounds[at]


def is_rising(counts: tuple[float, ...]) -> bool:
    """Whether these can be the counts of a histogram."""
    return all(low <= high for low, high in zip((0.0, *counts), counts, strict=False))


def together(histograms: Iterable[Histogram]) -> Histogram | None:
    """The sum of several. None of none, and where their bounds differ."""
    found: Histogram | None = None
    for one in histograms:
        if found is not None and found.bounds != one.bounds:
            return None
        found = one if found is None else Histogram(one.bounds, tuple(map(add, found.counts, one.counts)))
    return found


def read_histogram(page: str, name: str) -> Histogram | None:
    """The histogram of this name on a page, summed over its other labels. None: it is not there, or is none."""
    counts: dict[float, float] = {}
    for labels, count in re.findall(rf"^{re.escape(name)}_bucket\{{(.*)\}} (\S+)", page, re.MULTILINE):
        bound = _LE.search(labels)
        try:
            le, value = float(bound[1] if bound else "nan"), float(count)
        except ValueError:
            return None
        if math.isnan(le) or not 0 <= value < math.inf or len(counts) > MOST_BUCKETS:
            return None
        counts[le] = counts.get(le, 0.0) + value
    bounds = tuple(sorted(counts))
    found = Histogram(bounds, tuple(counts[bound] for bound in bounds))
    return found if bounds and bounds[-1] == math.inf and is_rising(found.counts) else None
