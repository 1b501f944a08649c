"""The report: one HTML file that opens offline, in light and dark, and prints.

Exists so that a decision can be attached to a ticket or a pull request and still be read in a year: no script, no
network, no font. The answer stands first, then why, then the evidence, then where it comes from. Must never decide or
word a reason: sentences come with the scene.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from slm_core.noise import UNREPEATED_FRACTION

from slm_operator.report.comparison import frontier_chart, packs_chart
from slm_operator.report.curves import energy_chart, latency_chart, mark, throughput_chart
from slm_operator.report.drawing import element, line, picture
from slm_operator.report.memory import memory_chart
from slm_operator.report.scene import Dot, Row, Scene, Standing, Tile

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = (
    "Batch × engines",
    "Sharing",
    "tok/s",
    "against best single",
    "ITL ms",
    "KV peak GiB each",
    "per million tokens",
    "J per token",
    "Verdict",
    "Because",
)
FIGURES = range(2, 8)
LOAD_COLUMNS = ("Requests in flight", "tok/s", "ITL ms", "TTFT ms", "More that fit")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The page asks browsers to fetch nothing and to run nothing, whatever a model's name may hold."""


def page(scene: Scene) -> str:
    """The whole file."""
    style = files("slm_operator.report").joinpath("style.css").read_text(encoding="utf-8")
    title = f"{scene.subject} on {scene.setting[0]}" if scene.setting else scene.subject
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{style}</style>"
    )
    body = element(
        "main", _header(scene), _tiles(scene.tiles), _legend(scene), _evidence(scene), _footer(), class_="report"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _header(scene: Scene) -> str:
    setting = " · ".join(map(escape, scene.setting))
    reasons = "".join(f"<li>{escape(sentence)}</li>" for sentence in scene.because)
    warnings = "".join(f'<p class="warning">{escape(sentence)}</p>' for sentence in scene.warnings)
    return (
        f'<header><p class="eyebrow"><b>{escape(scene.subject)}</b> · {setting}</p>'
        f'<h1>{escape(scene.answer)}</h1>{warnings}<ul class="because">{reasons}</ul></header>'
    )


def _tiles(tiles: Sequence[Tile]) -> str:
    return element("dl", *map(_tile, tiles), class_="tiles")


def _tile(tile: Tile) -> str:
    note = f'<p class="note-line {escape(tile.tone)}">{escape(tile.note)}</p>' if tile.note else ""
    figure = f"{escape(tile.figure)} <small>{escape(tile.unit)}</small>"
    return f'<div class="tile"><dt>{escape(tile.label)}</dt><dd>{figure}</dd>{note}</div>'


def _legend(scene: Scene) -> str:
    def sign(standing: Standing, replicas: int, words: str, *, grey: bool = False) -> str:
        dot = _sample(standing, replicas)
        return f"<span>{picture(24, 24, '', mark(12, 12, dot, grey=grey))}{words}</span>"

    packs = [sign(Standing.KEPT, 2, "several engines on the GPU")] if any(d.is_pack for d in scene.dots) else []
    slo = "<span>" + picture(24, 24, "", line(1, 12, 23, 12, class_="slo")) + "limit</span>"
    return element(
        "div",
        sign(Standing.KEPT, 1, "one engine"),
        *packs,
        sign(Standing.REJECTED, 1, "rejected"),
        sign(Standing.CHOSEN, _chosen_replicas(scene), "chosen"),
        slo,
        class_="legend",
    )


def _chosen_replicas(scene: Scene) -> int:
    return next((d.replicas for d in scene.dots if d.standing is Standing.CHOSEN), 1)


def _sample(standing: Standing, replicas: int) -> Dot:
    return Dot(
        name="",
        replicas=replicas,
        in_flight=1,
        full=True,
        throughput=0.0,
        ci_fraction=None,
        itl_ms=0.0,
        tokens_per_joule=None,
        gain=None,
        standing=standing,
        on_frontier=True,
        failed="any" if standing is Standing.REJECTED else "",
        because="",
    )


def _evidence(scene: Scene) -> str:
    dots, limits = scene.dots, scene.limits
    best = next((d for d in dots if d.standing is Standing.BEST_SINGLE), None) or next(
        (d for d in dots if d.standing is Standing.CHOSEN and not d.is_pack), None
    )
    packs = [d for d in dots if d.is_pack and d.gain is not None]
    measured_energy = [d for d in dots if d.tokens_per_joule is not None]
    cards = [
        _card("Throughput", THROUGHPUT, throughput_chart(dots, limits, scene.fit)),
        _card("Latency", LATENCY, latency_chart(dots, limits)),
        _card("Achievable figures", FRONTIER, frontier_chart(dots, limits), "wide"),
    ]
    if packs and best:
        words = PACKS.format(best=best.name, tps=f"{best.throughput:,.0f}", noise=f"{UNREPEATED_FRACTION:.1%}")
        cards.append(_card("Packs against the best single engine", words, packs_chart(packs, best, limits), "wide"))
    if scene.memory:
        cards.append(_card("Memory of one GPU", MEMORY, _memory_legend(scene) + memory_chart(scene.memory), "wide"))
    cards.append(_card("Candidates", CANDIDATES, _table(scene.rows), "wide long"))
    if scene.loads:
        cards.append(_card("Expected under less load", LOADS, _loads(scene.loads), "wide"))
    energy = _card("Energy", ENERGY, energy_chart(dots)) if len(measured_energy) > 1 else ""
    origin = _card("Provenance", "", _provenance(scene), "" if energy else "wide")
    return element("div", *cards, energy, origin, class_="cards")


THROUGHPUT = (
    "What the GPU delivers against the sequences it runs. Past the knee, the first batch with nine tenths of the most, "
    "memory buys little; under the dashed line a batch is less efficient than asked. Dotted: predicted, never chosen."
)
LATENCY = "Time between two tokens of one answer. The shaded part misses the SLO."
FRONTIER = (
    "Each point is a configuration. On the line, no other is both faster and quicker to answer; grey ones are beaten, or "
    "not to be trusted. Up and to the left is better."
)
PACKS = (
    "Best single engine: {best} sequences at {tps} tokens per second. Bars show what may be chance: both 95 % intervals "
    "together, at least ±{noise} where a run has none."
)
MEMORY = "GiB, engine by engine. What is not given to a KV pool stays free for others."
CANDIDATES = "Every configuration that was considered, and why it was kept or rejected."
LOADS = (
    "One GPU with the advised configuration and the lengths that were measured. Between measured loads figures lie on a line; "
    "≥ and ≤ stand where less was never measured. More fit until a limit breaks or one has to wait."
)
ENERGY = "Tokens per joule of the whole board. Sharing the GPU is not a way to save energy; it is shown, not claimed."


def _card(title: str, words: str, content: str, kind: str = "") -> str:
    lead = f'<p class="lead">{escape(words)}</p>' if words else ""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{lead}<figure>{content}</figure></section>'


def _memory_legend(scene: Scene) -> str:
    names = {share.kind: share.name for bar in scene.memory for share in bar.shares}
    items = "".join(f'<span><i class="{kind}"></i>{escape(name)}</span>' for kind, name in names.items())
    return f'<div class="legend">{items}</div>'


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f'<th class="{"n" if i in FIGURES else ""}">{escape(c)}</th>' for i, c in enumerate(COLUMNS))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(map(_line, rows))}</tbody></table></div>'


def _line(row: Row) -> str:
    kinds = ["n" if i in FIGURES else "verdict" if i == len(COLUMNS) - 2 else "" for i in range(len(COLUMNS))]
    cells = "".join(f'<td class="{kind}">{escape(cell)}</td>' for kind, cell in zip(kinds, row.cells, strict=True))
    return f'<tr class="{row.standing}">{cells}</tr>'


def _loads(rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f'<th class="n">{escape(column)}</th>' for column in LOAD_COLUMNS)
    lines = ("".join(f'<td class="n">{escape(cell)}</td>' for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _provenance(scene: Scene) -> str:
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in scene.provenance)
    return f'<dl class="provenance">{pairs}</dl>'


def _footer() -> str:
    return (
        "<footer>Throughput counts input and output tokens. ITL is (last token − first token) / (tokens − 1).</footer>"
    )
