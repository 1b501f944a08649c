"""Which token ids prompts are made of, and that no two prompts begin alike."""

import random
from typing import Any

import pytest
from slm_runtime.prompts import HEAD_TOKENS, MOST_TOKENS, UNKNOWN_VOCABULARY, Prompts, text_tokens

VOCABULARIES: dict[str, tuple[dict[str, Any], int, int]] = {
    "of-a-text-model": ({"vocab_size": 50272}, 100, 45244),
    "that-is-tiny": ({"vocab_size": 10}, 5, 9),
    "of-one-token": ({"vocab_size": 1}, 0, 1),
    "of-a-text-part": ({"vision_config": {"vocab_size": 32}, "text_config": {"vocab_size": 2000}}, 100, 1800),
    "of-a-part-of-a-part": ({"thinker_config": {"text_config": {"vocab_size": 2000}}}, 100, 1800),
    "smaller-in-its-part": ({"vocab_size": 9000, "text_config": {"vocab_size": 2000}}, 100, 1800),
    "that-nobody-knows": ({}, 100, int(0.9 * UNKNOWN_VOCABULARY)),
    "that-is-no-number": ({"vocab_size": "many", "text_config": []}, 100, int(0.9 * UNKNOWN_VOCABULARY)),
    "of-no-token": ({"vocab_size": 0}, 100, int(0.9 * UNKNOWN_VOCABULARY)),
    "that-is-absurd": ({"vocab_size": 10**15}, 100, int(0.9 * MOST_TOKENS)),
}


@pytest.mark.parametrize("case", VOCABULARIES)
def test_ids_come_from_the_lower_part_of_a_vocabulary(case: str) -> None:
    config, first, end = VOCABULARIES[case]
    assert text_tokens(config) == tuple(range(first, end))


SPECIAL: dict[str, dict[str, Any]] = {
    "end-of-text": {"eos_token_id": 150},
    "several-ends": {"eos_token_id": [150, 151]},
    "an-image's-place": {"image_token_index": 150},
    "ids-in-a-part": {"text_config": {"pad_token_id": 150}, "vision_config": {"deep": {"video_token_ids": [151]}}},
    "odd-values": {"bos_token_id": None, "sep_token_id": "x", "eos_token_id": 150},
}


@pytest.mark.parametrize("case", SPECIAL)
def test_an_id_with_a_purpose_of_its_own_is_left_out(case: str) -> None:
    ids = text_tokens({"vocab_size": 1000, **SPECIAL[case]})
    assert 150 not in ids
    assert (151 in ids) is ("151" not in str(SPECIAL[case]))
    assert 152 in ids


def test_vocabulary_of_special_tokens_alone_is_used() -> None:
    assert text_tokens({"vocab_size": 4, "eos_token_id": [0, 1, 2, 3]}) == (2,)


@pytest.mark.parametrize("length", [1, 2, HEAD_TOKENS - 1, HEAD_TOKENS, HEAD_TOKENS + 1, 100, 120])
def test_a_prompt_has_the_length_that_was_asked(length: int) -> None:
    prompts = Prompts(text_tokens({"vocab_size": 512}), 120, random.Random(1))
    assert len(prompts.draw(length).split(",")) == length


@pytest.mark.parametrize("vocabulary", [512, 1000, 150_000])
def test_no_two_prompts_share_a_block(vocabulary: int) -> None:
    tokens = text_tokens({"vocab_size": vocabulary})
    drawn = [Prompts(tokens, 64, random.Random(seed)) for seed in (1, 2)]
    heads = {tuple(prompts.draw(64).split(",")[:HEAD_TOKENS]) for prompts in drawn for _ in range(500)}
    assert len(heads) == 1000
