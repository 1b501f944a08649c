"""`python benchmarks/gpu.py` on a machine that has an engine's packages, and nothing of ours installed."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.gpu_stages.table import STAGES
from tests.unit.gpu_stages.conftest import ROOT, Bench

PYTHON = str(getattr(sys, "_base_executable", sys.executable))
"""NB: a Python without the environment's .pth files, by which our packages are found elsewhere."""


def test_gpu_py_starts_where_nothing_is_installed(bench: Bench, tmp_path: Path) -> None:
    bench.have(*(stage.name for stage in STAGES))
    command = [PYTHON, str(ROOT / "benchmarks/gpu.py"), "--resume", str(bench.results), "--", PYTHON]
    bare = bench.environment | {"PYTHONPATH": sysconfig.get_path("purelib")}
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"results: {bench.results}"
