"""The memory ledger as bars: where the bytes of one GPU go, engine by engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.report.drawing import element, hover, picture, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.report.scene import MemoryBar, Share

WIDE, LEFT, RIGHT, THICK, STEP = 1100.0, 0.0, 1100.0, 34.0, 76.0


def memory_chart(bars: Sequence[MemoryBar]) -> str:
    """One bar per configuration, all to the scale of the largest."""
    whole = max(sum(s.gib for s in bar.shares) for bar in bars)
    per_gib = (RIGHT - LEFT) / whole
    return picture(
        WIDE,
        STEP * len(bars) + 2,
        "Memory of one GPU",
        *(_bar(bar, 18 + STEP * i, per_gib) for i, bar in enumerate(bars)),
    )


def _bar(bar: MemoryBar, y: float, per_gib: float) -> str:
    drawn, x = [], LEFT
    for share in bar.shares:
        wide = share.gib * per_gib
        drawn.append(_stretch(share, x, y + 8, wide))
        x += wide
    head = element("tspan", bar.name, class_="strong")
    return element("text", head, f"  {bar.detail}", x=LEFT, y=y, class_="name") + "".join(drawn)


def _stretch(share: Share, x: float, y: float, wide: float) -> str:
    gap = 1.0 if wide > 4 else 0.0
    words = f"{share.name} {share.gib:.1f}"
    inside = (
        text(words, x + wide / 2, y + THICK / 2 + 4, class_=f"in-bar {share.kind}-words", text_anchor="middle")
        if wide > 6.4 * len(words) + 8
        else ""
    )
    return element(
        "g",
        hover(f"{share.name}: {share.gib:.2f} GiB"),
        element("rect", x=x, y=y, width=max(wide - gap, 0.5), height=THICK, class_=f"share {share.kind}"),
        inside,
    )
