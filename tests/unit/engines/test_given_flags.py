"""Command lines of vLLM that somebody else wrote: what they say, what contradicts what, and their defaults.

The table of options of the pinned version (tests/data/vllm/options.json) is what spellings and values are held against.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.engines import vllm_given
from slm_core.engines.base import Advised, CommandLine
from slm_core.engines.registry import default, other_engine
from slm_core.units import GIB

VLLM = default()
OPTIONS = json.loads((Path(__file__).parents[2] / "data/vllm/options.json").read_text())["options"]
BATCH, STEP, KV = "--max-num-seqs", "--max-num-batched-tokens", "--kv-cache-memory-bytes"


def read(*words: str, by: tuple[str, ...] = ()) -> CommandLine:
    return VLLM.read_command_line(words, by or ("",) * len(words))


def said(*words: str) -> dict[str, str | None]:
    return {flag.name: flag.value for flag in read(*words).flags}


def test_owned_flag_takes_as_many_values_as_the_engine_has_it() -> None:
    values = {name: one["values"] for one in OPTIONS for name in one["names"] if name in VLLM.owned_flags}
    alone = {name for name, count in values.items() if count == 0}
    several = {name for name, count in values.items() if count == "+"}
    assert alone == set(vllm_given.ALONE) & set(values)
    assert several == set(vllm_given.SEVERAL)
    assert set(vllm_given.ALONE) <= set(VLLM.owned_flags)


def test_option_of_nobody_is_read_as_no_owned_flag() -> None:
    free = [name for one in OPTIONS for name in one["names"] if name not in {*VLLM.owned_flags, *VLLM.short_flags}]
    assert len(free) > 300
    assert [name for name in free if read("m", name).flags or read("m", name).problems] == []


SPELLINGS = [
    ((BATCH, "64"), {BATCH: "64"}),
    ((f"{BATCH}=64",), {BATCH: "64"}),
    (("--max_num_seqs", "64"), {BATCH: "64"}),
    (("--max_num-seqs=64",), {BATCH: "64"}),
    (("--max-num-s", "64"), {BATCH: "64"}),
    (("-tp", "1"), {"--tensor-parallel-size": "1"}),
    (("-tp=1",), {"--tensor-parallel-size": "1"}),
    (("--device-memory-utilization", "0.9"), {"--gpu-memory-utilization": "0.9"}),
    (("--served-model-name", "a", "b", BATCH, "8"), {"--served-model-name": "a b", BATCH: "8"}),
    (("--trust-remote-code", "--port", "80"), {"--trust-remote-code": None, "--port": "80"}),
    ((BATCH, "8", BATCH, "8"), {BATCH: "8"}),
    ((STEP, "1.5k"), {STEP: "1.5k"}),
    (("--max-model-len", "-1"), {"--max-model-len": "-1"}),
    (("--max-model-len", "auto"), {"--max-model-len": "auto"}),
]


@pytest.mark.parametrize(("words", "expected"), SPELLINGS, ids=[" ".join(words) for words, _ in SPELLINGS])
def test_flag_is_known_in_every_spelling(words: tuple[str, ...], expected: dict[str, str]) -> None:
    line = read("org/m", *words)
    assert {flag.name: flag.value for flag in line.flags} == expected
    assert (line.model, line.own, line.problems) == ("org/m", (), ())


@pytest.mark.parametrize(
    ("words", "model", "own"),
    [
        (("org/m", "--seed", "1"), "org/m", ("--seed", "1")),
        (("--model", "org/m", "--enforce-eager"), "org/m", ("--enforce-eager",)),
        (("--port", "80", "org/m"), "org/m", ()),
        (("--seed", "1"), None, ("--seed", "1")),
        (("--seed=1", "org/m"), "org/m", ("--seed=1",)),
    ],
)
def test_model_is_a_word_of_its_own_or_a_flag(words: tuple[str, ...], model: str | None, own: tuple[str, ...]) -> None:
    assert (read(*words).model, read(*words).own) == (model, own)


PROBLEMS = [
    ((BATCH, "8", BATCH, "9"), "twice, 8 and 9"),
    (("--api-key", "one", "--api-key=two"), "it says --api-key twice"),
    ((f"{BATCH} 64",), "--max-num-seqs and its value are one word"),
    (("--api-key secret",), "--api-key and its value are one word"),
    ((BATCH, "many"), "--max-num-seqs says many, which is no number"),
    ((BATCH,), "--max-num-seqs says nothing"),
    ((BATCH, "0"), "no number above 0"),
    ((BATCH, "-1"), "--max-num-seqs says -1, which is no number above 0"),
    ((BATCH, "1.5"), "--max-num-seqs says 1.5"),
    ((BATCH, "8k"), "--max-num-seqs says 8k"),
    ((BATCH, "٦٤"), "--max-num-seqs says ٦٤"),
    ((BATCH, "9" * 400), "--max-num-seqs says 9999999999999999999999999999999999999999..., which is"),
    ((STEP, "1.5K"), "--max-num-batched-tokens says 1.5K"),
    ((KV, "9999999T"), "--kv-cache-memory-bytes says 9999999T"),
    (("--max-model-len", "long"), "--max-model-len says long"),
    (
        ("--gpu-memory-utilization", "nan"),
        "--gpu-memory-utilization says nan, which is no number above 0 and at most 1",
    ),
    (("--gpu-memory-utilization=5",), "--gpu-memory-utilization says 5"),
    (("--max-num", "8"), "--max-num may mean"),
    ((BATCH, "512", STEP, "256"), "--max-num-batched-tokens 256 is less than --max-num-seqs 512"),
    ((BATCH, "8", "--max-num-active-seqs", "9"), "--max-num-active-seqs 9 is more than --max-num-seqs 8"),
    (("--enable-prefix-caching", "--no-enable-prefix-caching"), "says both --enable-prefix-caching and"),
    (("--no-enable-chunked-prefill", STEP, "2048", "--max-model-len", "4096"), "must hold --max-model-len 4096"),
    (("--model", "org/other"), "names two models, org/m and org/other"),
    (("-tp", "2"), "--tensor-parallel-size 2: there is advice for engines with one GPU"),
    (("--data-parallel-size=4",), "--data-parallel-size 4"),
    (("--config", "/etc/vllm.yaml"), "--config /etc/vllm.yaml takes flags from a file"),
]


@pytest.mark.parametrize(("words", "sentence"), PROBLEMS, ids=[" ".join(words) for words, _ in PROBLEMS])
def test_contradiction_is_named(words: tuple[str, ...], sentence: str) -> None:
    (problem,) = read("org/m", *words).problems
    assert sentence in problem


def test_value_of_a_secret_is_in_no_sentence() -> None:
    for words in (("--api-key", "k1", "--api-key=k2"), ("--api-key k1",), ("--hf-token", "k1", "--hf-token", "k2")):
        assert "k1" not in " ".join(read("org/m", *words).problems)


def test_later_writer_overrules_an_earlier_one() -> None:
    line = read("m", f"{BATCH}=8", f"{BATCH}=9", by=("runtime", "runtime", ""))
    assert line.problems == ()
    assert line.last(BATCH) == line.flags[-1]
    assert line.flags[-1].value == "9"


DEFAULTS = [
    ("0.32.0", 80 * GIB, "NVIDIA-H100-80GB-HBM3", (), 1024),
    ("0.32.0", 80 * GIB, "NVIDIA-A100-SXM4-80GB", (), 256),
    ("0.32.0", 24 * GIB, "NVIDIA-L4", (), 256),
    ("0.32.0", 180 * GIB, "NVIDIA-B200", (), 1024),
    ("0.32.0", 24 * GIB, "CPU", (), 128),
    ("0.32.0", 80 * GIB, "NVIDIA-H100-80GB-HBM3", (STEP, "512"), 512),
    ("0.32.0", 24 * GIB, "NVIDIA-L4", ("--performance-mode", "throughput"), 512),
    ("0.32.0", 24 * GIB, "NVIDIA-L4", ("--max-num-active-seqs", "16"), 16),
    ("0.25.1", 24 * GIB, "NVIDIA-L4", (), None),
    ("unknown", 24 * GIB, "NVIDIA-L4", (), None),
    ("0.32.0", 0, "NVIDIA-L4", (), None),
    ("unknown", 0, "unknown", (BATCH, "48"), 48),
    ("0.32.0", 0, "NVIDIA-L4", (BATCH, "48", "--max-num-active-seqs", "16"), 16),
]


@pytest.mark.parametrize(("version", "memory", "product", "words", "batch"), DEFAULTS)
def test_batch_that_is_not_given_is_the_default(
    version: str, memory: int, product: str, words: tuple[str, ...], batch: int | None
) -> None:
    """Source: get_batch_defaults and _set_default_max_num_seqs_and_batched_tokens_args of the pinned version."""
    assert VLLM.batching_of(read("m", *words), version, memory, product).batch_size == batch


def advised(batch: int = 32, step: int | None = None, pool: int | None = None, **changes: Any) -> Advised:
    return Advised(batch_size=batch, max_num_batched_tokens=step, kv_bytes=pool, **changes)


ADVISED = [
    ((), advised(), {BATCH: "32"}),
    ((STEP, "16", BATCH, "8"), advised(), {BATCH: "32", STEP: "32"}),
    ((STEP, "512"), advised(step=8192), {BATCH: "32", STEP: "8192"}),
    ((), advised(pool=7), {BATCH: "32"}),
    ((), advised(pool=7, frees_memory=True), {BATCH: "32", KV: "7"}),
    ((), advised(pool=7, memory_fraction=0.456), {BATCH: "32", KV: "7", "--gpu-memory-utilization": "0.46"}),
    ((KV, "6"), advised(pool=7), {BATCH: "32", KV: "7"}),
    ((KV, "8"), advised(pool=7), {BATCH: "32"}),
    (("--num-gpu-blocks-override", "9"), advised(pool=7), {BATCH: "32", KV: "7", "--num-gpu-blocks-override": None}),
    (("--num-gpu-blocks-override", "9"), advised(), {BATCH: "32"}),
    (("--max-num-active-seqs", "9"), advised(), {BATCH: "32", "--max-num-active-seqs": None}),
    (("--max-num-queued-reqs", "9"), advised(), {BATCH: "32", "--max-num-queued-reqs": "64"}),
    (("--max-num-queued-reqs", "99"), advised(), {BATCH: "32"}),
]


@pytest.mark.parametrize(("words", "advice", "flags"), ADVISED)
def test_what_would_undo_the_advice_goes_with_it(
    words: tuple[str, ...], advice: Advised, flags: dict[str, str | None]
) -> None:
    assert VLLM.advised_flags(read("m", *words), advice) == flags


STARTS = [
    (("vllm", "serve", "m"), 2),
    (("nice", "-n", "5", "/opt/bin/vllm", "serve", "m"), 5),
    (("python3", "-m", "vllm.entrypoints.openai.api_server", "--port", "80"), 3),
    (("pip", "install", "vllm"), None),
    (("vllm", "bench", "serve"), None),
    (("sglang", "serve"), None),
    ((), None),
]


@pytest.mark.parametrize(("words", "at"), STARTS)
def test_arguments_begin_behind_what_starts_a_server(words: tuple[str, ...], at: int | None) -> None:
    assert VLLM.arguments_at(words) == at


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("vllm/vllm-openai:v0.32.0", True),
        ("registry.local:5000/mirror/vllm-openai@sha256:00", True),
        ("rocm/vllm:latest", True),
        ("vllm/production-stack-router:v1", False),
        ("vllm-router:1", False),
        ("vllm/other", False),
        ("envoyproxy/envoy:v1", False),
    ],
)
def test_image_of_the_engine_is_known_by_its_name(image: str, *, expected: bool) -> None:
    assert VLLM.is_in_image(image) is expected


def test_other_engines_are_named() -> None:
    assert other_engine(["lmsysorg/sglang:latest"]) == "SGLang"
    assert other_engine(["ghcr.io/huggingface/text-generation-inference:3"]) == "TGI"
    assert other_engine(["nginx"]) is None


WORDS = st.sampled_from([
    *VLLM.owned_flags, *VLLM.short_flags, "--", "-", "--=", "--max", "--no-", "$(A)", "org/m", "\n", "\x00", "é",
    "1", "0", "-1", "1e9", "nan", "9" * 50, "8k", "1.5K", "auto", "", " ", "'", "x=1", '{"a": 1}',
])  # fmt: skip


@given(st.lists(st.one_of(WORDS, st.tuples(WORDS, WORDS).map("=".join)), max_size=8))
def test_words_of_anybody_are_read_or_named(words: list[str]) -> None:
    line = read(*words)
    assert VLLM.batching_of(line, "0.32.0", 24 * GIB, "NVIDIA-L4").batch_size != 0
    assert VLLM.advised_flags(line, advised())[BATCH] == "32"
