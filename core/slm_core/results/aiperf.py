"""AIPerf's `profile_export_aiperf.json`: one file, one run. Keys: those of 0.13; `loadgen` is how earlier ones name the load.

Its inter-token latency is this project's ITL, of each request; it needs `--streaming`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.results.run import OPEN_LOOP, Fields, LeftOut, Run, latency

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import Latency

NAME = "AIPerf"
_MODEL = "input_config", "models", "items", 0, "name"
_OLDER_MODEL = "input_config", "endpoint", "model_names", 0


def is_one(raw: Fields) -> bool:
    """Whether the file is this tool's."""
    return raw.get("input_config", "endpoint") is not None and raw.get("request_throughput") is not None


def runs(raw: Fields) -> Iterator[Run | LeftOut]:
    """The run of the file. Raises DocumentError."""
    concurrency = _concurrency(raw)
    if concurrency is None:
        yield LeftOut(raw.at, OPEN_LOOP)
    elif raw.get("inter_token_latency") is None:
        yield LeftOut(raw.at, "it has no inter-token latency: run it again with --streaming")
    else:
        requests, seconds = raw.count("request_count", "avg"), raw.seconds("benchmark_duration", "avg")
        yield Run(
            model=raw.text_or(raw.text_or("unknown", *_OLDER_MODEL), *_MODEL),
            concurrency=concurrency,
            seconds=seconds,
            requests=requests,
            errors=int(raw.number_or(0, "error_request_count", "avg")),
            input_tokens=raw.number("input_sequence_length", "avg"),
            output_tokens=raw.number("output_sequence_length", "avg"),
            in_flight=requests * raw.number("request_latency", "avg") / 1000 / seconds,
            itl_ms=_latency(raw, "inter_token_latency", requests),
            ttft_ms=_latency(raw, "time_to_first_token", requests),
        )


def _concurrency(raw: Fields) -> int | None:
    """None for a load that is named by rate or by a trace."""
    phases = raw.get("input_config", "phases")
    if isinstance(phases, list):
        measured = [at for at in range(len(phases)) if raw.get("input_config", "phases", at, "kind") == "profiling"]
        path: tuple[str | int, ...] = ("input_config", "phases", *measured[-1:])
        is_closed = len(measured) == 1 and raw.get(*path, "type") == "concurrency"
    else:
        path = "input_config", "loadgen"
        is_closed = not raw.get(*path, "request_rate") and raw.get(*path, "concurrency") is not None
    return raw.count(*path, "concurrency") if is_closed else None


def _latency(raw: Fields, metric: str, requests: int) -> Latency:
    return latency(raw.number(metric, "avg"), requests, lambda statistic: raw.optional(metric, statistic.lower()))
