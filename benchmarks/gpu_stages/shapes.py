"""Models without weights, made on the spot: a configuration and a byte-level tokenizer, for `--load-format dummy`.

Exists because a GPU machine may reach no hub, and speed does not depend on what the weights say. The tokenizer has as
many words as the model's vocabulary, so that turning tokens into text costs what it costs in production. Assumes the
configurations' keys of transformers 5. Must never be taken for a model whose answers mean anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

BYTES = 256
SPECIAL = ("<pad>", "</s>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model's name and its config.json."""

    name: str
    like: str
    """Which published model has this shape, in words."""
    config: dict[str, Any]


OPT_1_3B = Shape(
    name="opt-1.3b",
    like="OPT-1.3B: 24 layers of 2048, 32 heads, 2k context, float16",
    config={
        "architectures": ["OPTForCausalLM"], "model_type": "opt", "activation_function": "relu", "dtype": "float16",
        "do_layer_norm_before": True, "hidden_size": 2048, "ffn_dim": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "word_embed_proj_dim": 2048, "vocab_size": 50272,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    },
)  # fmt: skip
QWEN_1_5B = Shape(
    name="qwen2.5-1.5b",
    like="Qwen2.5-1.5B: 28 layers of 1536, 12 heads on 2 KV heads, 32k context, bfloat16",
    config={
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "dtype": "bfloat16",
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
        "bos_token_id": 1, "eos_token_id": 1,
    },
)  # fmt: skip
OPT_SMALL = Shape(
    name="opt-small",
    like="4 layers of 256, of OPT's kind: for a machine without a GPU",
    config=OPT_1_3B.config
    | {"hidden_size": 256, "ffn_dim": 1024, "num_hidden_layers": 4, "num_attention_heads": 4, "dtype": "bfloat16"}
    | {"word_embed_proj_dim": 256, "vocab_size": 2048},
)
QWEN_SMALL = Shape(
    name="qwen-small",
    like="4 layers of 256 with grouped attention, of Qwen2.5's kind: for a machine without a GPU",
    config=QWEN_1_5B.config
    | {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "max_position_embeddings": 4096, "vocab_size": 2048},
)


def write_model(shape: Shape, folder: Path) -> Path:
    """Make the model's folder below `folder`, and give it."""
    made = folder / shape.name
    made.mkdir()
    longest = shape.config["max_position_embeddings"]
    reported = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest}
    reported |= {"pad_token": SPECIAL[0], "eos_token": SPECIAL[1]}
    for name, content in (
        ("config.json", shape.config),
        ("tokenizer.json", _tokenizer(shape.config["vocab_size"])),
        ("tokenizer_config.json", reported),
    ):
        (made / name).write_text(json.dumps(content))
        (made / name).chmod(0o644)
    return made


def _tokenizer(words: int) -> dict[str, Any]:
    """The `tokenizers` library's format: bytes as GPT-2 writes them, then words that no text is split into."""
    letters = [*SPECIAL, *_byte_letters()]
    vocabulary = {
        word: number for number, word in enumerate([*letters, *(f"w{i}" for i in range(len(letters), words))])
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    absent = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    pairs = {"type": "BPE", "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": number, "content": word, **flags} for number, word in enumerate(SPECIAL)],
        "pre_tokenizer": level, "decoder": level, "model": pairs | dict.fromkeys(absent),
    }  # fmt: skip


def _byte_letters() -> list[str]:
    """A printable letter for each byte: itself where it is printable, else one from 256 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(BYTES, 2 * BYTES))
    return [chr(byte if byte in printable else next(others)) for byte in range(BYTES)]
