"""Memory of an engine, read from its own words. The log lines are vLLM 0.32's."""

import dataclasses
from pathlib import Path

import pytest
from slm_core.architecture import longest_sequence
from slm_core.engines.base import MemoryReport
from slm_core.engines.registry import default
from slm_core.units import GIB
from slm_runtime.ledger import Observed, dtype_of, kv_bytes_per_token, make_ledger, read_config

DATA = Path(__file__).parents[2] / "data/vllm"
CUDA_LOG = """
(Worker pid=1) INFO [gpu_model_runner.py:5150] Model loading took 2.45 GiB memory and 1.700000 seconds
(Worker pid=1) INFO [gpu_worker.py:760] Available KV cache memory: 69.51 GiB
(Worker pid=1) INFO [gpu_model_runner.py:6582] Graph capturing finished in 5 secs, took 0.31 GiB
(Worker pid=1) INFO [gpu_worker.py:1045] Free memory on device (78.50/79.10 GiB) on startup. Desired GPU memory \
utilization is (0.92, 72.77 GiB). Actual usage is 2.60 GiB for consumed memory (weights + non-torch), 0.66 GiB for \
peak activation, and 0.31 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with \
`--kv-cache-memory=74000000000` (68.9 GiB) to fit into requested memory. Current kv cache memory in use is 69.51 GiB.
"""
LLAMA = {
    "model_type": "llama", "num_hidden_layers": 24, "num_attention_heads": 32, "hidden_size": 2048,
    "intermediate_size": 8192, "vocab_size": 32000, "torch_dtype": "float16",
}  # fmt: skip
PER_TOKEN = 2 * 24 * 2048 * 2
LATENT = {
    "model_type": "deepseek_v2", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 64, "v_head_dim": 64,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512,
}  # fmt: skip
SEEING = {"model_type": "gemma3", "text_config": LLAMA | {"model_type": "gemma3_text", "head_dim": 64}}
"""Of which the text part keeps the KV."""

CONFIGS = [
    ("every head keeps its own", LLAMA, "auto", PER_TOKEN),
    ("grouped heads", LLAMA | {"num_key_value_heads": 8}, "auto", PER_TOKEN // 4),
    ("one head for all", LLAMA | {"model_type": "falcon"}, "auto", PER_TOKEN // 32),
    ("a head wider than its share", LLAMA | {"head_dim": 128}, "auto", PER_TOKEN * 2),
    ("latent attention", LLAMA | LATENT, "auto", 24 * 576 * 2),
    (
        "a sliding window bounds tokens, not their bytes",
        LLAMA | {"model_type": "mistral", "num_key_value_heads": 32},
        "auto",
        PER_TOKEN,
    ),
    ("a narrower cache", LLAMA, "fp8", PER_TOKEN // 2),
    ("weights in float32, which the engine loads in 16 bits", LLAMA | {"torch_dtype": "float32"}, "auto", PER_TOKEN),
    ("the text part of a model of several", SEEING, "auto", PER_TOKEN // 8),
    ("state-space layers alone", LLAMA | {"model_type": "mamba", "state_size": 16}, "auto", None),
    ("an unknown family", LLAMA | {"model_type": "some"}, "auto", None),
    ("no family", {"layers": 3}, "auto", None),
    ("a field of the wrong type", LLAMA | {"num_key_value_heads": [8] * 24}, "auto", None),
    ("a null part", LLAMA | {"text_config": None}, "auto", PER_TOKEN),
    ("a part that is a list", LLAMA | {"text_config": [1]}, "auto", None),
    ("a cache of an unknown type", LLAMA, "some", None),
]


@pytest.mark.parametrize(("name", "config", "dtype", "expected"), CONFIGS, ids=[c[0] for c in CONFIGS])
def test_kv_bytes_per_token(name: str, config: dict[str, object], dtype: str, expected: int | None) -> None:
    assert kv_bytes_per_token(config, dtype) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'"text"', b"\xff\xfe", b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_a_config_that_cannot_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert read_config(str(tmp_path)) == {}
    assert read_config(str(tmp_path / "absent")) == {}


@pytest.mark.parametrize(
    ("config", "longest", "dtype"),
    [
        ({"max_position_embeddings": 2048, "dtype": "bfloat16"}, 2048, "bfloat16"),
        (
            {"text_config": {"max_position_embeddings": 2048}, "torch_dtype": "half"},
            2048,
            "half",
        ),
        ({"text_config": None, "n_positions": 1024}, 1024, "auto"),
        ({"text_config": [1], "dtype": ["bfloat16"]}, None, "auto"),
        ({"max_position_embeddings": "2048", "dtype": 16}, None, "auto"),
        ({"max_position_embeddings": float("inf")}, None, "auto"),
        ({}, None, "auto"),
    ],
)
def test_config_field_of_another_type_is_unknown(config: dict[str, object], longest: int | None, dtype: str) -> None:
    assert (longest_sequence(config), dtype_of(config)) == (longest, dtype)


def said(log: str, **labels: str) -> MemoryReport:
    described = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return default().read_memory(log, f"vllm:cache_config_info{{{described}}} 1.0")


def seen(**changes: object) -> Observed:
    tokens = int(69.51 * GIB) // PER_TOKEN // 16 * 16
    return dataclasses.replace(
        Observed(
            report=said(CUDA_LOG, kv_cache_size_tokens=str(tokens), kv_cache_memory_bytes="None", num_gpu_blocks="1"),
            computed_kv_bytes_per_token=PER_TOKEN,
            weights_on_disk=2_600_000_000,
            device_bytes=int(79.1 * GIB),
            used_bytes=int((0.60 + 2.60 + 0.66 + 0.31 + 69.51) * GIB),
            is_gpu=True,
        ),
        **changes,
    )


def test_a_cuda_engine_accounts_for_all_that_nvml_shows() -> None:
    ledger, notes = make_ledger(seen())
    assert ledger.weights_bytes == round(2.45 * GIB)
    assert ledger.activation_peak_bytes == round(0.66 * GIB)
    assert ledger.graphs_bytes == round(0.31 * GIB)
    # The context: what was gone before the engine looked first, and what it took outside torch.
    assert ledger.context_bytes == pytest.approx((0.60 + 0.15) * GIB, rel=0.01)
    assert ledger.kv_bytes_per_token == PER_TOKEN
    assert ledger.fixed_bytes + ledger.kv_pool_bytes == pytest.approx(ledger.nvml_used_bytes, rel=0.02)
    assert notes == ()


def test_ledger_that_does_not_add_up_is_noted() -> None:
    _, notes = make_ledger(seen(used_bytes=int(60 * GIB)))
    assert "of what NVML shows" in notes[0]


def test_engines_own_kv_layout_wins_over_the_configuration() -> None:
    ledger, notes = make_ledger(seen(computed_kv_bytes_per_token=PER_TOKEN // 2))
    assert ledger.kv_bytes_per_token == pytest.approx(PER_TOKEN, rel=0.01)
    assert "the engine's figure is used" in notes[0]


def test_fixed_kv_bytes_are_exact() -> None:
    report = said(CUDA_LOG, kv_cache_memory_bytes="67108864", kv_cache_size_tokens="16384")
    ledger, _ = make_ledger(seen(report=report, computed_kv_bytes_per_token=None))
    assert (ledger.kv_pool_bytes, ledger.kv_bytes_per_token) == (67108864, 4096)


def test_on_cpu_the_rest_of_the_resident_memory_is_context() -> None:
    tokens = str(int(69.51 * GIB) // PER_TOKEN // 16 * 16)
    report = said("Checkpoint size: 0.01 GiB", kv_cache_size_tokens=tokens)
    cpu = seen(report=report, used_bytes=2 * GIB, weights_on_disk=7_000_000, is_gpu=False)
    ledger, _ = make_ledger(cpu)
    assert ledger.weights_bytes == 7_000_000
    assert ledger.context_bytes == 2 * GIB - 7_000_000
    assert ledger.nvml_used_bytes is None


STARTS = {"start-with-graphs": 0.33, "start-with-graphs-not-estimated": 0.33, "start-eager": 0.0}


@pytest.mark.parametrize("name", STARTS)
def test_graphs_are_counted_once(name: str) -> None:
    """By `gpu_worker.py` of vLLM 0.32: the peak that is logged holds their estimate, unless that is switched off."""
    log = default().read_memory((DATA / f"{name}.log").read_text(), "vllm:cache_config_info{} 1.0").log
    assert log.activation_peak == pytest.approx(0.66 * GIB, rel=1e-6)
    assert log.graphs == pytest.approx(STARTS[name] * GIB)
    assert log.consumed == round(2.6 * GIB)


def test_memory_allocated_after_the_log_is_context() -> None:
    """Attention's workspaces and the sampler are in no line, and NVML sees them."""
    later = round(0.39 * GIB)
    plain, _ = make_ledger(seen())
    ledger, notes = make_ledger(seen(used_bytes=seen().used_bytes + later))
    assert ledger.context_bytes - plain.context_bytes == pytest.approx(later, rel=0.05)
    assert ledger.fixed_bytes + ledger.kv_pool_bytes == pytest.approx(ledger.nvml_used_bytes)
    assert notes == ()


def test_memory_given_back_before_the_reading_stays_counted() -> None:
    less, _ = make_ledger(seen(used_bytes=seen().used_bytes - GIB))
    assert less.context_bytes == pytest.approx(0.75 * GIB, rel=0.01)
