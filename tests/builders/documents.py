"""Documents of measurements: the published sweeps, which are what people import in these tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.convert import MeasuredOn, from_csv
from slm_core.measurements import Engine, Gpu

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument

DATA = Path(__file__).parents[1] / "data" / "memory-gap-h100"


@cache
def imported(model: str = "opt-1.3b") -> MeasurementDocument:
    """The published sweep of one engine, as somebody imports it for a GPU of the fleet."""
    on = MeasuredOn(gpu=Gpu(product="NVIDIA-H100-80GB-HBM3", memory_bytes=80 << 30), engine=Engine(version="0.6.2"))
    return from_csv((DATA / "batch_sweep.csv").read_text(), model=model, on=on, source="batch_sweep.csv")
