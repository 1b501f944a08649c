"""A mock is never taken for a GPU, and models are made as a tokenizer reads them."""

import json
from pathlib import Path

import pytest
from slm_runtime.ledger import kv_bytes_per_token

from benchmarks.gpu_stages.machine import Kind, kind_of
from benchmarks.gpu_stages.shapes import OPT_1_3B, OPT_SMALL, QWEN_1_5B, QWEN_SMALL, write_model

UUID = "GPU-0b1c2d3e-4f50-6172-8394-a5b6c7d8e9fa"
DIGITS = "0b1c2d3e4f5061728394a5b6c7d8e9fa"
KINDS = [
    ("no NVML", None, None, Kind.CPU),
    ("no NVML, but CUDA", None, DIGITS, Kind.CPU),
    ("a mock NVML", "GPU-mock-0", None, Kind.MOCK),
    ("a mock NVML with a well-formed UUID", UUID, None, Kind.MOCK),
    ("a mock NVML beside another CUDA", UUID, "ab" * 16, Kind.MOCK),
    ("both mocks", "GPU-mock-0", "ab" * 16, Kind.MOCK),
    ("a GPU", UUID, DIGITS, Kind.GPU),
    ("a MIG device", f"MIG-{UUID[4:].upper()}", DIGITS, Kind.GPU),
]


@pytest.mark.parametrize(("name", "nvml", "cuda", "kind"), KINDS, ids=[case[0] for case in KINDS])
def test_only_what_nvml_and_cuda_both_show_is_a_gpu(name: str, nvml: str | None, cuda: str | None, kind: Kind) -> None:
    found, why = kind_of(nvml, cuda)
    assert found is kind
    assert why


@pytest.mark.parametrize("shape", [OPT_1_3B, QWEN_1_5B, OPT_SMALL, QWEN_SMALL], ids=lambda shape: shape.name)
def test_a_tokenizer_has_every_word_once(shape: object, tmp_path: Path) -> None:
    folder = write_model(shape, tmp_path)  # type: ignore[arg-type]
    config = json.loads((folder / "config.json").read_text())
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(words.values()) == list(range(config["vocab_size"]))
    assert {"<pad>", "</s>", "a", "Ġ", "Ċ"} <= words.keys()  # as GPT-2 writes a letter, a blank and a line's end
    assert len([word for word in words if len(word) == 1]) == 256


def test_the_shapes_are_those_of_the_published_models() -> None:
    assert kv_bytes_per_token(OPT_1_3B.config) == 2 * 24 * 2048 * 2
    assert kv_bytes_per_token(QWEN_1_5B.config) == 2 * 28 * 2 * 128 * 2
    assert QWEN_1_5B.config["max_position_embeddings"] == 32768
