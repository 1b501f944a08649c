"""Advice for a person at a terminal: the answer first, then why, then what else was considered.

Must never word a reason: sentences are the advisor's.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from slm_core.candidates import Verdict
from slm_core.units import GIB

from slm_operator.advisor.economy import cost_per_million_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.candidates import Candidate
    from slm_core.configuration import EngineConfiguration
    from slm_core.engines.base import Engine
    from slm_core.measurements import Ledger

    from slm_operator.advisor.advice import Advice
    from slm_operator.advisor.economy import Price

PIPED_WIDTH = 120
MOST_WIDTH = 10_000
STYLES = {Verdict.CHOSEN: "bold green", Verdict.KEPT: "", Verdict.REJECTED: "dim"}


def console() -> Console:
    """Standard output: as wide as the terminal, 120 columns when piped."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, emoji=False)


def bare_table() -> Table:
    """A table without lines, as kubectl's are."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def print_rows(table: Table) -> None:
    """Print a table; piped, each row is one line however long: what reads it (grep, awk) has no edge."""
    out = console()
    if not out.is_terminal:
        out.width = max(out.width, out.measure(table, options=out.options.update(width=MOST_WIDTH)).maximum)
    out.print(table)


def show_advice(advice: Advice, ledger: Ledger | None, engine: Engine) -> None:
    """Print the whole advice, with the memory of each GPU where a ledger tells it."""
    out = console()
    first, *rest = advice.sentences
    out.print(Text(first, style="bold" if advice.feasible else "bold yellow"))
    for sentence in rest:
        out.print(Padding(Text(sentence), (0, 0, 0, 2), expand=False))
    out.print()
    out.print(figures(advice, engine))
    out.print()
    served = advice.configuration
    if ledger is not None and served.kv_cache_bytes is not None:
        out.print(ledger_table(ledger, served.engines_per_gpu, served.kv_cache_bytes))
        out.print()
    out.print(candidates(advice.candidates, advice.price))


def figures(advice: Advice, engine: Engine) -> Table:
    """The advice in numbers, with the flags that they become."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    served, pool = advice.configuration, advice.configuration.kv_cache_bytes
    rows = [
        ("batch size", f"{served.batch_size}  ({engine.batch_size_flag})"),
        ("KV cache", "" if pool is None else f"{pool / GIB:.2f} GiB  ({engine.kv_bytes_flag})"),
        ("engines per GPU", _engines(served)),
    ]
    if advice.predicted:
        rows += [
            ("throughput", f"{advice.predicted.throughput_tokens_per_second:,.0f} tok/s per GPU"),
            ("mean ITL", f"{advice.predicted.itl_ms:.1f} ms"),
        ]
    if advice.gain is not None and served.engines_per_gpu > 1:
        rows.append(("gain", f"{advice.gain:+.1%} over the best single engine"))
    if (saved := advice.saved_gpu_hours_fraction) is not None:
        rows.append(("saved", f"{saved:.1%} of the GPU hours of the best single engine"))
    if advice.price is not None and (cost := advice.cost_per_million_tokens) is not None:
        rows.append(("cost", f"{cost:.3f} {advice.price.currency} per million tokens"))
    if advice.joules_per_token is not None:
        rows.append(("energy", f"{advice.joules_per_token:.3f} J per token"))
    if advice.freed_bytes is not None:
        rows.append(("left free", f"{advice.freed_bytes / GIB:.1f} GiB"))
    for label, value in rows:
        if value:
            grid.add_row(label, value)
    return grid


def ledger_table(ledger: Ledger, replicas: int, kv_bytes: int) -> Table:
    """Memory of one engine, of all engines of a GPU, and what is left."""
    table = bare_table()
    table.add_column("MEMORY, GiB")
    table.add_column("EACH ENGINE", justify="right")
    table.add_column("GPU", justify="right")
    lines = (
        ("weights", ledger.weights_bytes),
        ("activations", ledger.activation_peak_bytes),
        ("graphs", ledger.graphs_bytes),
        ("context", ledger.context_bytes),
        ("KV cache", kv_bytes),
    )
    for label, each in lines:
        table.add_row(label, f"{each / GIB:.2f}", f"{replicas * each / GIB:.2f}")
    engine = ledger.fixed_bytes + kv_bytes
    table.add_row("together", f"{engine / GIB:.2f}", f"{replicas * engine / GIB:.2f}", style="bold")
    table.add_row("free", "", f"{(ledger.device_bytes - replicas * engine) / GIB:.2f}")
    return table


def candidates(considered: Sequence[Candidate], price: Price | None = None) -> Table:
    """Every candidate, with its verdict and the reason; cost and energy where any has one."""
    table = bare_table()
    energy = ("J/TOK",) if any(one.figures.joules_per_token is not None for one in considered) else ()
    money = () if price is None else (f"{price.currency}/M TOK",)
    for heading in ("BATCH", "ENGINES", "TOK/S", "ITL MS", *money, *energy):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("VERDICT", no_wrap=True)
    table.add_column("BECAUSE", overflow="fold")
    for candidate in considered:
        point = candidate.point
        table.add_row(
            str(point.batch_size),
            "1" if point.replicas == 1 else f"{point.replicas} {point.sharing_mode}",
            f"{point.throughput_tokens_per_second:,.0f}",
            f"{point.itl_ms.mean_ms:.1f}",
            *(_figure(cost_per_million_tokens(candidate.figures, price)) for _ in money),
            *(_figure(candidate.figures.joules_per_token) for _ in energy),
            str(candidate.verdict),
            candidate.because,
            style=STYLES[candidate.verdict],
        )
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _engines(served: EngineConfiguration) -> str:
    return "1" if served.engines_per_gpu == 1 else f"{served.engines_per_gpu} by {served.sharing_mode}"
