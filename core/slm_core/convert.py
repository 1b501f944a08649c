"""Measurements made elsewhere, as the same document.

The source is a CSV file with the columns of the published sweeps: one row, one run. Assumes that each run kept its
batches full: closed loop, or all requests at once. They are whole-run averages, which understate T(B) by 2-7 % against
a steady-state window; nothing corrects that.
Must never invent what the source does not say: absent stays absent.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.codec import DocumentError
from slm_core.measurements import (
    Engine,
    Gpu,
    Latency,
    Ledger,
    Mark,
    MeasurementDocument,
    Model,
    Point,
    SharingMode,
    Workload,
)
from slm_core.sharing import PACKED, by_word
from slm_core.sharing.exclusive import EXCLUSIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CSV_COLUMNS = (
    "model", "max_num_seqs", "replicas", "requests", "duration_s", "input_tokens", "output_tokens",
    "total_tokens_per_s", "output_tokens_per_s", "mean_itl_ms", "kv_peak_fraction_of_pool", "preemptions",
    "mean_running_requests",
)  # fmt: skip
"""Columns that a CSV must have. `sharing`, `p99_itl_ms`, `mean_power_w`, `kv_pool_bytes` and
`max_num_batched_tokens` are read where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredOn:
    """What the file does not say of where it was measured."""

    engine: Engine
    gpu: Gpu
    ledger: Ledger | None = None
    """Memory of one engine; without it, points have no KV bytes."""


def models_in(csv_text: str, *, source: str) -> tuple[str, ...]:
    """The models that a CSV has rows for, in order of appearance. Raises DocumentError."""
    return tuple(dict.fromkeys(row["model"] for row in _rows(csv_text, source)))


def from_csv(csv_text: str, *, model: str, on: MeasuredOn, source: str) -> MeasurementDocument:
    """The rows of one model. `source` names the file, for messages and provenance. Raises DocumentError.

    A row without `kv_pool_bytes` takes the ledger's pool when it is a single engine, and none when it is a pack.
    NB: `p99_itl_ms` of these files is over gaps between tokens, stricter than over requests' mean gaps.
    """
    rows = _rows(csv_text, source)
    mine = [(at, row) for at, row in enumerate(rows, start=2) if row["model"] == model]
    if not mine:
        known = ", ".join(dict.fromkeys(row["model"] for row in rows)) or "none"
        raise DocumentError(f"{source}: no row of model {model!r}; there are rows of {known}")
    points = tuple(_csv_point(row, on.ledger, f"{source} line {at}") for at, row in mine)
    return MeasurementDocument(
        model=Model(uri=model),
        engine=on.engine,
        gpu=on.gpu,
        workload=_workload(points, source),
        ledger=on.ledger,
        points=points,
        provenance=source,
    )


def _rows(csv_text: str, source: str) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(csv_text), strict=True)
        rows = list(reader)
    except csv.Error as error:
        raise DocumentError(f"{source}: not a CSV file: {error}") from None
    missing = [name for name in CSV_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DocumentError(f"{source}: no column {', '.join(missing)}: give the columns of the published sweeps")
    return rows


def _csv_point(row: Mapping[str, str | None], ledger: Ledger | None, at: str) -> Point:
    def number(name: str) -> float:
        return _number(row.get(name), f"{at}, {name}")

    def optional(name: str) -> float | None:
        return number(name) if row.get(name) else None

    replicas, requests = _count(number("replicas"), at, "replicas"), _count(number("requests"), at, "requests")
    mode = _mode(row.get("sharing") or EXCLUSIVE.word, replicas, at)
    own_pool = optional("kv_pool_bytes")
    swept_pool = ledger.kv_pool_bytes if ledger and replicas == 1 else None
    budget = optional("max_num_batched_tokens")
    preemptions = int(number("preemptions"))
    return Point(
        batch_size=_count(number("max_num_seqs"), at, "max_num_seqs"),
        replicas=replicas,
        sharing_mode=mode,
        max_num_batched_tokens=None if budget is None else int(budget),
        throughput_tokens_per_second=number("total_tokens_per_s"),
        output_tokens_per_second=number("output_tokens_per_s"),
        itl_ms=Latency(mean_ms=number("mean_itl_ms"), p99_ms=optional("p99_itl_ms"), samples=requests),
        kv_pool_bytes=swept_pool if own_pool is None else int(own_pool),
        kv_peak_fraction=number("kv_peak_fraction_of_pool"),
        preemptions=preemptions,
        mean_running=number("mean_running_requests"),
        window_seconds=number("duration_s"),
        requests=requests,
        input_tokens_mean=number("input_tokens") / requests,
        output_tokens_mean=number("output_tokens") / requests,
        mean_power_watts=optional("mean_power_w"),
        marks=(Mark.PREEMPTED,) if preemptions else (),
    )


def _mode(said: str, replicas: int, at: str) -> SharingMode:
    """The sharing mode that a table names, which must suit its number of engines. Raises DocumentError."""
    word = said.lower()
    sharing = by_word(word)
    if sharing is None or sharing.allows_packs != (replicas > 1):
        packed = " or ".join(one.word for one in PACKED)
        raise DocumentError(
            f"{at}, sharing: {word!r} with {replicas} replicas; one engine is {EXCLUSIVE.word}, a pack {packed}"
        )
    return sharing.mode


def _workload(points: Iterable[Point], source: str) -> Workload:
    points = tuple(points)
    requests = sum(p.requests for p in points)
    return Workload(
        source=source,
        input_tokens_mean=sum(p.input_tokens_mean * p.requests for p in points) / requests,
        output_tokens_mean=sum(p.output_tokens_mean * p.requests for p in points) / requests,
    )


def _number(raw: str | None, at: str) -> float:
    try:
        value = float(raw or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise DocumentError(f"{at}: {raw!r} is not a finite number of at least 0: fix the file or measure again")
    return value


def _count(value: float, at: str, name: str) -> int:
    if not math.isfinite(value) or value < 1:
        raise DocumentError(
            f"{at}, {name}: {value:g} is not a whole number of at least 1: fix the file or measure again"
        )
    return int(value)
