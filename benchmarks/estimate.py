"""Error of the estimated T(B) against the published sweeps: `python benchmarks/estimate.py [--json] [--fit]`.

Printed, not promised: an estimate comes before any measurement and never justifies a pack. `--fit` prints the
calibration that fits these sweeps best, of which the rounded values stand in `slm_operator.estimator.estimate`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]  # the published data and configurations live with the tests

from slm_core.architecture import read_architecture  # noqa: E402
from slm_operator.estimator.estimate import PUBLISHED, Calibration, Subject  # noqa: E402
from slm_operator.estimator.gpus import Accelerator  # noqa: E402 - after the path
from unit.advisor import configs  # noqa: E402
from unit.advisor.build import H100, SWEEP, published  # noqa: E402

GPU = Accelerator(
    product=H100.product,
    memory_bytes=H100.memory_bytes,
    bytes_per_second=2.02e12,
    source="2,020 GB/s: the 64 GB variant has HBM2e",
)
MODELS = {"opt-1.3b": configs.OPT_1_3B, "opt-2.7b": configs.OPT_2_7B, "llama-2-7b": configs.LLAMA_2_7B}


def errors(name: str, calibration: Calibration) -> dict[int, float]:
    """Estimated over measured output throughput, minus 1, by batch."""
    document = published(name, *SWEEP)
    subject = Subject(
        model=read_architecture(MODELS[name]), gpu=GPU, workload=document.workload, calibration=calibration
    )
    return {
        p.batch_size: 1000 * p.mean_running / subject.itl_ms(p.batch_size) / p.output_tokens_per_second - 1
        for p in document.points
        if not p.preemptions
    }


def mean_error(calibration: Calibration) -> float:
    return statistics.mean(abs(e) for name in MODELS for e in errors(name, calibration).values())


def fit() -> Calibration:
    """The best of a grid around the calibration in use."""
    grid = {
        "weight_bandwidth_fraction": (0.7, 0.76, 0.82, 0.88),
        "kv_bandwidth_fraction": (0.4, 0.46, 0.52, 0.58, 0.64),
        "host_ms_per_layer": (0.07, 0.077, 0.084, 0.091),
        "host_ms_per_sequence": (0.045, 0.05, 0.056, 0.062, 0.068),
    }
    choices = (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))
    return min((replace(PUBLISHED, **choice) for choice in choices), key=mean_error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fit", action="store_true")
    args = parser.parse_args()
    calibration = fit() if args.fit else PUBLISHED
    by_model = {name: errors(name, calibration) for name in MODELS}
    everything = [abs(e) for found in by_model.values() for e in found.values()]
    summary = {"prediction_error_mean": statistics.mean(everything), "prediction_error_max": max(everything)}
    if args.json:
        print(json.dumps(summary | {"calibration": asdict(calibration), "by_model": by_model}))
        return
    print(calibration)
    for name, found in by_model.items():
        print(f"{name:11}", "  ".join(f"B={batch}: {error:+.0%}" for batch, error in found.items()))
    print(f"mean {summary['prediction_error_mean']:.1%}, max {summary['prediction_error_max']:.1%}")


if __name__ == "__main__":
    main()
