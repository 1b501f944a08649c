"""The other engine, as the product would know it: what a further module of `slm_core.engines` looks like."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from slm_core.counters import CounterReader
from slm_core.engines.base import (
    Engine,
    Identity,
    MemoryOptions,
    MemoryReport,
    ModelOptions,
    Options,
    Overheads,
    Owner,
    ParsedArguments,
    Paths,
    StartLog,
)
from slm_core.failure import Cause, Failure, ProfileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_core.counters import Counters
    from slm_core.measurements import Ledger

_COUNTERS = CounterReader({
    "running": "other_active",
    "waiting": "other_queued",
    "kv_usage": "other_cache_used",
    "preemptions": "other_evictions",
    "prompt_tokens": "other_read_tokens",
    "output_tokens": "other_written_tokens",
    "finished": "other_done",
    "itl_sum": "other_gap_sum",
    "itl_count": "other_gap_count",
    "ttft_sum": "other_first_sum",
    "ttft_count": "other_first_count",
    "queue_sum": "other_wait_sum",
})  # fmt: skip
_POOL = re.compile(r"^other_cache_(tokens|bytes) (\d+)$", re.MULTILINE)
_FATAL = re.compile(r"^FATAL (no room|bad option|bad model)?.*", re.MULTILINE)
_CLASSES = {"no room": Failure.MEMORY, "bad option": Failure.ARGUMENTS, "bad model": Failure.MODEL, "": Failure.DIED}


class OtherEngine(Engine):
    """See Engine."""

    name = "other_engine"
    image = "registry.example/other:9.1"
    image_cuda = (12, 8)
    command = ("python3", "-m", "other_engine")
    environment: Mapping[str, str] = {"OTHER_NO_TELEMETRY": "yes"}
    batch_size_flag = "--lanes"
    kv_bytes_flag = "--cache-bytes"
    histograms: Mapping[str, str] = {}
    owned_flags: Mapping[str, Owner] = {
        "--weights": Owner.MODEL,
        "--alias": Owner.SERVED_NAME,
        "--tag": Owner.REVISION,
        "--own-code": Owner.REMOTE_CODE,
        "--longest": Owner.MAX_MODEL_LEN,
        "--precision": Owner.DTYPE,
        "--lanes": Owner.ADVICE,
        "--step-tokens": Owner.ADVICE,
        "--cache-bytes": Owner.ADVICE,
        "--claim": Owner.ADVICE,
        "--refuse-above": Owner.ADVICE,
        "--linger": Owner.OPERATOR,
        "--bind": Owner.OPERATOR,
    }
    short_flags: Mapping[str, str] = {}
    free_flags: frozenset[str] = frozenset()
    optional_flags: Mapping[str, str] = {}
    secret_flags: frozenset[str] = frozenset()
    key_variable: str | None = None
    refused_variables: Mapping[str, str] = {"OTHER_ADMIN": "it opens an endpoint that stops the engine"}
    harmless_flags = frozenset({"--quiet"})
    harmless_words = frozenset({"other_engine"})
    smallest_token_budget = 1024
    overheads = Overheads(context_bytes=500_000_000, sampled_sequences=64, memory_fraction=0.8)
    paths = Paths(health="/live", metrics="/stats", version="/about", models="/loaded", tokenize="/count")
    remedies: Mapping[Failure, str] = {Failure.MEMORY: "give it fewer lanes"}

    def is_started_by(self, command: Sequence[str]) -> bool:
        """See Engine."""
        return "other_engine" in command

    def version_of_image(self, image: str) -> str:
        """See Engine."""
        return image.rpartition(":")[2]

    def arguments(self, command: Sequence[str], options: Options) -> tuple[str, ...]:
        """See Engine."""
        service, fraction = options.service, options.memory_fraction
        return (
            *options.fixed,
            *_words(
                ("--weights", options.model),
                ("--alias", options.served_name),
                ("--lanes", options.batch_size),
                ("--step-tokens", options.max_num_batched_tokens),
                ("--cache-bytes", options.kv_bytes),
                ("--claim", None if fraction is None else f"{fraction:.3f}"),
                ("--refuse-above", service and service.max_in_flight),
                ("--linger", service and service.drain_seconds),
            ),
            *(() if service is None else self.listen(service.host or "0.0.0.0", service.port)),
        )

    def unknown_flags(self, version: str, measured_with: Sequence[str]) -> tuple[str, ...]:
        """See Engine."""
        return ()

    def fixed_arguments(self, options: ModelOptions, given: Sequence[str]) -> tuple[str, ...]:
        """See Engine."""
        switches = (("--stream", options.streamed), ("--own-code", options.trust_remote_code))
        return (
            *given,
            *_words(("--tag", options.revision), ("--precision", options.dtype), ("--longest", options.max_model_len)),
            *(flag for flag, on in switches if on),
        )

    def listen(self, host: str, port: int) -> tuple[str, ...]:
        """See Engine."""
        return ("--bind", f"{host}:{port}")

    def read_arguments(self, words: Sequence[str]) -> ParsedArguments:
        """See Engine."""
        said = dict(pairwise(words))
        lanes, cache, longest = (said.get(flag) for flag in ("--lanes", "--cache-bytes", "--longest"))
        return ParsedArguments(
            batch_size=int(lanes) if lanes else None,
            kv_bytes=int(cache) if cache else None,
            max_model_len=int(longest) if longest else None,
            dtype=said.get("--precision"),
        )

    def memory_options(self, words: Sequence[str]) -> MemoryOptions:
        """See Engine."""
        said = dict(pairwise(words))
        return MemoryOptions(kv_dtype=said.get("--cache-precision", "auto"), quantization=None, not_followed=())

    def measured_arguments(self, words: Sequence[str]) -> list[str]:
        """See Engine."""
        return [word for word in words if word != "--quiet"]

    def measured_variable(self, name: str) -> bool:
        """See Engine."""
        return name != "OTHER_LOG"

    def headers(self, environment: Mapping[str, str]) -> dict[str, str]:
        """See Engine."""
        return {}

    def measuring_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """See Engine."""
        return {}

    def fraction_while_measuring(self, device_bytes: int, share_bytes: int, context_bytes: int) -> float:
        """See Engine."""
        return (share_bytes - context_bytes) / device_bytes

    def fraction_while_serving(self, engines: int, ledger: Ledger | None) -> float:
        """See Engine."""
        return 0.875 / engines

    def pinned_to(self, cores: Sequence[int]) -> dict[str, str]:
        """See Engine."""
        return {"OTHER_CORES": " ".join(map(str, cores))}

    def graph_step(self, batch_size: int) -> int:
        """See Engine. It captures none."""
        return 1

    def sequence_kv_tokens(self, tokens: int) -> int:
        """See Engine."""
        return -(-tokens // 16) * 16

    def read_counters(self, page: str) -> Counters:
        """See Engine."""
        return _COUNTERS.read(page)

    def read_memory(self, log: str, page: str) -> MemoryReport:
        """See Engine."""
        pool = {name: int(value) for name, value in _POOL.findall(page)}
        if "tokens" not in pool:
            raise ProfileError(Failure.METRICS, "the engine's /stats lacks other_cache_tokens")
        line = next((one for one in log.splitlines() if one.startswith("memory ")), "memory {}")
        said = json.loads(line.removeprefix("memory "))
        start = StartLog(
            weights=said.get("weights"),
            consumed=None,
            activation_peak=said.get("peak"),
            graphs=None,
            free_at_start=None,
            total=None,
            kv_pool=None,
            checkpoint=None,
        )
        return MemoryReport(log=start, kv_pool_bytes=pool.get("bytes"), kv_pool_tokens=pool["tokens"], kv_dtype="auto")

    def read_identity(self, version: object, models: object) -> Identity:
        """See Engine."""
        engine = version.get("engine") if isinstance(version, dict) else None
        loaded = models.get("models") if isinstance(models, dict) else None
        return Identity(
            version=str(engine["release"]) if engine else "unknown",
            max_model_len=int(loaded[0]["longest"]) if loaded else None,
        )

    def tokenize_request(self, model: str, text: str) -> dict[str, object]:
        """See Engine."""
        return {"text": text}

    def read_token_count(self, answer: Mapping[str, object]) -> int:
        """See Engine."""
        return int(str(answer["tokens"]))

    def explain(self, log_tail: str) -> Cause:
        """See Engine."""
        found = _FATAL.search(log_tail)
        if not found:
            return Cause(failure=Failure.DIED, line="it printed nothing")
        return Cause(failure=_CLASSES[found[1] or ""], line=found[0])


def _words(*flags: tuple[str, object | None]) -> tuple[str, ...]:
    return tuple(word for flag, value in flags if value is not None for word in (flag, str(value)))
