"""Which of vLLM's flags change how much memory an engine takes, and which of them an estimate follows.

Exists so that an estimate never passes over a flag in silence. Sources: vllm/config of the pinned version, whose options
stand in tests/data/vllm/options.json. Flags that the operator owns are not here: the spec says those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.engines.base import MemoryOptions
from slm_core.engines.vllm_flags import values_in

if TYPE_CHECKING:
    from collections.abc import Sequence

KV_DTYPE, QUANTIZATION = "--kv-cache-dtype", "--quantization"
SHORT = {
    "-q": QUANTIZATION, "-sc": "--speculative-config", "-cc": "--compilation-config", "-ac": "--attention-config",
}  # fmt: skip
IN_CHECKPOINT = frozenset({
    "auto_awq", "awq", "awq_marlin", "auto_gptq", "gptq", "gptq_marlin", "compressed-tensors", "mxfp4", "gpt_oss_mxfp4",
    "modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "fbgemm_fp8", "fp_quant", "quark", "moe_wna16",
})  # fmt: skip
"""Methods for weights that are quantised on disk, of which config.json tells."""
NOT_FOLLOWED = (
    "--block-size", "--cpu-offload-gb", "--cpu-offload-params", "--offload-backend", "--offload-group-size",
    "--offload-num-in-group", "--offload-params", "--enable-lora", "--lora-modules", "--max-loras", "--max-lora-rank",
    "--lora-dtype", "--default-mm-loras", "--fully-sharded-loras", "--speculative-config", "--spec-model",
    "--spec-method", "--spec-tokens", "--hf-overrides", "--hf-config-path", "--model-impl", "--quantization-config",
    "--load-format", "--kv-cache-dtype-skip-layers", "--kv-sharing-fast-prefill", "--disable-sliding-window",
    "--disable-hybrid-kv-cache-manager", "--mamba-cache-dtype", "--mamba-ssm-cache-dtype", "--mamba-block-size",
    "--mamba-cache-mode", "--use-replayssm", "--language-model-only", "--mm-encoder-only", "--limit-mm-per-prompt",
    "--skip-mm-profiling", "--mm-processor-device", "--mm-ipc-gpu-memory-gb", "--enable-mm-embeds", "--runner",
    "--convert", "--compilation-config", "--cudagraph-capture-sizes", "--max-cudagraph-capture-size",
    "--optimization-level", "--enforce-eager", "--kv-transfer-config", "--kv-offloading-backend", "--enable-eplb",
    "--eplb-config", "--enable-dbo", "--diffusion-config", "--engram-config", "--additional-config",
    "--enable-sleep-mode", "--enable-cumem-allocator", "--max-logprobs", "--attention-config", "--prefix-match-unit",
)  # fmt: skip
_ALL = (KV_DTYPE, QUANTIZATION, *NOT_FOLLOWED)


def memory_options(words: Sequence[str]) -> MemoryOptions:
    """What the user's words say of memory; of a flag that is given twice the last one counts, as in vLLM."""
    said: dict[str, str] = {}
    for name, value in values_in(words):
        flag = _flag(name)
        if flag is not None:
            said[flag] = value or ""
    quantization = said.get(QUANTIZATION)
    return MemoryOptions(
        kv_dtype=said.get(KV_DTYPE, "auto"),
        quantization=None if quantization in IN_CHECKPOINT else quantization,
        not_followed=tuple(flag for flag in said if flag in NOT_FOLLOWED),
    )


def _flag(name: str) -> str | None:
    """The full name of a flag of ours, of which argparse takes abbreviations."""
    if not name.startswith("--"):
        return SHORT.get(name)
    return name if name in _ALL else next((flag for flag in _ALL if name != "--" and flag.startswith(name)), None)
