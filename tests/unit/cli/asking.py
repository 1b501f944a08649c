"""`kubectl slm advise --for` asked about one workload, with one document of measurements, both in files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json
from slm_core.measurements import Engine, Gpu, Model
from slm_core.units import GIB
from slm_operator.cli.main import main

from tests.builders import document, point
from tests.builders.engines import IMAGE, MODEL, PRODUCT

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from slm_core.measurements import MeasurementDocument

BATCH = "--max-num-seqs"
WORDS = ("vllm", "serve", MODEL, BATCH, "512", "--max-num-batched-tokens", "8192")
MEASURED = document(
    *(point(batch, max_num_batched_tokens=8192) for batch in (1, 8, 32, 64, 128)),
    model=Model(uri=f"hf://{MODEL}"),
    engine=Engine(version="0.32.0", image=IMAGE, args=WORDS),
    gpu=Gpu(product=PRODUCT, memory_bytes=64 * GIB),
)
"""ITL = 4 ms + 0.1 ms x B: 12 ms at 80."""
SLO = ("--itl-ms", "12")


def container(*args: str, **changes: Any) -> dict[str, Any]:
    return {"name": "engine", "image": IMAGE, "args": [MODEL, *args]} | changes


class Asker:
    """Asks about one workload with one document, both in files."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def file(self, name: str, *raws: Any) -> str:
        path = self.folder / name
        path.write_text("\n---\n".join(json.dumps(raw) for raw in raws))
        return str(path)

    def __call__(self, raw: Any, *more: str, measured: MeasurementDocument | None = MEASURED) -> tuple[int, str, str]:
        files = () if measured is None else ("-f", self.file("measured.json", to_json(measured)))
        code = main(["advise", "--for", self.file("workload.yaml", raw), *files, *SLO, *more])
        out, err = self.capsys.readouterr()
        return code, out, err

    def values(self, raw: Any, *more: str, measured: MeasurementDocument = MEASURED) -> dict[str, Any]:
        code, out, err = self(raw, *more, "-o", "json", measured=measured)
        assert (code, err) == (0, "")
        found: dict[str, Any] = json.loads(out)
        return found
