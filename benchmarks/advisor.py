"""How long advice over many candidates takes: `python benchmarks/advisor.py [--json] [--points 10000]`.

Seeded random engines on a line, single and packed, all judged in one question. Prints the median and the best of
several runs, in CPU seconds, since nothing waits; the goal is 10,000 candidates in at most 100 ms. As in
`kubectl slm advise`, the garbage collector runs, and what was read before the question is frozen.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time

from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_runtime.document import (
    Cost,
    Engine,
    Gpu,
    Latency,
    Ledger,
    MeasurementDocument,
    Model,
    Point,
    SharingMode,
    Workload,
)
from slm_runtime.slo import Slo

GIB = 2**30


def random_point(rng: random.Random, batch: int, replicas: int) -> Point:
    running = batch * replicas
    itl = (4 + 0.1 * running * rng.uniform(0.5, 1)) * rng.uniform(0.95, 1.05)
    output = 1000 * running / itl
    return Point(
        batch_size=batch,
        replicas=replicas,
        sharing_mode=SharingMode.NONE if replicas == 1 else SharingMode.MPS,
        max_num_batched_tokens=8192,
        throughput_tokens_per_second=output * 1.4,
        output_tokens_per_second=output,
        throughput_ci_fraction=0.01,
        itl_ms=Latency(mean_ms=itl, p50_ms=itl, p90_ms=itl * 1.2, samples=100),
        ttft_ms=Latency(mean_ms=200),
        kv_pool_bytes=10 * GIB,
        kv_peak_fraction=rng.uniform(0.1, 0.98),
        mean_running=running,
        window_seconds=10,
        requests=100,
        input_tokens_mean=111,
        output_tokens_mean=292,
        confirmed=replicas > 1,
    )


def random_document(count: int, seed: int = 7) -> MeasurementDocument:
    """`count` points: B = 1, and as many singles as packs at random batches."""
    rng = random.Random(seed)
    points = [random_point(rng, 1, 1)]
    while len(points) < count:
        points.append(random_point(rng, rng.randint(2, 1024), rng.choice([1, 1, 1, 2, 3, 4])))
    return MeasurementDocument(
        model=Model(uri="random"),
        engine=Engine(version="none"),
        gpu=Gpu(product="NVIDIA-H100-80GB-HBM3", memory_bytes=80 * GIB),
        workload=Workload(source="random", input_tokens_mean=111, output_tokens_mean=292),
        ledger=Ledger(
            device_bytes=80 * GIB,
            weights_bytes=3 * GIB,
            activation_peak_bytes=GIB,
            context_bytes=GIB,
            kv_bytes_per_token=192 * 1024,
            kv_pool_bytes=60 * GIB,
        ),
        points=tuple(points),
        cost=Cost(gpu_seconds=1, engine_starts=1, startup_seconds=1),
    )


def measure(points: int, runs: int) -> dict[str, float]:
    """CPU seconds of one advice over `points` candidates."""
    document, seconds = random_document(points), []
    gc.collect()
    gc.freeze()
    for _ in range(runs):
        started = time.process_time()
        advice = advise(document, Slo(itl_ms=60), Settings())
        seconds.append(time.process_time() - started)
        assert len(advice.candidates) == points
        del advice  # else the next question is asked, and the collector walks, beside an answer that nobody reads
    gc.unfreeze()
    return {"candidates": points, "seconds_median": statistics.median(seconds), "seconds_best": min(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.points, args.runs)
    if args.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['candidates']:,} candidates: median {found['seconds_median'] * 1000:.0f} ms, best {found['seconds_best'] * 1000:.0f} ms"
        )


if __name__ == "__main__":
    main()
