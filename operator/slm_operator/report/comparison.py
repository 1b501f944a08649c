"""Charts that compare: the Pareto frontier of throughput and latency, and packs against the best single engine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slm_core.noise import of_comparison

from slm_operator.report.curves import HEADROOM, hover_text, labels, mark, weight
from slm_operator.report.drawing import Frame, Scale, element, hover, line, path, picture, round_ticks, text
from slm_operator.report.scene import Dot, Limits, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDE, HEIGHT = 1100.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 1080.0, 26.0, 354.0


def frontier_chart(dots: Sequence[Dot], limits: Limits) -> str:
    """Throughput against ITL. What is not on the frontier is grey."""
    longest = max(d.itl_ms for d in dots)
    right = 1.04 * max(longest, min(limits.itl_ms or 0.0, 1.3 * longest))
    top = HEADROOM * max(d.throughput for d in dots)
    frame = Frame(WIDE, HEIGHT, Scale(0.0, right, LEFT, RIGHT), Scale(0.0, top, BOTTOM, TOP))

    def at(dot: Dot) -> tuple[float, float]:
        return frame.x(dot.itl_ms), frame.y(dot.throughput)

    on = sorted((d for d in dots if d.on_frontier), key=lambda d: d.itl_ms)
    off = [d for d in dots if not d.on_frontier]
    by_weight = sorted(on, key=lambda d: (d.standing is not Standing.CHOSEN, not d.is_pack, -d.throughput))
    return picture(
        WIDE,
        HEIGHT,
        "Throughput against inter-token latency, with the Pareto frontier",
        _beyond(frame, limits),
        frame.axes(round_ticks(right, 8), round_ticks(top), "ms between tokens", "tokens per second"),
        path(_staircase([at(d) for d in on], frame), class_="stairs"),
        *(mark(*at(d), d, grey=True) for d in off),
        *(mark(*at(d), d) for d in reversed(by_weight)),
        labels(frame, dots, [*by_weight, *(d for d in off if d.is_pack)], at),
    )


def packs_chart(dots: Sequence[Dot], best: Dot, limits: Limits) -> str:
    """Gain of each pack over the best single engine, a row each, with the noise that the advisor allows for."""
    packs = sorted((d for d in dots if d.is_pack and d.gain is not None), key=lambda d: -(d.gain or 0.0))
    spread = [of_comparison(d.ci_fraction, best.ci_fraction) for d in packs]
    ends = [100 * ((d.gain or 0.0) + sign * s) for d, s in zip(packs, spread, strict=True) for sign in (-1, 1)]
    low, high = min(0.0, *ends) * HEADROOM, max(100 * 2 * limits.min_gain, *ends) * HEADROOM
    step = round_ticks(high - low, 6)[1]
    ticks = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    height = 62.0 + 34 * len(packs)
    left, right, bottom = 118.0, 900.0, height - 44
    x = Scale(low, high, left, right)
    grid = [
        line(x(v), 10, x(v), bottom, class_="base" if v == 0 else "grid")
        + text(f"{v:+g} %" if v else "0", x(v), bottom + 18, class_="tick", text_anchor="middle")
        for v in ticks
    ]
    gate = x(100 * limits.min_gain)
    return picture(
        WIDE,
        height,
        "Gain of each pack over the best single engine",
        *grid,
        line(gate, 10, gate, bottom, class_="slo"),
        *(_row(d, 30 + 34 * i, x, spread[i], right) for i, d in enumerate(packs)),
        text(f"required gain: {limits.min_gain:.0%}", gate + 6, bottom - 4, class_="note slo-words"),
        text("throughput against the best single engine", right, height - 4, class_="axis", text_anchor="end"),
    )


def _row(dot: Dot, y: float, x: Scale, spread: float, right: float) -> str:
    gain = dot.gain or 0.0
    grey = dot.standing is Standing.REJECTED
    low, middle, high = (x(100 * (gain + sign * spread)) for sign in (-1, 0, 1))
    tone = "whisker grey" if grey else "whisker"
    return element(
        "g",
        hover(hover_text(dot)),
        text(
            dot.name, 106, y + 4, class_="name strong" if dot.standing is Standing.CHOSEN else "name", text_anchor="end"
        ),
        line(low, y, high, y, class_=tone),
        line(low, y - 4, low, y + 4, class_=tone),
        line(high, y - 4, high, y + 4, class_=tone),
        mark(middle, y, dot, grey=grey),
        text(f"{100 * gain:+.1f} %", right + 68, y + 4, class_=weight(dot), text_anchor="end"),
        text(dot.failed and f"fails {dot.failed}", right + 84, y + 4, class_="tick"),
    )


def _staircase(corners: list[tuple[float, float]], frame: Frame) -> list[tuple[float, float]]:
    """The boundary of what is dominated: right from each corner, then up to the next, to the right edge at last."""
    steps: list[tuple[float, float]] = []
    for i, (x, y) in enumerate(corners):
        if i:
            steps.append((x, corners[i - 1][1]))
        steps.append((x, y))
    if corners:
        steps.append((frame.x.end, corners[-1][1]))
    return steps


def _beyond(frame: Frame, limits: Limits) -> str:
    if limits.itl_ms is None or limits.itl_ms >= frame.x.high:
        return ""
    x = frame.x(limits.itl_ms)
    return (
        element("rect", x=x, y=TOP, width=RIGHT - x, height=BOTTOM - TOP, class_="over")
        + line(x, TOP, x, BOTTOM, class_="slo")
        + text(limits.itl_words, x + 6, BOTTOM - 8, class_="note slo-words")
    )
