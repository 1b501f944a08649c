"""`vllm bench serve --save-result`: one file, one run. Keys: vllm/benchmarks/serve.py.

Its TPOT is this project's ITL, (last token - first token) / (tokens - 1) of each request; what it calls ITL are the gaps
between pieces of an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.results.run import OPEN_LOOP, Fields, LeftOut, Run, latency

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.slo import Statistic

NAME = "vllm bench serve"
_FIGURES = {"P50": "median"}


def is_one(raw: Fields) -> bool:
    """Whether the file is this tool's."""
    return raw.get("total_output_tokens") is not None and raw.get("request_rate") is not None


def runs(raw: Fields) -> Iterator[Run | LeftOut]:
    """The run of the file. Raises DocumentError."""
    if raw.get("request_rate") not in ("inf", float("inf")):
        yield LeftOut(raw.at, OPEN_LOOP)
        return
    if raw.get("max_concurrency") is None:
        yield LeftOut(raw.at, "all its requests were sent at once: run it again with --max-concurrency")
        return
    requests, seconds, concurrency = raw.count("completed"), raw.seconds("duration"), raw.count("max_concurrency")
    inputs, outputs = raw.number("total_input_tokens") / requests, raw.number("total_output_tokens") / requests
    itl_ms, ttft_ms = raw.number("mean_tpot_ms"), raw.number("mean_ttft_ms")
    whole_ms = raw.number_or(ttft_ms + itl_ms * max(outputs - 1, 0), "mean_e2el_ms")

    def figure(metric: str, statistic: Statistic) -> float | None:
        return raw.optional(f"{_FIGURES.get(statistic, statistic.lower())}_{metric}_ms")

    yield Run(
        model=raw.text("model_id"),
        concurrency=concurrency,
        seconds=seconds,
        requests=requests,
        errors=int(raw.number_or(0, "failed")),
        input_tokens=inputs,
        output_tokens=outputs,
        in_flight=requests * whole_ms / 1000 / seconds,
        itl_ms=latency(itl_ms, requests, lambda statistic: figure("tpot", statistic)),
        ttft_ms=latency(ttft_ms, requests, lambda statistic: figure("ttft", statistic)),
    )
