"""What a real operator and real engines say of themselves, recorded by a Prometheus: what dashboards are tested with.

    python -m benchmarks.dashboards.recording && python -m benchmarks.dashboards.pictures

Needs what `make demo` needs, and about a quarter of an hour: a kind node, a profile of the real vLLM on CPU, and a load
that comes and goes. Writes tests/data/metrics/recorded.jsonl.gz.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.load import place_client, steady_load
from tests.testbed.kind import kind_cluster
from tests.testbed.metrics_pipeline import scraping
from tests.testbed.prometheus import RECORDING, write_recording
from tests.testbed.stage import Stage

ROOT = Path(__file__).parents[2]
NAMESPACE, NAME = "team", "opt-tiny"
OURS = '{__name__=~"slm_operator_.+|process_.+|vllm:.+"}'
STEP_S = 15
LOADS = ((4, 75), (16, 90))
"""Clients, and for how many seconds."""


def main() -> None:
    """Measure, serve, load, and keep what was scraped meanwhile."""
    with kind_cluster() as cluster:
        stage = Stage(cluster, print)
        stage.build_images()
        stage.install_gpu()
        stage.install_operator("config.nodes.projectionSeconds=15", "config.watch.intervalSeconds=10")
        with scraping(stage) as prometheus:
            cluster.kubectl("create", "namespace", NAMESPACE)
            stage.provide_model(NAMESPACE)
            stage.opt_in()
            place_client(stage)
            example = str(ROOT / "tests/e2e/opt-tiny.yaml")
            cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", example)
            ready = ("wait", f"slmd/{NAME}", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=1800s")
            cluster.kubectl(*ready, timeout_s=1830)
            began = time.time()
            for clients, seconds in LOADS:
                with steady_load(stage, NAMESPACE, NAME, clients=clients, tokens=48):
                    time.sleep(seconds)
            recorded = prometheus.range(OURS, began - 60, time.time(), STEP_S)
            RECORDING.parent.mkdir(parents=True, exist_ok=True)
            write_recording(RECORDING, recorded)
            print(f"{len(recorded)} series in {RECORDING.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
