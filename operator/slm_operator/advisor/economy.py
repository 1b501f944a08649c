"""What a million tokens take: GPU hours, and money where the GPU has a price.

Tokens are those of throughput, input and output together. A GPU is paid by the hour whatever it does, so figures are of the load
that was decided for. Pure. Must never guess: without a price there is no cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slm_core.candidates import Rates

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one GPU costs."""

    per_gpu_hour: float
    """Above 0."""
    currency: str
    """ISO 4217: EUR, USD."""


def gpu_hours_per_million_tokens(rates: Rates) -> float:
    """Of one GPU at these rates."""
    return MILLION / rates.throughput_tokens_per_second / 3600


def cost_per_million_tokens(rates: Rates | None, price: Price | None) -> float | None:
    """In the price's currency. None without a price, or without figures."""
    return None if rates is None or price is None else gpu_hours_per_million_tokens(rates) * price.per_gpu_hour


def saved_gpu_hours_fraction(gain: float | None, engines_per_gpu: int) -> float | None:
    """Of the GPU hours of the best single engine, what a pack does without. None for one engine, or where nothing is saved."""
    return 1 - 1 / (1 + gain) if gain is not None and gain > 0 and engines_per_gpu > 1 else None
