"""Runs of `benchmarks/gpu.py` against the light engine, and against a device of which only the outside is real."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_stages import record
from benchmarks.gpu_stages.record import Record
from benchmarks.gpu_stages.table import STAGES
from tests.mock_device import LIGHT, mock_device

TESTS = Path(__file__).parents[2]
ROOT = TESTS.parent
CPU = {"kind": "cpu", "product": None, "memory_bytes": None}
MARK = "SLM_TEST"
"""The variable by which the processes of a test are known."""
NEVER_HEALTHY = {"LIGHT_ENGINE_FAULT": "never-healthy"}


@dataclass(slots=True)
class Bench:
    """A results folder, and what runs see of their environment."""

    results: Path
    scratch: Path
    environment: dict[str, str]
    said: list[str] = field(default_factory=list)

    def have(self, *stages: str, machine: dict[str, Any] = CPU) -> None:
        """These stages are complete already."""
        for name in stages:
            record.keep(self.results, a_record(name, machine=machine, complete=True))

    def have_all_but(self, stage: str, machine: dict[str, Any] = CPU) -> None:
        self.have(*(one.name for one in STAGES if one.name != stage), machine=machine)

    def run(self, fate: dict[str, str] | None = None, *, engine: tuple[str, ...] = LIGHT, **variables: str) -> int:
        """One whole run. Returns its exit status."""
        command = [sys.executable, "-m", "tests.unit.gpu_stages.driver", str(self.results)]
        done = subprocess.run(
            [*command, json.dumps(fate or {}), *engine],
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        self.said = done.stdout.splitlines()
        return done.returncode

    def found(self, stage: str) -> Record:
        kept = record.read(self.results, stage)
        assert kept, self.said
        return kept

    def is_complete(self, stage: str) -> bool:
        kept = record.read(self.results, stage)
        return kept is not None and kept.complete

    def left_behind(self) -> list[str]:
        """Processes of this test, and files of its runs."""
        left = [str(path) for path in self.scratch.iterdir()]
        mark = f"{MARK}={self.environment[MARK]}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    left.append((entry / "cmdline").read_text())
        return left


def a_record(stage: str, **values: Any) -> Record:
    """A record with one figure."""
    given = {"machine": CPU, "began": "2026-01-01T00:00:00Z", "figures": {"kept": 1}}
    return Record(stage=stage, **given | values)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    results = tmp_path / "results"
    results.mkdir()
    # NB: an ordinary user may not look into pytest's folders, and a stage runs as one.
    scratch = Path(tempfile.mkdtemp(prefix="slm-test-"))
    scratch.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PYTHONPATH": f"{ROOT}:{TESTS}", "TMPDIR": str(scratch), MARK: scratch.name}
    yield Bench(results, scratch, environment)
    shutil.rmtree(scratch)


@pytest.fixture(scope="session")
def device() -> Iterator[dict[str, str]]:
    """Variables that put a mock NVML, a mock libcuda and a stand-in MPS in front of whatever is started with them."""
    folder = Path(tempfile.mkdtemp(prefix="slm-mock-"))
    yield mock_device(folder)
    shutil.rmtree(folder)
