"""vLLM's flags: which of them the user may not give, under all their names, and which are harmless to show.

Sources: `make_arg_parser` of vllm/entrypoints/launchers/cli_args.py, whose options of the pinned version stand in
tests/data/vllm/options.json; tests/unit/engines/test_owned_flags.py holds this table against them. A flag is owned when
it contradicts what was measured, or takes from the operator what it asks engines by; one that tunes the engine alike
while measuring and while serving is the user's. Must hold every long name of an owned flag, negations too: what begins
an owned flag's name is an abbreviation of it to the engine's parser, and follows from this table.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING

from slm_core.codec import LARGEST
from slm_core.engines.base import Owner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BATCH_SIZE, STEP_TOKENS, KV_BYTES, MAX_MODEL_LEN, DTYPE = (
    "--max-num-seqs",
    "--max-num-batched-tokens",
    "--kv-cache-memory-bytes",
    "--max-model-len",
    "--dtype",
)
_OWNED_BY: Mapping[Owner, tuple[str, ...]] = {
    Owner.MODEL: ("--model",),
    Owner.SERVED_NAME: ("--served-model-name",),
    Owner.REVISION: ("--revision",),
    Owner.REMOTE_CODE: ("--trust-remote-code", "--no-trust-remote-code"),
    Owner.MAX_MODEL_LEN: (MAX_MODEL_LEN,),
    Owner.DTYPE: (DTYPE,),
    Owner.ADVICE: (
        BATCH_SIZE,
        STEP_TOKENS,
        KV_BYTES,
        "--gpu-memory-utilization",
        "--device-memory-utilization",  # another name of the former
        "--max-num-queued-reqs",
        "--max-num-queued-tokens",  # it too refuses what the closed loop asks, and clients below their number
        "--max-num-active-seqs",  # a smaller batch than the one that was decided
        "--num-gpu-blocks-override",  # another KV pool than the one that was decided
    ),
    Owner.OPERATOR: ("--shutdown-timeout",),
    Owner.HTTP: (
        "--host",
        "--port",
        "--uds",  # host and port are ignored then
        "--headless",
        "--grpc",
        "--tokens-only",
        "--no-tokens-only",
        # NB: either turns TLS on (uvicorn, `Config.is_ssl`), and then no probe gets an answer.
        "--ssl-keyfile",
        "--ssl-certfile",
    ),
    Owner.METRICS: ("--disable-log-stats",),
    Owner.LOG: ("--log-level", "--log-config-file", "--logging-config"),
    Owner.API_KEY: ("--api-key",),
    Owner.CREDENTIALS: ("--hf-token",),
    Owner.FILE: ("--config",),
    Owner.ONE_GPU: (
        "--tensor-parallel-size",
        "--pipeline-parallel-size",
        "--data-parallel-size",
        "--data-parallel-size-local",
        "--data-parallel-rank",
        "--data-parallel-start-rank",
        "--data-parallel-address",
        "--data-parallel-rpc-port",
        "--data-parallel-backend",
        "--data-parallel-hybrid-lb",
        "--no-data-parallel-hybrid-lb",
        "--data-parallel-external-lb",
        "--no-data-parallel-external-lb",
        "--data-parallel-multi-port-external-lb",
        "--data-parallel-supervisor-port",
        "--decode-context-parallel-size",
        "--prefill-context-parallel-size",
        "--enable-elastic-ep",
        "--no-enable-elastic-ep",
        "--elastic-ep-max-dp-size",
        # It wants data parallelism with a load balancer of its own (vllm/engine/arg_utils.py), and opens endpoints by
        # which every client may stop the engine (vllm/entrypoints/serve/fault_tolerance/api_router.py).
        "--enable-fault-tolerance",
        "--no-enable-fault-tolerance",
        "--fault-tolerance-config",
        "--nnodes",
        "--node-rank",
        "--device-ids",
    ),
}
OWNED: Mapping[str, Owner] = {flag: owner for owner, flags in _OWNED_BY.items() for flag in flags}
OPTIONAL: Mapping[str, str] = {
    "--max-num-queued-reqs": "requests beyond two batches wait without end instead of being answered 503",
}
SINCE: Mapping[str, tuple[int, int]] = {"--max-num-queued-reqs": (0, 29)}
"""Release notes of v0.29.0, PR 49445. All else that is given is older than 0.26 (`--shutdown-timeout`: v0.18, PR 34730)."""
ALWAYS = "--shutdown-timeout"
"""A measurement that was made without it was made before every flag of serving was given while measuring."""
SECRET = frozenset({"--api-key", "--hf-token"})
"""NB: vLLM writes both into its log, among its `non-default args`."""
KEY_VARIABLE = "VLLM_API_KEY"
"""Source: vllm/entrypoints/serve/middleware/register.py."""
SHORT: Mapping[str, str] = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dpl": "--data-parallel-size-local",
    "-dpn": "--data-parallel-rank",
    "-dpr": "--data-parallel-start-rank",
    "-dpa": "--data-parallel-address",
    "-dpp": "--data-parallel-rpc-port",
    "-dpb": "--data-parallel-backend",
    "-dph": "--data-parallel-hybrid-lb",
    "-dpe": "--data-parallel-external-lb",
    "-dpm": "--data-parallel-multi-port-external-lb",
    "-dcp": "--decode-context-parallel-size",
    "-pcp": "--prefill-context-parallel-size",
    "-n": "--nnodes",
    "-r": "--node-rank",
}
FREE = frozenset({"-dc"})
"""`-dcp` begins with it, and it is --diffusion-config."""
HARMLESS = frozenset({
    "--seed", "--max-log-len", "--uvicorn-log-level", "--max-num-partial-prefills", "--quantization",
    "--kv-cache-dtype", "--load-format", "--tokenizer-mode", "--attention-backend", "--block-size", "--swap-space",
    "--cpu-offload-gb", "--reasoning-parser", "--tool-call-parser", "--distributed-executor-backend",
    "--scheduling-policy", "--max-seq-len-to-capture",
})  # fmt: skip
REFUSED_VARIABLES: Mapping[str, str] = {
    "VLLM_SERVER_DEV_MODE": "it opens endpoints by which every client may stop or empty the engine: use an engine of "
    "your own for that",
    # vllm/config/parallel.py: it counts wherever no flag says another size.
    "VLLM_DP_SIZE": "it makes several engines of one, which has one GPU or a share of it",
    # vllm/transformers_utils/utils.py, `maybe_model_redirect`.
    "VLLM_MODEL_REDIRECT_PATH": "it makes the engine serve another model than the one that was measured",
    # vllm/entrypoints/cli/serve.py, `run_multi_api_server`; the limit is kept in vllm/v1/engine/async_llm.py.
    "VLLM_USE_RUST_FRONTEND": "it puts another server before the engine, which does not keep the limit of requests that the operator sets",
    # vllm/v1/metrics/prometheus.py, `setup_multiprocess_prometheus`.
    "PROMETHEUS_MULTIPROC_DIR": "engines that are measured side by side would count into one page",
    # vllm/v1/worker/startup_plan.py.
    "VLLM_ENABLE_STARTUP_PLAN": "it makes the engine skip the look at its memory from which the advice follows",
}
"""NB: what only moves its ports or addresses (VLLM_PORT, VLLM_HOST_IP) fails in the profile if it is wrong, and is the user's."""


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d{1,16})([KMGT]?)|(\d{1,16}(?:\.\d{1,16})?)([kmgt])", re.ASCII)


def size_of(text: str | None) -> int | None:
    """A number as its parser takes it: 64M is binary, 64m decimal, and only before a decimal unit may be a fraction.

    None for any other word, and for a number beyond what a measurement may say.
    """
    found = _SIZE.fullmatch(text or "")
    if found is None:
        return None
    size = int(found[1]) * _UNITS[found[2]] if found[1] else int(float(found[3]) * _UNITS[found[4]])
    return size if size <= LARGEST else None


def name_of(word: str) -> str:
    """The flag that a word gives, spelled as vLLM's parser reads it: underscores are hyphens, a value may follow a `=`."""
    return word.partition("=")[0].replace("_", "-")


def values_in(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each word as a flag, with the value that it would have: behind its `=`, or the next word. None: nothing follows."""
    for word, following in zip_longest(words, words[1:]):
        _, equals, value = word.partition("=")
        yield name_of(word), value if equals else following
