"""`python -m slm_runtime serve` without its patience: `driver.py BACKOFF_SECONDS serve WORD...`"""

import os
import sys
from pathlib import Path

from slm_runtime import cli, device_checks, engine_process, host
from slm_runtime.serve import agent, daemon_keeper, supervisor
from slm_runtime.serve.command import serve
from slm_runtime.serve.pack import Patience

if __name__ == "__main__":
    device_checks.LOOK_SECONDS = 0
    engine_process.STOP_SECONDS = 1.0
    supervisor.TICK_SECONDS = supervisor.HEALTH_SECONDS = daemon_keeper.WATCH_SECONDS = 0.05
    supervisor.FIRST_ANSWER_SECONDS = 1.0
    supervisor.MEMORY_SECONDS = 0.1
    supervisor.METRICS_SECONDS = float(os.environ.get("TEST_METRICS_SECONDS", supervisor.METRICS_SECONDS))
    supervisor.METRICS_BYTES_PER_ENGINE = int(os.environ.get("TEST_METRICS_BYTES", supervisor.METRICS_BYTES_PER_ENGINE))
    agent.ARRIVAL_SECONDS = 0.2
    agent.TAKEN_OUT_SECONDS = float(os.environ.get("TEST_TAKEN_OUT_SECONDS", agent.TAKEN_OUT_SECONDS))
    host.CGROUP = Path(os.environ.get("TEST_CGROUP", host.CGROUP))
    patience = Patience(backoff_seconds=float(sys.argv[1]))
    cli.serve = lambda settings: serve(settings, patience)
    sys.exit(cli.main(sys.argv[2:]))
