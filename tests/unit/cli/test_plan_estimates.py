"""`kubectl slm plan --config`: an estimate follows the manifest and the model's files, or refuses in one sentence."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from slm_core.units import GIB
from slm_operator.cli.commands.plan import _subject
from slm_operator.cli.inputs.manifests import deployment
from slm_operator.cli.main import main
from slm_operator.estimator.gpus import find_accelerator
from unit.cli.golden import ROOT

from tests import builders as build
from tests.builders import configs

if TYPE_CHECKING:
    from pathlib import Path

    from slm_operator.estimator.estimate import Subject

FIELD = ROOT / "tests/data/field/configs"
LLAMA = configs.LLAMA_3_8B | {"max_position_embeddings": 131072}
PART = "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"


class Planning:
    """One manifest and one model, and what the command says of them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def config(self, content: object, name: str = "config.json") -> str:
        file = self.folder / name
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(file)

    def run(self, config: str, gpu: str = "NVIDIA-L40S", **engine: object) -> tuple[int, str, str]:
        manifest = self.folder / "manifest.yaml"
        spec = {
            "model": {"uri": "hf://org/model"},
            "engine": {"maxModelLen": 4096} | engine,
            "workload": {"concurrencyPerGpu": 8},
        }
        manifest.write_text(yaml.safe_dump(build.manifest("SLMDeployment", "chat", spec)))
        code = main(["plan", "-f", str(manifest), "--config", config, "--gpu", gpu, "-o", "json"])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def advice(self, config: str, **engine: object) -> dict[str, Any]:
        code, out, err = self.run(config, **engine)
        assert (code, err) == (0, "")
        found: dict[str, Any] = json.loads(out)
        return found

    def refusal(self, config: str, **more: Any) -> str:
        code, out, err = self.run(config, **more)
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        assert err.count("\n") == 1
        return err


@pytest.fixture
def planning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Planning:
    return Planning(tmp_path, capsys)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("encoder-only-bert", "model_type: 'bert' does not generate text"),
        ("broken-head-dim-text", "head_dim: '128' is not a whole number of at least 1"),
        ("broken-kv-heads-list", "num_key_value_heads: a list is not a whole number of at least 1"),
        ("broken-text-config-list", "text_config: a list is not an object"),
    ],
)
def test_a_model_that_is_refused_is_one_sentence(planning: Planning, name: str, sentence: str) -> None:
    assert sentence in planning.refusal(str(FIELD / f"{name}.config.json"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (LLAMA | {"model_type": "new"}, "the family 'new' is not known here, and a size is never guessed: measure the model"),
        (LLAMA | {"quantization_config": "fp8"}, "quantization_config: 'fp8' is not an object"),
        (LLAMA | {"num_hidden_layers": float("nan")}, "num_hidden_layers: nan is not a whole number"),
        ([LLAMA], "not an object: give the config.json of the model, or its folder"),
        (b"", "not JSON"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
        (b'{"vocab_size": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe{", "not text in UTF-8"),
    ],
)  # fmt: skip
def test_a_file_that_is_odd_is_one_sentence(planning: Planning, content: object, sentence: str) -> None:
    assert sentence in planning.refusal(planning.config(content))


def test_a_byte_order_mark_and_doubled_keys_are_read_as_by_vllm(planning: Planning) -> None:
    twice = json.dumps(LLAMA).replace('"vocab_size": 128256', '"vocab_size": "none", "vocab_size": 128256')
    plain = planning.advice(planning.config(LLAMA))
    assert planning.advice(planning.config(b"\xef\xbb\xbf" + twice.encode())) == plain


class TestManifest:
    """Every field and argument that changes memory changes the estimate, or is named as not followed."""

    def test_a_narrower_cache_holds_twice_the_tokens(self, planning: Planning) -> None:
        config = planning.config(LLAMA)
        plain = planning.advice(config, maxModelLen=131072)["configuration"]["kvCacheBytes"]
        for words in (["--kv-cache-dtype", "fp8"], ["--kv_cache_dtype=fp8"], ["--kv-cache-dt", "fp8_e4m3"]):
            assert planning.advice(config, args=words, maxModelLen=131072)["configuration"]["kvCacheBytes"] == plain / 2

    def test_weights_in_float32_take_twice_the_memory(self, planning: Planning) -> None:
        config = planning.config(LLAMA)
        assert "need 31.0 GiB before its first sequence" in planning.refusal(config, gpu="NVIDIA-L4", dtype="float32")
        planning.advice(config, dtype="float32")

    def test_estimate_of_weights_quantised_while_loading_is_smaller(self, planning: Planning) -> None:
        config = planning.config(LLAMA | {"max_position_embeddings": 8192})
        assert "before its first sequence" in planning.refusal(config, gpu="Tesla-T4")
        assert planning.run(config, gpu="Tesla-T4", args=["-q", "fp8"])[0] == 0

    def test_the_pool_holds_one_sequence_of_the_longest_length(self, planning: Planning) -> None:
        config = planning.config(LLAMA)
        found = planning.advice(config, maxModelLen=131072)
        assert found["configuration"]["kvCacheBytes"] >= 16 * GIB
        assert planning.advice(config, maxModelLen=None)["configuration"]["kvCacheBytes"] >= 16 * GIB

    def test_a_sequence_that_does_not_fit_is_refused(self, planning: Planning) -> None:
        said = planning.refusal(planning.config(LLAMA | {"vocab_size": 32000}), gpu="NVIDIA-L4", maxModelLen=131072)
        assert "engine.maxModelLen: one sequence of 131,072 tokens is estimated to need 16.0 GiB of KV" in said

    def test_arguments_that_nothing_follows_are_named(self, planning: Planning) -> None:
        words = ["--enable-lora", "--cpu-offload-gb=4", "--seed", "1"]
        sentences = planning.advice(planning.config(LLAMA), args=words)["sentences"]
        assert "It does not follow --enable-lora, --cpu-offload-gb, which changes memory too." in sentences


class TestFolder:
    def test_the_headers_of_weight_files_win_over_counting(self, planning: Planning) -> None:
        planning.config(LLAMA)
        weights = planning.folder / "model.safetensors"
        header = json.dumps({"w": {"dtype": "BF16", "shape": [1 << 30], "data_offsets": [0, 1 << 31]}}).encode()
        weights.write_bytes(struct.pack("<Q", len(header)) + header)
        found = planning.advice(str(planning.folder), gpu="NVIDIA-L4")
        assert any("an estimate from its weight files" in sentence for sentence in found["sentences"])

    def test_an_index_without_its_files_tells_the_bytes(self, planning: Planning) -> None:
        config = planning.config(LLAMA)
        index = {"metadata": {"total_size": 40 * GIB}, "weight_map": {"w": "model-00001-of-00002.safetensors"}}
        planning.config(index, "model.safetensors.index.json")
        assert "need 41.0 GiB before its first sequence" in planning.refusal(config, gpu="NVIDIA-L4")

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS is no weight file"),
            (b"", "not a safetensors file"),
            (struct.pack("<Q", 3) + b"{]}", "its header is not JSON"),
            (struct.pack("<Q", 10**6) + b"[" * 10**6, "its header is not JSON"),
            (struct.pack("<Q", 2) + b"{}", "the weight files hold no tensor"),
        ],
    )
    def test_a_weight_file_that_is_none_is_refused(self, planning: Planning, content: bytes, sentence: str) -> None:
        config = planning.config(LLAMA)
        (planning.folder / "model.safetensors").write_bytes(content)
        assert sentence in planning.refusal(config)

    def test_a_folder_without_a_config_is_refused(self, planning: Planning) -> None:
        assert "config.json: No such file" in planning.refusal(str(planning.folder))


def test_a_slice_by_mig_is_not_the_whole_gpu(planning: Planning) -> None:
    said = planning.refusal(planning.config(LLAMA), gpu=PART)
    assert f"{PART} has 10.0 GiB" in said


class TestManifestsOfTheField:
    """Llama 3.1 8B on an L40S, by manifests that changed nothing once."""

    def subject(self, planning: Planning, name: str) -> Subject:
        _, spec = deployment(str(ROOT / f"tests/data/field/plan/{name}.yaml"))
        gpu = find_accelerator("NVIDIA-L40S")
        assert gpu
        return _subject(planning.config(LLAMA), gpu, spec)

    def test_a_cache_of_eight_bits(self, planning: Planning) -> None:
        assert self.subject(planning, "kv-fp8").model.kv_bytes_per_token == 65536

    def test_weights_of_32_bits(self, planning: Planning) -> None:
        assert self.subject(planning, "float32").model.weights_bytes / GIB == pytest.approx(29.9, abs=0.05)

    def test_a_long_sequence_under_thin_load(self, planning: Planning) -> None:
        manifest = str(ROOT / "tests/data/field/plan/long-context-thin-load.yaml")
        assert (
            main(["plan", "-f", manifest, "--config", planning.config(LLAMA), "--gpu", "NVIDIA-L40S", "-o", "json"])
            == 0
        )
        assert json.loads(planning.capsys.readouterr().out)["configuration"]["kvCacheBytes"] >= 16 * GIB
