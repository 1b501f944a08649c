"""The product's own profile on a model of a given shape: one engine against packs under MPS or time slicing.

Runs `python -m slm_runtime profile` as a Job would, and says every point as soon as the profile does, so that a profile
that is cut short has reported what it had. Assumes an engine that knows `--load-format dummy`. Must never judge: the points
are kept with their marks, and the gain is the quotient of the two best that carry none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_core.codec import parse
from slm_core.measurements import Cost, Ledger

from benchmarks.gpu_stages.job import Unavailable, Unfinished
from benchmarks.gpu_stages.shapes import write_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.gpu_stages.job import Job
    from benchmarks.gpu_stages.shapes import Shape

NO_BUDGET = ("--max-gpu-minutes", "1440")
"""NB: a profile with a budget leaves out a pack that it expects not to fit, by its dearest start, the cold one. Here the
stage's end is the budget: a pack that is cut short costs nothing but the time that was left."""
LINE_BYTES = 2**24
"""The longest event: a whole document."""
POINT = {
    "batchSize": "b", "replicas": "r", "sharingMode": "mode", "throughputTokensPerSecond": "tokens_per_second",
    "outputTokensPerSecond": "output_tokens_per_second", "throughputCiFraction": "ci_fraction",
    "kvPoolBytes": "kv_pool_bytes", "kvPeakFraction": "kv_peak_fraction", "preemptions": "preemptions",
    "meanRunning": "mean_running", "windowSeconds": "window_seconds", "inputTokensMean": "input_tokens_mean",
    "outputTokensMean": "output_tokens_mean", "energyJoules": "energy_joules", "meanPowerWatts": "mean_power_watts",
    "confirmed": "confirmed", "marks": "marks",
}  # fmt: skip
"""What is kept of a point of the measurement document, and under which name."""


async def packs(job: Job) -> None:
    """The published model, packs under MPS, or under time slicing where the profile finds no MPS (its notes say so)."""
    await _profile(job, job.scale.published, ("--sharing-mode", "auto"))


async def modern(job: Job) -> None:
    """A model of today's shape, the same question."""
    await _profile(job, job.scale.modern, ("--sharing-mode", "auto"))


async def slicing(job: Job) -> None:
    """The published model, a pack of two under time slicing: what it costs where nobody may use MPS."""
    await _profile(job, job.scale.published, ("--sharing-mode", "time-slicing", "--engines-per-gpu", "2"))


async def _profile(job: Job, shape: Shape, sharing: Sequence[str]) -> None:
    """Follow one profile to its end. NB: what it says is kept at once, so a cancellation loses nothing."""
    job.keep("model", shape.like)
    began = time.monotonic()
    words = ["--model", str(write_model(shape, Path(job.folder))), *sharing, *job.scale.profile_words]
    words += ["--input-tokens", job.scale.lengths[0], "--output-tokens", job.scale.lengths[1], "--slo-itl-factor", "4"]
    words += [*NO_BUDGET, "--startup-timeout-seconds", f"{job.seconds:.0f}"]
    command = [sys.executable, "-m", "slm_runtime", "profile", *words, "--", *job.engine, "--load-format", "dummy"]
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES
    )
    said = _Said(job)
    try:
        assert process.stdout, "opened with a pipe"
        async for line in process.stdout:
            said.hear(json.loads(line), time.monotonic() - began)
    finally:
        await _end(process, said, began)
        await job.figure("gain", said.gain)
    if said.unfinished:
        raise Unfinished(said.unfinished)


async def _end(process: asyncio.subprocess.Process, said: _Said, began: float) -> None:
    """See the profile gone; what it says at its end is heard."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    assert process.stdout, "opened with a pipe"
    async for line in process.stdout:
        said.hear(json.loads(line), time.monotonic() - began)
    await process.wait()


class _Said:
    """What a profile has said until now."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._points: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self.unfinished: str | None = "the profile ended without a result"

    def hear(self, event: Mapping[str, Any], seconds: float) -> None:
        """One event: see `slm_runtime.events`."""
        match event["event"]:
            case "point":
                self._points.append({**point(event["point"]), "after_seconds": round(seconds, 1)})
                self._job.keep("points", self._points)
            case "ledger":
                self._job.keep("ledger", asdict(parse(Ledger, event["ledger"], "ledger")))
            case "note":
                self._notes.append(event["message"])
                self._job.keep("notes", self._notes)
            case "result":
                document = event["document"]
                self.unfinished = document.get("incompleteBecause")
                self._job.keep("cost", asdict(parse(Cost, document["cost"], "cost")))
                self._job.keep("engine", {"name": document["engine"]["name"], "version": document["engine"]["version"]})
            case "failed":
                self.unfinished = f"{event['class']}: {event['message']}"
            case _:
                pass

    async def gain(self) -> dict[str, Any]:
        """See `gain`."""
        return gain(self._points)


def gain(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best pack over the best single engine, of points without a mark that forbids choosing them.

    NB: whatever SLO a pack keeps; the advisor asks more. Raises Unavailable where there are no two such points.
    """
    trusted = [p for p in points if not p["marks"]]
    singles = [p["tokens_per_second"] for p in trusted if p["r"] == 1]
    packed = [p["tokens_per_second"] for p in trusted if p["r"] > 1]
    if not singles or not packed:
        raise Unavailable(f"{len(singles)} single and {len(packed)} packed points are without a doubt")
    best = {"single_tokens_per_second": max(singles), "pack_tokens_per_second": max(packed)}
    return {**best, "gain_fraction": max(packed) / max(singles) - 1}


def point(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A point of the document, flat: one row of a table."""
    row = {name: raw[key] for key, name in POINT.items() if key in raw}
    return row | {"itl_ms": raw["itlMs"]["meanMs"], "ttft_ms": raw.get("ttftMs", {}).get("meanMs")}
