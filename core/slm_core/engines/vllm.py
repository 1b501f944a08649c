"""vLLM, 0.26 and newer: everything of it that the product knows.

Sources: its own modules, named where they matter; docs/concepts/overview.md, "What the engine does". Gateways and dashboards key
on the names of its metrics too. Must never let the measured engine differ from the served one by a word that
tests/unit/test_measured_and_served.py does not name.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from slm_core.counters import CounterReader
from slm_core.engines import vllm_flags, vllm_given
from slm_core.engines.base import (
    Advised,
    Batching,
    CommandLine,
    Engine,
    Identity,
    MemoryOptions,
    MemoryReport,
    ModelOptions,
    Options,
    Overheads,
    ParsedArguments,
    Paths,
)
from slm_core.engines.vllm_failures import explain
from slm_core.engines.vllm_flags import (
    BATCH_SIZE,
    DTYPE,
    KV_BYTES,
    MAX_MODEL_LEN,
    STEP_TOKENS,
    name_of,
    size_of,
    values_in,
)
from slm_core.engines.vllm_key import UNMEASURED_VARIABLES, measured_words
from slm_core.engines.vllm_log import read_memory_lines
from slm_core.engines.vllm_memory import memory_options
from slm_core.failure import Failure, ProfileError
from slm_core.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_core.counters import Counters
    from slm_core.failure import Cause
    from slm_core.measurements import Ledger

RESERVE_BYTES = 512 * MIB
"""Kept between a measured engine's share and what it is allowed to claim at its start."""
FREE_SHARE = 0.90
"""Share of its slice that a served engine may call its own where no ledger says better: the default of 0.92, rounded down."""
_MODULE = "api_server"
"""What starts vLLM without its command, as a module or a file; deprecated (vllm/entrypoints/openai/api_server.py).

NB: it takes a model in first place as `vllm serve` does, and ignores it: it would serve its default model.
"""
WITHOUT_LIMIT = 1_000_000
"""Requests in flight that no measurement reaches."""
_SILENT_LEVELS = frozenset({"WARNING", "WARN", "ERROR", "CRITICAL", "FATAL"})
_OWN_IMAGE = re.compile(r"(?:^|/)vllm/vllm-openai(?:-cpu)?:v?([\w.+-]+?)(?:-cu\d+)?(?:@\S+)?$", re.ASCII)
_RELEASE = re.compile(r"v?(\d+)\.(\d+)(?:\.\d+)*(?:\+[\w.]+)?", re.ASCII)
"""A release, perhaps built by somebody else. NB: a pre-release may have or lack what its release has."""
BLOCK_TOKENS = 128
"""The largest KV block (CPU); a sequence takes whole blocks."""
_GRAPH_STEPS = ((2, 1), (4, 2), (8, 4), (256, 8))
"""(below this batch size, graphs are captured for multiples of)."""
_COUNTERS = CounterReader({
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "kv_usage": "vllm:kv_cache_usage_perc",
    "preemptions": "vllm:num_preemptions_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "output_tokens": "vllm:generation_tokens_total",
    "finished": "vllm:request_success_total",
    "itl_sum": "vllm:inter_token_latency_seconds_sum",
    "itl_count": "vllm:inter_token_latency_seconds_count",
    "ttft_sum": "vllm:time_to_first_token_seconds_sum",
    "ttft_count": "vllm:time_to_first_token_seconds_count",
    "queue_sum": "vllm:request_queue_time_seconds_sum",
}, optional={
    "prefill_sum": ["vllm:request_prefill_time_seconds_sum"],
    "prefix_queries": ["vllm:prefix_cache_queries_total"],
    # Those of a cache outside the engine are asked for what its own does not hold (vllm/v1/metrics/loggers.py).
    "prefix_hits": ["vllm:prefix_cache_hits_total", "vllm:external_prefix_cache_hits_total"],
})  # fmt: skip
_CACHE_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
_SENDABLE = re.compile(r"[!-~]+(?: +[!-~]+)*")
"""Keys that a header can hold as they are."""
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Vllm(Engine):
    """See Engine."""

    name = "vllm"
    image = "vllm/vllm-openai:v0.32.0"
    image_cuda = (13, 0)  # CUDA_VERSION of docker/Dockerfile
    command = ("vllm", "serve")
    environment: Mapping[str, str] = {"VLLM_NO_USAGE_STATS": "1"}
    batch_size_flag = BATCH_SIZE
    kv_bytes_flag = KV_BYTES
    owned_flags = vllm_flags.OWNED
    short_flags = vllm_flags.SHORT
    free_flags = vllm_flags.FREE
    optional_flags = vllm_flags.OPTIONAL
    secret_flags = vllm_flags.SECRET
    key_variable = vllm_flags.KEY_VARIABLE
    refused_variables = vllm_flags.REFUSED_VARIABLES
    harmless_flags = vllm_flags.HARMLESS
    harmless_words = frozenset({"vllm", "serve", "vllm.entrypoints.openai.api_server"})
    smallest_token_budget = 2048
    overheads = Overheads(context_bytes=720_000_000, sampled_sequences=256, memory_fraction=0.92)
    histograms: Mapping[str, str] = {
        "itl": "vllm:inter_token_latency_seconds",
        "ttft": "vllm:time_to_first_token_seconds",
    }
    paths = Paths(health="/health", metrics="/metrics", version="/version", models="/v1/models", tokenize="/tokenize")
    remedies: Mapping[Failure, str] = {
        Failure.COMMAND: "give the engine's command after `--`, as in `-- vllm serve`",
        Failure.METRICS: "use an engine that exports vLLM's metrics (0.26 or newer), with --disable-log-stats off",
        Failure.LOG: "let vLLM (0.26 or newer) look at its memory and write its log to its standard output at level INFO: "
        "no --kv-cache-memory-bytes, --log-level or logging configuration of your own",
        Failure.PORT: "leave the port to the profiler: remove --port from the engine arguments",
    }

    def is_started_by(self, command: Sequence[str]) -> bool:
        """See Engine."""
        return any(word.rpartition("/")[2].partition(".")[0] == "vllm" for word in command)

    def version_of_image(self, image: str) -> str:
        """See Engine."""
        found = _OWN_IMAGE.search(image)
        return found[1] if found else "unknown"

    def arguments(self, command: Sequence[str], options: Options) -> tuple[str, ...]:
        """See Engine."""
        service, fraction = options.service, options.memory_fraction
        named = any(_MODULE in word for word in command)
        flags: tuple[tuple[str, object | None], ...] = (
            ("--model", options.model if named else None),
            ("--served-model-name", options.served_name),
            ("--host", service and service.host),
            ("--port", service and service.port),
            (BATCH_SIZE, options.batch_size),
            (STEP_TOKENS, options.max_num_batched_tokens),
            (KV_BYTES, options.kv_bytes),
            # Without it the queue has no end: every client would wait, and overload would show only as latency.
            # NB: running and waiting count together, in spite of the flag's name (async_llm.py, check_admission).
            ("--max-num-queued-reqs", service.max_in_flight if service else WITHOUT_LIMIT),
            # NB: a CUDA engine refuses to start when less than utilization * total is free, even with given KV bytes.
            ("--gpu-memory-utilization", None if fraction is None else f"{fraction:.2f}"),
            # NB: the default of 0 aborts every request in flight on SIGTERM.
            ("--shutdown-timeout", service.drain_seconds if service else 0),
        )
        known = [(flag, value) for flag, value in flags if flag not in options.left_out]
        return (*(() if named else (options.model,)), *options.fixed, *_words(known))

    def unknown_flags(self, version: str, measured_with: Sequence[str]) -> tuple[str, ...]:
        """See Engine."""
        given = set(map(name_of, measured_with))
        release = _RELEASE.fullmatch(version)
        older = (int(release[1]), int(release[2])) if release else None

        def is_unknown(flag: str) -> bool:
            return vllm_flags.ALWAYS in given or (older is not None and older < vllm_flags.SINCE[flag])

        return tuple(flag for flag in self.optional_flags if flag not in given and is_unknown(flag))

    def fixed_arguments(self, options: ModelOptions, given: Sequence[str]) -> tuple[str, ...]:
        """See Engine."""
        loading = (("--load-format", "runai_streamer" if options.streamed else None),)
        flags = (("--revision", options.revision), (DTYPE, options.dtype), (MAX_MODEL_LEN, options.max_model_len))
        trusting = ("--trust-remote-code",) if options.trust_remote_code else ()
        return (*_words(loading), *given, *_words(flags), *trusting)

    def listen(self, host: str, port: int) -> tuple[str, ...]:
        """See Engine."""
        return _words((("--host", host), ("--port", port)))

    def read_arguments(self, words: Sequence[str]) -> ParsedArguments:
        """See Engine."""
        said = {flag: value for flag, value in values_in(words) if value is not None}
        return ParsedArguments(
            batch_size=size_of(said.get(BATCH_SIZE)),
            kv_bytes=size_of(said.get(KV_BYTES)),
            max_model_len=size_of(said.get(MAX_MODEL_LEN)),
            dtype=said.get(DTYPE),
        )

    def arguments_at(self, words: Sequence[str]) -> int | None:
        """See Engine."""
        return vllm_given.arguments_at(words)

    def is_in_image(self, image: str) -> bool:
        """See Engine."""
        return vllm_given.is_in_image(image)

    def read_command_line(self, arguments: Sequence[str], given_by: Sequence[str]) -> CommandLine:
        """See Engine."""
        return vllm_given.read(arguments, given_by)

    def batching_of(self, line: CommandLine, version: str, device_bytes: int, product: str) -> Batching:
        """See Engine."""
        return vllm_given.batching_of(line, version, device_bytes, product)

    def advised_flags(self, line: CommandLine, advised: Advised) -> dict[str, str | None]:
        """See Engine."""
        return vllm_given.advised_flags(line, advised)

    def memory_options(self, words: Sequence[str]) -> MemoryOptions:
        """See Engine."""
        return memory_options(words)

    def measured_arguments(self, words: Sequence[str]) -> list[str]:
        """See Engine."""
        return measured_words(words)

    def measured_variable(self, name: str) -> bool:
        """See Engine. Its key is compared once a request."""
        return name != self.key_variable and not UNMEASURED_VARIABLES.fullmatch(name)

    def headers(self, environment: Mapping[str, str]) -> dict[str, str]:
        """See Engine. It wants the key at /v1 only (AuthenticationMiddleware); elsewhere nobody looks at the header."""
        key = environment.get(self.key_variable)
        if not key:
            return {}
        if not _SENDABLE.fullmatch(key):
            raise ProfileError(
                Failure.ARGUMENTS,
                f"{self.key_variable} holds a line break, a blank at an end or a letter outside of ASCII",
                "write a key into the Secret that clients can send: without a line break at its end (printf, not echo)",
            )
        return {"Authorization": f"Bearer {key}"}

    def measuring_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """See Engine. Where its memory went it says at INFO, once a start."""
        own = {}
        if environment.get("VLLM_LOGGING_LEVEL", "").upper() in _SILENT_LEVELS:
            own["VLLM_LOGGING_LEVEL"] = "INFO"
        if environment.get("VLLM_CONFIGURE_LOGGING") == "0" and not environment.get("VLLM_LOGGING_CONFIG_PATH"):
            own["VLLM_CONFIGURE_LOGGING"] = "1"
        if environment.get("VLLM_LOGGING_PREFIX"):
            own["VLLM_LOGGING_PREFIX"] = ""
        return own

    def fraction_while_measuring(self, device_bytes: int, share_bytes: int, context_bytes: int) -> float:
        """See Engine. Of what is left of the share beside the context, less half a per cent for rounding."""
        return max(0.01, (share_bytes - context_bytes - RESERVE_BYTES) / device_bytes - 0.005)

    def fraction_while_serving(self, engines: int, ledger: Ledger | None) -> float:
        """See Engine. Such that this part of the physical memory fits into a slice beside the context.

        NB: at its start a CUDA engine wants that much free, whatever its KV bytes; under MPS it sees the physical size.
        """
        share = 1 / engines
        if ledger is not None and ledger.device_bytes > 0:
            share = min(share * FREE_SHARE, share - ledger.context_bytes / ledger.device_bytes)
        else:
            share *= FREE_SHARE
        return max(0.01, math.floor(share * 100) / 100)

    def pinned_to(self, cores: Sequence[int]) -> dict[str, str]:
        """See Engine."""
        return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores))}

    def graph_step(self, batch_size: int) -> int:
        """See Engine. Source: vllm/config/vllm.py, `_set_cudagraph_sizes`: 1, 2, 4, by 8 to 256, by 16 above.

        NB: an engine captures its own `max_num_seqs` too, so the size that is served is never padded; the sweep's are.
        """
        return next((step for below, step in _GRAPH_STEPS if batch_size < below), 16)

    def sequence_kv_tokens(self, tokens: int) -> int:
        """See Engine. One block more than the sequence takes. Source: vllm/v1/core/block_pool.py, `null_block`."""
        return (-(-tokens // BLOCK_TOKENS) + 1) * BLOCK_TOKENS

    def read_counters(self, page: str) -> Counters:
        """See Engine."""
        return _COUNTERS.read(page)

    def read_memory(self, log: str, page: str) -> MemoryReport:
        """See Engine. On CUDA a start without fixed KV bytes logs its memory; the metrics tell the pool everywhere."""
        found = _CACHE_CONFIG.search(page)
        if not found:
            raise ProfileError(Failure.METRICS, "the engine's /metrics lacks vllm:cache_config_info")
        config, said = dict(_LABEL.findall(found[1])), read_memory_lines(log)
        blocks = (_number(config.get("num_gpu_blocks")) or 0) * (_number(config.get("block_size")) or 0)
        return MemoryReport(
            log=said,
            kv_pool_bytes=_number(config.get("kv_cache_memory_bytes")) or said.kv_pool,
            kv_pool_tokens=_number(config.get("kv_cache_size_tokens")) or blocks or None,
            kv_dtype=config.get("cache_dtype", "auto"),
        )

    def read_identity(self, version: object, models: object) -> Identity:
        """See Engine."""
        cards = models.get("data") if isinstance(models, dict) else None
        longest = cards[0].get("max_model_len") if isinstance(cards, list) and cards else None
        return Identity(
            version=str(version.get("version", "unknown")) if isinstance(version, dict) else "unknown",
            max_model_len=longest if isinstance(longest, int) else None,
        )

    def tokenize_request(self, model: str, text: str) -> dict[str, object]:
        """See Engine."""
        return {"model": model, "prompt": text}

    def read_token_count(self, answer: Mapping[str, object]) -> int:
        """See Engine."""
        return int(str(answer["count"]))

    def explain(self, log_tail: str) -> Cause:
        """See Engine."""
        return explain(log_tail)


def _words(flags: Sequence[tuple[str, object | None]]) -> tuple[str, ...]:
    """Flags that have a value, each with its value."""
    return tuple(word for flag, value in flags if value is not None for word in (flag, str(value)))


def _number(text: str | None) -> int | None:
    return int(float(text)) if text and re.fullmatch(r"\d+(\.\d+)?", text) else None
