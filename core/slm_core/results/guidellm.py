"""GuideLLM's report (`benchmarks.json`): several benchmarks, each with a strategy of its own. Keys: those of 0.8.

Its inter-token latency is this project's ITL; its time per output token counts the first token too, and is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.results.run import OPEN_LOOP, Fields, LeftOut, Run, latency

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import Latency

NAME = "GuideLLM"
_SAID = {"throughput": "it sent all its requests at once: run it again as --profile concurrent"}


def is_one(raw: Fields) -> bool:
    """Whether the file is this tool's."""
    return isinstance(raw.get("benchmarks"), list) and raw.get("metadata", "guidellm_version") is not None


def runs(raw: Fields) -> Iterator[Run | LeftOut]:
    """Its benchmarks, in order. Raises DocumentError."""
    for number in range(len(raw.get("benchmarks"))):
        one = Fields(raw.get("benchmarks", number), f"{raw.at}, benchmarks[{number}]")
        strategy = one.text("config", "strategy", "type_")
        if strategy == "synchronous":
            yield _run(one, raw, 1)
        elif strategy == "concurrent":
            yield _run(one, raw, one.count("config", "strategy", "streams"))
        else:
            yield LeftOut(f"{one.at} ({strategy})", _SAID.get(strategy, OPEN_LOOP))


def _run(one: Fields, report: Fields, concurrency: int) -> Run:
    requests = one.count("metrics", "request_totals", "successful")
    asked = report.text_or("unknown", "config", "spec", "backend", "model")
    return Run(
        model=one.text_or(asked, "config", "backend", "model"),
        concurrency=concurrency,
        seconds=one.seconds("duration"),
        requests=requests,
        errors=int(one.number_or(0, "metrics", "request_totals", "errored")),
        input_tokens=_mean(one, "prompt_token_count"),
        output_tokens=_mean(one, "output_token_count"),
        in_flight=_mean(one, "request_concurrency"),
        itl_ms=_latency(one, "inter_token_latency_ms", requests),
        ttft_ms=_latency(one, "time_to_first_token_ms", requests),
    )


def _mean(one: Fields, metric: str) -> float:
    return one.number("metrics", metric, "successful", "mean")


def _latency(one: Fields, metric: str, requests: int) -> Latency:
    path = "metrics", metric, "successful", "percentiles"
    return latency(_mean(one, metric), requests, lambda statistic: one.optional(*path, statistic.lower()))
