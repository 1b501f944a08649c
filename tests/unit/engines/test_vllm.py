"""What the product knows of vLLM, where no other test says it: its numbers, and how it is recognised."""

import json
from pathlib import Path

import pytest
from slm_core.engines.registry import default, engine_named, engine_of

VLLM = default()


@pytest.mark.parametrize(
    ("longest", "tokens"),
    [(1, 256), (128, 256), (129, 384), (256, 384), (2048, 2176)],
    ids=["one token", "one block", "a block and a token", "two blocks", "sixteen blocks"],
)
def test_a_longest_sequence_takes_whole_blocks_and_an_empty_one(longest: int, tokens: int) -> None:
    """Seen with vLLM 0.32 on CPU: with 256 tokens' bytes it could serve 128, and did not start."""
    assert VLLM.sequence_kv_tokens(longest) == tokens


NUMBERS = [
    (["--max-model-len", "4096"], 4096),
    (["--max-model-len=4096"], 4096),
    (["--max-model-len", "32k"], 32_000),
    (["--max-model-len", "32K"], 32_768),
    (["--max-model-len", "1.5k"], 1500),
    (["--max-model-len", "1", "--max-model-len", "2"], 2),
    (["--max-model-len", "auto"], None),
    (["--max-model-len"], None),
    ([], None),
]


@pytest.mark.parametrize(("words", "expected"), NUMBERS, ids=[" ".join(words) for words, _ in NUMBERS])
def test_numbers_are_read_as_its_parser_reads_them(words: list[str], expected: int | None) -> None:
    assert VLLM.read_arguments(words).max_model_len == expected


COMMANDS = [
    ["python3", "-m", "vllm.entrypoints.openai.api_server"],
    ["/usr/bin/vllm", "serve", "org/model"],
    ["/start.sh"],
    [],
    None,
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_no_other_engine_claims_is_its(command: list[str] | None) -> None:
    assert engine_of(command) is VLLM


def test_a_document_names_its_engine() -> None:
    assert engine_named("vllm") is engine_named("somebody's own") is VLLM


IMAGES = {
    "vllm/vllm-openai:v0.27.1": "0.27.1",
    "vllm/vllm-openai:v0.32.0": "0.32.0",
    "docker.io/vllm/vllm-openai:v0.28.0@sha256:" + "0" * 64: "0.28.0",
    "mirror.example:5000/vllm/vllm-openai-cpu:0.29.1": "0.29.1",
    "vllm/vllm-openai:v0.28.0-cu129": "0.28.0",
    "vllm/vllm-openai:latest": "latest",
    "vllm/vllm-openai:nightly-3f5c25d": "nightly-3f5c25d",
    "vllm/vllm-openai": "unknown",
    "own/engine:0.3": "unknown",
    "own/not-vllm/vllm-openai-fork:v0.1": "unknown",
}


@pytest.mark.parametrize("image", IMAGES)
def test_only_its_own_images_tell_a_version(image: str) -> None:
    assert VLLM.version_of_image(image) == IMAGES[image]


FIELD = json.loads((Path(__file__).parents[2] / "data/field/engine-versions.json").read_text())


def test_an_image_before_the_flag_is_known_to_lack_it() -> None:
    version = VLLM.version_of_image(FIELD["image"])
    assert version == FIELD["version"]
    assert VLLM.unknown_flags(version, ()) == (FIELD["lacks"],)
    assert VLLM.unknown_flags(FIELD["since"], ()) == ()
    assert VLLM.unknown_flags(VLLM.version_of_image(VLLM.image), ()) == ()
