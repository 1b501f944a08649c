"""The runtime as an engine's container gets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("runtime") / "slm_runtime.pyz"
    subprocess.run([sys.executable, str(ROOT / "hack/zipapp.py"), str(built)], check=True)
    return built
