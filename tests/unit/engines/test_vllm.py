"""What the product knows of vLLM, where no other test says it: its numbers, and how it is recognised."""

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
    (["--max-model-len", "1.5K"], 1536),
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
