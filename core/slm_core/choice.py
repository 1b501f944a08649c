"""The choice among candidates that passed, for the search and for the advisor alike.

Measurements are noisy, so "the most tokens per second" is a set: the fastest candidate and those that cannot be
distinguished from it. Of these the one of the lowest latency is chosen, which needs the least memory too; what the
others might make more is said. Each is compared with the fastest one, never with its neighbour: a chain of small steps
would lead anywhere. Must never weigh a candidate that failed a check, nor depend on the order of candidates but among
equals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core import noise
from slm_core.candidates import Source
from slm_core.configuration import EngineConfiguration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from slm_core.candidates import Candidate

    Merit = Callable[[Candidate], float]
    """Of what the most is wanted, in any unit: tokens per second, or per joule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A candidate that measured more than the choice, by no more than chance may explain."""

    candidate: Candidate
    gain_fraction: float
    """Its throughput over that of the choice, less 1, as measured."""
    noise_fraction: float
    """What that difference may be by chance, at 95 %."""
    itl_ratio: float
    """Its mean ITL over that of the choice."""

    @property
    def most_fraction(self) -> float:
        """How much more it might make at most."""
        return self.gain_fraction + self.noise_fraction


def throughput(candidate: Candidate) -> float:
    """Tokens per second at the decided load."""
    return candidate.throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of the candidates, and what is known of the others."""

    chosen: Candidate
    fastest: Candidate
    """Of the most merit; the chosen one where nothing else speaks against it."""
    alike: tuple[Candidate, ...]
    """All that cannot be distinguished from the fastest, the chosen one and the fastest among them."""

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """Those that might be better than the chosen one, the fastest first."""
        more = [c for c in self.alike if c.throughput > self.chosen.throughput]
        return tuple(alternative(self.chosen, c) for c in sorted(more, key=lambda c: -c.throughput))


def choose_among(candidates: Sequence[Candidate], merit: Merit = throughput) -> Choice | None:
    """Of those that passed and cannot be distinguished from the one of most merit: a confirmed one, of the lowest latency.

    Where latencies cannot be distinguished either: of the fewest engines, then of the fewest sequences. None: nothing passed.
    """
    passed = [c for c in candidates if c.passed]
    if not passed:
        return None
    fastest = max(passed, key=lambda c: (merit(c), -c.point.full_load))
    alike = tuple(c for c in passed if is_alike(c, fastest, merit))
    # NB: what was confirmed is served rather than what was not, where nothing but chance lies between them.
    confirmed = {EngineConfiguration.of(c.point) for c in candidates if c.point.confirmed}
    among = [c for c in alike if EngineConfiguration.of(c.point) in confirmed] or alike
    return Choice(chosen=_soonest(among), fastest=fastest, alike=alike)


def is_alike(candidate: Candidate, fastest: Candidate, merit: Merit = throughput) -> bool:
    """Whether chance alone may put it behind the one of most merit. NB: merit is throughput over something that is steady."""
    return merit(fastest) <= merit(candidate) * (1 + chance_fraction(fastest, candidate))


def alternative(chosen: Candidate, other: Candidate) -> Alternative:
    """What another candidate might make more than the chosen one, and at what latency."""
    return Alternative(
        candidate=other,
        gain_fraction=other.throughput / chosen.throughput - 1,
        noise_fraction=chance_fraction(other, chosen),
        itl_ratio=other.figures.itl_ms / chosen.figures.itl_ms,
    )


def chance_fraction(one: Candidate, other: Candidate) -> float:
    """What a difference between the two may be by chance: both confidence intervals, and the fit's where it predicts."""
    fits = [f for f in (one.figures.fit_fraction, other.figures.fit_fraction) if f is not None]
    return noise.of_comparison(one.figures.ci_fraction, other.figures.ci_fraction, fit_fraction=max(fits, default=None))


def _soonest(candidates: Iterable[Candidate]) -> Candidate:
    ordered = sorted(candidates, key=lambda c: c.figures.itl_ms)
    soonest = ordered[0]
    near = [c for c in ordered if c.figures.itl_ms <= soonest.figures.itl_ms * (1 + chance_fraction(c, soonest))]
    return min(near, key=_size)


def _size(candidate: Candidate) -> tuple[object, ...]:
    """The smaller the better; a measured figure before a predicted one."""
    point = candidate.point
    is_predicted = candidate.figures.source is Source.PREDICTED
    return point.replicas, point.full_load, is_predicted, -candidate.throughput, candidate.figures.itl_ms
