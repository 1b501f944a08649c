"""Charts against load: throughput with its knee, latency with its limit, energy.

The abscissa is the number of sequences in flight on the GPU (B times R), logarithmic, so that a pack stands above the
single engine that carries the same load. Lines join the measured points of one engine; nothing is smoothed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from slm_operator.report.drawing import (
    Box,
    Frame,
    Scale,
    doubling_ticks,
    element,
    hover,
    line,
    path,
    picture,
    place_labels,
    round_ticks,
    short,
    text,
)
from slm_operator.report.scene import Dot, Limits, Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 540.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 522.0, 26.0, 284.0
KNEE_SHARE = 0.9
HEADROOM = 1.12
RING = 11.0


def throughput_chart(dots: Sequence[Dot], limits: Limits, fit: Sequence[tuple[float, float]]) -> str:
    """Throughput against load, with the efficiency limit, the knee, the SLO's batch and the chosen point.

    `fit` is what was predicted of one engine: (sequences, tokens per second).
    """
    frame, x_ticks, y_ticks = _frame(dots, [d.throughput + _whisker(d) for d in dots])
    singles = _singles(dots)
    return picture(
        WIDTH,
        HEIGHT,
        "Throughput against sequences in flight",
        frame.axes(x_ticks, y_ticks, "sequences in flight on the GPU (B × R)", "tokens per second"),
        _efficiency_limit(frame, limits),
        _slo_batch(frame, singles, limits),
        path([(frame.x(b), frame.y(t)) for b, t in fit], class_="fit"),
        _decided_load(frame, limits),
        _curve(frame, singles, lambda d: d.throughput),
        _knee(frame, singles),
        _dots(frame, dots, lambda d: d.throughput),
        _labels(frame, dots, lambda d: d.throughput),
    )


def latency_chart(dots: Sequence[Dot], limits: Limits) -> str:
    """ITL against load, with the SLO."""
    highest = max(d.itl_ms for d in dots)
    frame, x_ticks, y_ticks = _frame(dots, [highest, min(limits.itl_ms or 0.0, 1.5 * highest)])
    return picture(
        WIDTH,
        HEIGHT,
        "Inter-token latency against sequences in flight",
        _slo_band(frame, limits),
        frame.axes(x_ticks, y_ticks, "sequences in flight on the GPU (B × R)", "ms between tokens"),
        _curve(frame, _singles(dots), lambda d: d.itl_ms),
        _dots(frame, dots, lambda d: d.itl_ms),
        _labels(frame, dots, lambda d: d.itl_ms),
    )


def energy_chart(dots: Sequence[Dot]) -> str:
    """Tokens per joule of board energy against load, of the points that have energy."""
    known = [d for d in dots if d.tokens_per_joule is not None]
    frame, x_ticks, y_ticks = _frame(known, [d.tokens_per_joule or 0.0 for d in known])

    def height(dot: Dot) -> float:
        return dot.tokens_per_joule or 0.0

    return picture(
        WIDTH,
        HEIGHT,
        "Tokens per joule against sequences in flight",
        frame.axes(x_ticks, y_ticks, "sequences in flight on the GPU (B × R)", "tokens per joule"),
        _curve(frame, _singles(known), height),
        _dots(frame, known, height),
        _labels(frame, known, height),
    )


def mark(x: float, y: float, dot: Dot, *, grey: bool = False) -> str:
    """A dot's sign: a circle for one engine, a square for a pack; hollow when a check failed; ringed when chosen."""
    chosen = dot.standing is Standing.CHOSEN
    kind = "pack" if dot.is_pack else "single"
    tone = "grey" if grey else kind
    shape = "hollow" if dot.failed else "solid"
    r = 5.5 if chosen else 4.0
    sign = (
        element("rect", x=x - r, y=y - r, width=2 * r, height=2 * r, rx=1.2, class_=f"{tone} {shape}")
        if dot.is_pack
        else element("circle", cx=x, cy=y, r=r, class_=f"{tone} {shape}")
    )
    ring = element("circle", cx=x, cy=y, r=RING, class_="ring") if chosen else ""
    return element("g", hover(hover_text(dot)), ring, sign, class_="dot")


def hover_text(dot: Dot) -> str:
    """A dot in words, for hovering."""
    ci = f" ± {dot.ci_fraction:.1%}" if dot.ci_fraction is not None else ""
    return f"{dot.name}: {dot.throughput:,.0f} tok/s{ci}, ITL {dot.itl_ms:.1f} ms\n{dot.standing}: {dot.because}"


def _frame(dots: Sequence[Dot], heights: Sequence[float]) -> tuple[Frame, list[float], list[float]]:
    low, high = min(d.in_flight for d in dots), max(d.in_flight for d in dots)
    top = HEADROOM * max(heights)
    x = Scale(low * 0.85, max(high, low + 1) * 1.25, LEFT, RIGHT, logarithmic=True)
    frame = Frame(WIDTH, HEIGHT, x, Scale(0.0, top, BOTTOM, TOP))
    return frame, [t for t in doubling_ticks(low, high) if t >= low], round_ticks(top)


def _singles(dots: Sequence[Dot]) -> list[Dot]:
    return sorted((d for d in dots if not d.is_pack and d.full), key=lambda d: (d.in_flight, -d.throughput))


def _whisker(dot: Dot) -> float:
    return dot.throughput * (dot.ci_fraction or 0.0)


def _curve(frame: Frame, singles: Sequence[Dot], height: Callable[[Dot], float]) -> str:
    return path([(frame.x(d.in_flight), frame.y(height(d))) for d in singles], class_="curve")


def _dots(frame: Frame, dots: Sequence[Dot], height: Callable[[Dot], float]) -> str:
    ordered = sorted(dots, key=lambda d: d.standing is Standing.CHOSEN)
    return "".join(mark(frame.x(d.in_flight), frame.y(height(d)), d) for d in ordered)


def _labels(frame: Frame, dots: Sequence[Dot], height: Callable[[Dot], float]) -> str:
    named = [d for d in dots if d.standing in (Standing.CHOSEN, Standing.BEST_SINGLE) or d.is_pack]
    named.sort(key=lambda d: (d.standing is not Standing.CHOSEN, d.standing is not Standing.BEST_SINGLE))
    return labels(frame, dots, named, lambda d: (frame.x(d.in_flight), frame.y(height(d))))


def labels(frame: Frame, dots: Sequence[Dot], named: Sequence[Dot], at: Callable[[Dot], tuple[float, float]]) -> str:
    """Names of `named` dots, clear of all `dots` and of one another."""
    inside = Box(frame.x.start, 0, frame.width - frame.x.start, frame.y.start)
    placed = place_labels([(*at(d), d.name) for d in named], [_occupied(at(d), d) for d in dots], inside)
    return "".join(text(named[i].name, box.x + 1, box.y + 10.5, class_=weight(named[i])) for i, box in placed)


def _occupied(at: tuple[float, float], dot: Dot) -> Box:
    r = RING if dot.standing is Standing.CHOSEN else 6.0
    return Box(at[0] - r, at[1] - r, 2 * r, 2 * r)


def weight(dot: Dot) -> str:
    """The classes of a dot's name: the chosen one is bold."""
    return "name strong" if dot.standing is Standing.CHOSEN else "name"


def _efficiency_limit(frame: Frame, limits: Limits) -> str:
    """The line T = epsilon B T(1): what stands under it pays too little for its memory."""
    if not limits.one_sequence:
        return ""
    slope = limits.min_efficiency * limits.one_sequence
    last = min(frame.y.high / slope, frame.x.high)
    steps = [last * 64 ** (i / 48 - 1) for i in range(49)]
    points = [(frame.x(b), frame.y(slope * b)) for b in steps if b >= frame.x.low]
    words = f"efficiency {limits.min_efficiency:g}"
    return path(points, class_="limit") + text(words, points[-1][0] - 6, TOP + 12, class_="note", text_anchor="end")


def _slo_batch(frame: Frame, singles: Sequence[Dot], limits: Limits) -> str:
    """The load at which one engine reaches the SLO, between two measured points by a straight line."""
    slo = limits.itl_ms
    if slo is None:
        return ""
    for before, after in pairwise(singles):
        if before.itl_ms <= slo < after.itl_ms:
            share = (slo - before.itl_ms) / (after.itl_ms - before.itl_ms)
            x = frame.x(before.in_flight + share * (after.in_flight - before.in_flight))
            return line(x, TOP, x, BOTTOM, class_="slo") + text(
                "one engine meets the SLO up to here", x - 6, BOTTOM - 8, class_="note slo-words", text_anchor="end"
            )
    return ""


def _slo_band(frame: Frame, limits: Limits) -> str:
    if limits.itl_ms is None or limits.itl_ms >= frame.y.high:
        return ""
    y = frame.y(limits.itl_ms)
    return (
        element("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=y - TOP, class_="over")
        + line(LEFT, y, RIGHT, y, class_="slo")
        + text(limits.itl_words, LEFT + 6, y - 6, class_="note slo-words")
    )


def _knee(frame: Frame, singles: Sequence[Dot]) -> str:
    """The smallest measured batch with nine tenths of the highest throughput of one engine."""
    if len(singles) < 3:
        return ""
    highest = max(d.throughput for d in singles)
    dot = next(d for d in singles if d.throughput >= KNEE_SHARE * highest)
    x, y = frame.x(dot.in_flight), frame.y(dot.throughput)
    words = f"knee {short(dot.in_flight)}"
    return line(x, y + 8, x, y + 40, class_="leader") + text(words, x, y + 53, class_="note", text_anchor="middle")


def _decided_load(frame: Frame, limits: Limits) -> str:
    if limits.in_flight is None or not frame.x.low < limits.in_flight < frame.x.high:
        return ""
    x = frame.x(limits.in_flight)
    words = f"decided for {limits.in_flight} in flight"
    return line(x, TOP, x, BOTTOM, class_="leader") + text(words, x + 6, TOP + 40, class_="note")
