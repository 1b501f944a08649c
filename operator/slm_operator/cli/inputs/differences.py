"""What differs between two measurement documents: what was measured, and each point that both have.

Pure, for `kubectl slm profile diff`. Whether a difference may be chance is the law of `slm_core.noise`, as the advisor has it.
Must never judge a figure that has no interval: TTFT's changes are given without a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from slm_core.candidates import deciding
from slm_core.codec import to_json
from slm_core.measurements import SharingMode, camel
from slm_core.noise import of_comparison

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import MeasurementDocument, Point

PARTS = ("model", "engine", "gpu", "workload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A field of what was measured that differs. Empty: absent."""

    field: str
    """As in the document: engine.version."""
    a: str
    b: str


@dataclass(frozen=True, slots=True, order=True)
class Same:
    """What makes two points comparable."""

    replicas: int
    sharing_mode: SharingMode
    batch_size: int
    load: int
    """Requests in flight."""

    @classmethod
    def of(cls, point: Point) -> Same:
        """Of a point."""
        return cls(point.replicas, point.sharing_mode, point.batch_size, point.load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure of a point in both documents."""

    a: float
    b: float

    @property
    def fraction(self) -> float | None:
        """B over A, less 1; None from 0 to a figure: in no proportion to it, and so beyond chance."""
        if self.a:
            return self.b / self.a - 1
        return None if self.b else 0.0

    def exceeds(self, chance_fraction: float) -> bool:
        """Whether chance does not explain it."""
        return self.fraction is None or abs(self.fraction) > chance_fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A point that both documents have."""

    same: Same
    throughput: Change
    """Input and output tokens per second."""
    itl: Change
    """Mean, in milliseconds."""
    ttft: Change | None
    """Mean, in milliseconds; None where one of them did not see it."""
    chance_fraction: float
    """What throughputs, and with them ITLs, may differ by chance at 95 %: both confidence intervals, together."""
    is_doubted: bool
    """Whether either point is marked: its figures are shown, and say little."""

    @property
    def beyond_chance(self) -> tuple[str, ...]:
        """Figures that differ by more than chance explains."""
        judged = (("tok/s", self.throughput), ("ITL", self.itl))
        return tuple(name for name, change in judged if change.exceeds(self.chance_fraction))


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """All of it. A is what B is compared with."""

    subject: tuple[Other, ...]
    pairs: tuple[Pair, ...]
    only_a: tuple[Same, ...]
    only_b: tuple[Same, ...]


def differences(a: MeasurementDocument, b: MeasurementDocument) -> Differences:
    """What differs. Of points that were measured again the one counts that the advisor would use."""
    of_a, of_b = _points(a), _points(b)
    return Differences(
        subject=tuple(_subject(a, b)),
        pairs=tuple(_pair(same, of_a[same], of_b[same]) for same in sorted(of_a.keys() & of_b.keys())),
        only_a=tuple(sorted(of_a.keys() - of_b.keys())),
        only_b=tuple(sorted(of_b.keys() - of_a.keys())),
    )


def _points(document: MeasurementDocument) -> dict[Same, Point]:
    """NB: a full load may be named or not, and a token budget is no part of Same: alike first, then the one that decides."""
    alike = (replace(point, in_flight=point.load, max_num_batched_tokens=None) for point in document.points)
    return {Same.of(point): point for point in deciding(alike).values()}


def _pair(same: Same, a: Point, b: Point) -> Pair:
    seen = a.ttft_ms is not None and b.ttft_ms is not None
    return Pair(
        same=same,
        throughput=Change(a=a.throughput_tokens_per_second, b=b.throughput_tokens_per_second),
        itl=Change(a=a.itl_ms.mean_ms, b=b.itl_ms.mean_ms),
        ttft=Change(a=a.ttft_ms.mean_ms, b=b.ttft_ms.mean_ms) if seen and a.ttft_ms and b.ttft_ms else None,
        chance_fraction=of_comparison(a.throughput_ci_fraction, b.throughput_ci_fraction),
        is_doubted=not (a.is_trusted and b.is_trusted),
    )


def _subject(a: MeasurementDocument, b: MeasurementDocument) -> Iterator[Other]:
    for part in PARTS:
        of_a, of_b = getattr(a, part), getattr(b, part)
        for one in fields(of_a):
            in_a, in_b = getattr(of_a, one.name), getattr(of_b, one.name)
            if in_a == in_b:
                continue
            is_list = isinstance(in_a, tuple)
            a_words, b_words = (
                (_arguments(in_a, in_b), _arguments(in_b, in_a)) if is_list else (_words(in_a), _words(in_b))
            )
            yield Other(field=f"{part}.{camel(one.name)}", a=a_words, b=b_words)


def _arguments(mine: tuple[str, ...], others: tuple[str, ...]) -> str:
    """The options that the other has not, or all, where only their order differs."""
    options, known = _options(mine), _options(others)
    return " ".join(options if set(options) == set(known) else [one for one in options if one not in known])


def _options(arguments: tuple[str, ...]) -> list[str]:
    """Each flag with its value: `--max-model-len` says nothing of a difference, and 2048 not of what."""
    found: list[str] = []
    for one in arguments:
        if one.startswith("-") or not found:
            found.append(one)
        else:
            found[-1] += f" {one}"
    return found


def _words(value: Any) -> str:
    return "" if value is None else str(to_json(value))
