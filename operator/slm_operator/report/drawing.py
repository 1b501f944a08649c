"""SVG from pure functions: elements, scales, axes, and labels that keep out of each other's way.

Exists so that the report is one file that opens offline: no script, no font, no image to fetch. Colours and type come
from the page's style sheet through classes, so light, dark and print are the page's business. Coordinates are SVG user
units, y downwards. Must never know what is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from itertools import takewhile

Number = float | int


def element(name: str, *children: str, **attributes: str | Number) -> str:
    """One element. Children are markup already; attribute values are escaped; `class_` is class, `a_b` is a-b."""
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_written(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{named}>{''.join(children)}</{name}>"


def text(content: str, x: Number, y: Number, **attributes: str | Number) -> str:
    """A line of text at a place."""
    return element("text", escape(content), x=x, y=y, **attributes)


def line(x1: Number, y1: Number, x2: Number, y2: Number, **attributes: str | Number) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def path(points: list[tuple[float, float]], **attributes: str | Number) -> str:
    """An open line through points."""
    steps = " ".join(f"{'L' if i else 'M'}{_written(x)} {_written(y)}" for i, (x, y) in enumerate(points))
    return element("path", d=steps, fill="none", **attributes)


def hover(content: str) -> str:
    """The text that a browser shows over the enclosing element."""
    return element("title", escape(content))


def _written(value: str | Number) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Scale:
    """A mapping of data [low, high] to user units [start, end], linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where a value stands. Values outside are held at the ends."""
        held = min(max(value, self.low), self.high)
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, held))
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def round_ticks(high: float, count: int = 5) -> list[float]:
    """About `count` round values (1, 2, 2.5 or 5 times a power of ten) from 0, none above `high`."""
    raw = max(high, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step for m in (1, 2, 2.5, 5, 10) if (step := m * power) >= raw * 0.999)
    return [step * i for i in range(math.floor(high / step + 1e-9) + 1)]


def doubling_ticks(low: float, high: float) -> list[float]:
    """Powers of two from the one at or below `low` up to `high`, thinned evenly to at most ten."""
    first = math.floor(math.log2(low))
    powers = list(takewhile(lambda v: v <= high, (2.0**i for i in range(first, 60))))
    return powers[:: math.ceil(len(powers) / 10)]


def short(value: float) -> str:
    """A figure for a person: 12,314 and 13.8 and 0.42."""
    if value >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Shared area."""
        wide = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        tall = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(wide, 0.0) * max(tall, 0.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """A plot: its size, its two scales, and the box between its axes."""

    width: float
    height: float
    x: Scale
    y: Scale

    @property
    def box(self) -> Box:
        """The area inside the axes."""
        return Box(self.x.start, self.y.end, self.x.end - self.x.start, self.y.start - self.y.end)

    def axes(self, x_ticks: list[float], y_ticks: list[float], x_title: str, y_title: str) -> str:
        """Grid lines, tick labels and titles. Classes: grid, base, tick, axis."""
        box = self.box
        bottom, right = box.y + box.height, box.x + box.width
        rows = [
            line(box.x, self.y(v), right, self.y(v), class_="base" if v == 0 else "grid")
            + text(short(v), box.x - 8, self.y(v) + 4, class_="tick", text_anchor="end")
            for v in y_ticks
        ]
        columns = [
            line(self.x(v), bottom, self.x(v), bottom + 4, class_="base")
            + text(short(v), self.x(v), bottom + 18, class_="tick", text_anchor="middle")
            for v in x_ticks
        ]
        titles = text(y_title, 0, 11, class_="axis") + text(
            x_title, right, self.height - 4, class_="axis", text_anchor="end"
        )
        return "".join([*rows, *columns, titles])


def picture(width: float, height: float, label: str, *children: str) -> str:
    """A whole SVG that fills its column. `label` is what a screen reader says."""
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_written(width)} {_written(height)}",
        role="img",
        aria_label=label,
    )


def place_labels(wanted: list[tuple[float, float, str]], taken: list[Box], inside: Box) -> list[tuple[int, Box]]:
    """Boxes for labels near their points, most important first: (index in `wanted`, box).

    Each takes the first of eight places round its point with the least overlap of earlier labels, `taken` boxes and
    the outside. A label that would still cover others by more than an eighth of its area is left out: its point keeps
    its hover text.
    """
    placed: list[tuple[int, Box]] = []
    for i, (x, y, content) in enumerate(wanted):
        wide, tall, away = 7.1 * len(content) + 2, 13.0, 8.0
        places = [
            Box(x + dx, y + dy, wide, tall)
            for dx, dy in (
                (away, -tall - 2),
                (away, -tall / 2),
                (-wide - away, -tall - 2),
                (-wide / 2, -tall - away),
                (away, 4),
                (-wide - away, -tall / 2),
                (-wide / 2, away),
                (-wide - away, 4),
            )
        ]
        blocked = [*taken, *(box for _, box in placed)]
        costs = [
            sum(place.overlap(b) for b in blocked) + place.width * place.height - place.overlap(inside)
            for place in places
        ]
        best = min(range(len(places)), key=costs.__getitem__)
        if costs[best] <= wide * tall / 8:
            placed.append((i, places[best]))
    return placed
