"""Token lengths: what requests look like, where that comes from, and how they are drawn.

Three sources: fixed lengths, distributions by mean and 99th percentile, and files (`datasets`). Draws are stratified, so
that any short run of requests has nearly the mean of all: a window of fifty requests could otherwise be 10 % off by luck
alone. Assumes that content does not change speed, so prompts are random token ids. Must never send a dataset's text
anywhere but to the engine's tokenizer.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

from slm_core.failure import Failure, ProfileError
from slm_core.measurements import Sampling, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

QUANTILES = 512
"""Pairs that stand for a distribution."""
LEAST_SHARE = 0.8
"""Of what a workload was to be, so much must be left, or all but one: less is another workload."""
Z99 = NormalDist().inv_cdf(0.99)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Pairs of (prompt tokens, output tokens), all equally likely, and their source in words."""

    pairs: tuple[tuple[int, int], ...]
    source: str

    @property
    def input_mean(self) -> float:
        """Mean prompt length."""
        return fmean(pair[0] for pair in self.pairs)

    @property
    def output_mean(self) -> float:
        """Mean output length."""
        return fmean(pair[1] for pair in self.pairs)

    @property
    def longest(self) -> int:
        """Longest prompt and output together."""
        return max(map(sum, self.pairs))

    def described(self, concurrency: int | None, requests_per_second: float | None = None) -> Workload:
        """As the document has it."""
        return Workload(
            source=self.source,
            input_tokens_mean=self.input_mean,
            output_tokens_mean=self.output_mean,
            input_tokens_p99=float(_quantile([p[0] for p in self.pairs], 0.99)),
            output_tokens_p99=float(_quantile([p[1] for p in self.pairs], 0.99)),
            concurrency=concurrency,
            streamed=True,
            sampling=Sampling.MODEL_DEFAULTS,
            requests_per_second=requests_per_second,
        )

    def draws(self, rng: random.Random) -> Iterator[tuple[int, int]]:
        """Endless pairs: every round of the whole set is shuffled within strata of total length, so rounds stay mixed."""
        ranked = sorted(self.pairs, key=sum)
        strata = min(16, len(ranked))
        while True:
            decks = [ranked[i * len(ranked) // strata : (i + 1) * len(ranked) // strata] for i in range(strata)]
            for deck in decks:
                rng.shuffle(deck)
            for turn in range(max(map(len, decks))):
                order = [deck[turn] for deck in decks if turn < len(deck)]
                rng.shuffle(order)
                yield from order

    def in_progress(self, rng: random.Random) -> tuple[int, int]:
        """One sequence as found at a random moment of a steady state: part of its output is in its prompt already.

        Long outputs are met more often, in proportion to their length. A loop that starts with such sequences is
        steady from its first step, and its requests do not finish all at once.
        """
        prompt, output = rng.choices(self.pairs, weights=[pair[1] for pair in self.pairs])[0]
        done = rng.randrange(output)
        return prompt + done, output - done


def parse_lengths(inputs: str, outputs: str) -> Lengths:
    """Lengths from two texts such as `161`, `lognormal:220,1400` (mean, 99th percentile) or `uniform:64,512`."""
    pairs = list(zip(_quantiles("input", inputs, 1), _quantiles("output", outputs, 2), strict=True))
    if len(set(pairs)) > 1:
        # Prompt and output lengths are drawn independently, by one fixed permutation.
        shuffled = [pair[1] for pair in pairs]
        random.Random(0).shuffle(shuffled)  # noqa: S311 - lengths, not secrets
        pairs = [(pair[0], output) for pair, output in zip(pairs, shuffled, strict=True)]
    source = f"fixed {inputs} in, {outputs} out" if len(set(pairs)) == 1 else f"{inputs} in, {outputs} out"
    return Lengths(tuple(dict.fromkeys(pairs)) if len(set(pairs)) == 1 else tuple(pairs), source)


def _quantiles(which: str, text: str, least: int) -> list[int]:
    """A distribution as equally likely values."""
    name, _, rest = text.partition(":")
    grid = [(i + 0.5) / QUANTILES for i in range(QUANTILES)]
    try:
        match name, [float(word) for word in rest.split(",")] if rest else []:
            case "lognormal", [mean, p99]:
                mu, sigma = _lognormal(mean, p99)
                values = [math.exp(mu + sigma * NormalDist().inv_cdf(q)) for q in grid]
            case "uniform", [low, high]:
                values = [low + (high - low) * q for q in grid]
            case _, []:
                values = [float(int(name))] * QUANTILES
            case _:
                values = []
    except ValueError:
        values = []
    if not values:
        raise ProfileError(
            Failure.WORKLOAD, f"--{which}-tokens {text!r} is none of N, lognormal:MEAN,P99 and uniform:LOW,HIGH"
        )
    lengths = [round(value) for value in values]
    if min(lengths) < least and name != "lognormal":
        raise ProfileError(Failure.WORKLOAD, f"--{which}-tokens {text}: lengths start at {least}")
    return [max(least, length) for length in lengths]


def _lognormal(mean: float, p99: float) -> tuple[float, float]:
    """Mu and sigma: exp(mu + sigma^2 / 2) is the mean, exp(mu + z sigma) the 99th percentile."""
    spread = Z99**2 - 2 * math.log(p99 / mean)
    if mean <= 0 or p99 <= mean or spread < 0:
        raise ValueError(f"no lognormal has mean {mean} and 99th percentile {p99}")
    sigma = Z99 - math.sqrt(spread)
    return math.log(mean) - sigma**2 / 2, sigma


def is_remnant(kept: int, of: int) -> bool:
    """Whether so much was left out of a workload that the rest is another one."""
    return not kept or (kept < LEAST_SHARE * of and of - kept > 1)


def usable(pairs: Sequence[tuple[int, int]], source: str, max_model_len: int) -> Lengths:
    """The pairs that the model can hold. Raises ProfileError when so many are too long that the rest is another workload."""
    kept = tuple(pair for pair in pairs if sum(pair) <= max_model_len and pair[1] >= 2)
    if is_remnant(len(kept), len(pairs)):
        raise ProfileError(
            Failure.WORKLOAD,
            f"{len(pairs) - len(kept)} of {len(pairs)} requests of {source} do not fit into {max_model_len} tokens "
            f"(prompt and output together) or have less than two output tokens",
        )
    left_out = f" ({len(pairs) - len(kept)} of {len(pairs)} left out)" if len(kept) < len(pairs) else ""
    return Lengths(kept, source + left_out)


def _quantile(values: Sequence[int], q: float) -> int:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))]
