"""Which of a user's arguments an estimate follows, and which it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slm_core.engines.registry import default
from slm_core.engines.vllm_flags import OWNED
from slm_core.engines.vllm_memory import IN_CHECKPOINT, NOT_FOLLOWED, SHORT, memory_options

OPTIONS = json.loads((Path(__file__).parents[2] / "data/vllm/options.json").read_text())["options"]
NAMES = {name: set(option["names"]) for option in OPTIONS for name in option["names"]}


@pytest.mark.parametrize(
    "words",
    [
        ["--kv-cache-dtype", "fp8"], ["--kv-cache-dtype=fp8"], ["--kv_cache_dtype", "fp8"], ["--kv_cache_dtype=fp8"],
        ["--kv-cache-dt", "fp8"], ["--kv-cache-dty=fp8"], ["--kv-cache-dtype", "auto", "--kv-cache-dtype", "fp8"],
    ],
)  # fmt: skip
def test_the_caches_type_in_every_spelling(words: list[str]) -> None:
    said = default().memory_options(["--seed", "1", *words])
    assert (said.kv_dtype, said.quantization, said.not_followed) == ("fp8", None, ())


@pytest.mark.parametrize("words", [["--quantization", "fp8"], ["-q", "fp8"], ["-q=fp8"], ["--quantiz", "fp8"]])
def test_quantisation_while_loading_is_read_from_flags(words: list[str]) -> None:
    assert memory_options(words).quantization == "fp8"


def test_quantised_checkpoint_is_told_by_its_config() -> None:
    for method in IN_CHECKPOINT:
        assert memory_options(["--quantization", method]).quantization is None


def test_no_memory_flag_means_the_engines_default() -> None:
    said = memory_options(["--seed", "1", "--max-log-len", "8", "--kv-cache-metrics", "word"])
    assert (said.kv_dtype, said.quantization, said.not_followed) == ("auto", None, ())


def test_a_flag_at_the_end_without_its_value_is_no_traceback() -> None:
    assert memory_options(["--kv-cache-dtype"]).kv_dtype == ""


@pytest.mark.parametrize("flag", NOT_FOLLOWED)
def test_flag_not_followed_is_named_once_by_its_full_name(flag: str) -> None:
    for words in ([flag], [f"{flag}=1"], [flag, "1", flag, "2"], [flag.replace("-", "_").replace("__", "--", 1)]):
        assert memory_options(words).not_followed == (flag,)


def test_memory_flags_are_vllms_and_not_owned() -> None:
    for flag in (*NOT_FOLLOWED, *SHORT.values()):
        assert flag in NAMES
        assert flag not in OWNED
    for short, flag in SHORT.items():
        assert short in NAMES[flag]


def test_no_other_flag_is_taken_for_a_memory_flag() -> None:
    ours = {*NOT_FOLLOWED, "--kv-cache-dtype", "--quantization", *SHORT}
    for name in set(NAMES) - ours - set(OWNED):
        said = memory_options([name, "fp8"])
        assert (said.kv_dtype, said.quantization, said.not_followed) == ("auto", None, ()), name
