"""No value of any type in a config.json is a traceback or a size that nobody wrote: it is counted, or refused by name."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.architecture import Architecture, ConfigError, longest_sequence, read_architecture

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[2] / "data"
CASES = json.loads((DATA / "architectures.json").read_text())["cases"]
SMALL = {case["config"]["model_type"]: case["config"] for case in CASES}
"""The last of each family's configurations: the small one with its flags the other way round."""
FIELD = [json.loads(file.read_text()) for file in sorted((DATA / "field/configs").glob("*.config.json"))]
DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]
WRONG = [
    "x",
    "",
    "128",
    "\ud800",
    [],
    [1],
    ["a"],
    [[8] * 3],
    {},
    {"a": 1},
    1.5,
    math.nan,
    math.inf,
    -1,
    -(10**40),
    DEEP,
]
"""What no field that must be a number takes."""
REFUSAL = re.compile(r"\S+: .*: (?:give .*|measure the model(?: instead)?)")
ODD = [None, True, 0, 1, 10**9, 10**18, 10**400]
"""What some do."""


def mutated(config: dict[str, Any], turns: Iterator[Any]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Each field of a configuration and of its parts, with the next of the values, which go round over all fields."""
    found = []
    for name, inside in config.items():
        value = next(turns)
        found.append((name, value, config | {name: value}))
        if isinstance(inside, dict):
            found += [(part, value, config | {name: changed}) for part, value, changed in mutated(inside, turns)]
    return found


def read(config: dict[str, Any]) -> Architecture | str:
    """The sizes, or the sentence of the refusal; nothing else may come of a file."""
    try:
        return read_architecture(config)
    except ConfigError as error:
        return str(error)


def is_sentence(text: str) -> bool:
    """One line that names a field, and ends with what to do."""
    return len(text) < 400 and "\n" not in text and REFUSAL.fullmatch(text) is not None


def is_sound(found: Architecture) -> bool:
    numbers = [value for value in astuple(found) if value is not None]
    return all(not isinstance(number, float) or math.isfinite(number) for number in numbers) and min(numbers) >= 0


@pytest.mark.parametrize("start", range(len(WRONG + ODD)))
def test_any_value_of_a_field_is_counted_or_refused_by_name(start: int) -> None:
    turns = itertools.islice(itertools.cycle([*WRONG, *ODD]), start, None)
    every = [*SMALL.values(), *FIELD]
    # Of all families each start has its part, and all starts together have every family twice at least.
    chosen = [every[i] for i in range(start % 8, len(every), 8)]
    for name, value, changed in itertools.chain.from_iterable(mutated(config, turns) for config in chosen):
        found = read(changed)
        assert is_sentence(found) if isinstance(found, str) else is_sound(found), (name, value, found)
        assert isinstance(longest_sequence(changed), int | None)


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "num_key_value_heads", "head_dim", "vocab_size"])
def test_a_number_of_the_wrong_type_is_refused_by_its_name(name: str) -> None:
    for value in WRONG:
        with pytest.raises(ConfigError, match=f"^{name}: .* is not a whole number of at least 1: give the model's own"):
            read_architecture(SMALL["llama"] | {name: value})


@pytest.mark.parametrize("value", [10**9 + 1, 10**18, 10**400])
def test_a_number_beyond_any_model_is_refused(value: int) -> None:
    with pytest.raises(ConfigError, match=r"^vocab_size: (\d+|a number of more than 18 digits) is not a number below"):
        read_architecture(SMALL["llama"] | {"vocab_size": value})


@pytest.mark.parametrize("name", ["quantization_config", "compression_config", "text_config", "vision_config"])
@pytest.mark.parametrize("value", ["fp8", 8, True, [1], math.nan])
def test_a_part_that_is_no_object_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: .* is not an object"):
        read_architecture(SMALL["llama"] | {name: value})


QUANTISED: dict[str, Any] = {
    "quant_method": "compressed-tensors", "bits": 4, "group_size": 128, "ignore": ["lm_head"], "kv_cache_scheme": None,
    "modules_to_not_convert": ["model.layers.0.mlp.up_proj"], "load_in_4bit": False, "quant_algo": None,
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 128, "type": "int"}}},
}  # fmt: skip


def test_every_field_of_a_quantisation_with_values_of_every_type() -> None:
    refused = 0
    for start in range(len(WRONG + ODD)):
        for name, value, changed in mutated(QUANTISED, itertools.islice(itertools.cycle([*WRONG, *ODD]), start, None)):
            found = read(SMALL["llama"] | {"quantization_config": changed})
            if isinstance(found, str):
                assert is_sentence(found), (name, value)
                refused += 1
            else:
                assert is_sound(found), (name, value)
                assert found.weights_bytes <= 8 * found.parameters, (name, value)
    assert refused > 30


class TestContradictions:
    def test_kinds_of_layers_must_be_as_many_as_layers(self) -> None:
        with pytest.raises(ConfigError, match="layer_types: 2 kinds for 5 layers"):
            read_architecture(SMALL["llama"] | {"layer_types": ["full_attention"] * 2})

    def test_an_unknown_kind_of_layer_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="layer_types: layers of the kind 'rwkv' are not known here"):
            read_architecture(SMALL["llama"] | {"layer_types": ["rwkv"] * 5})

    def test_layer_kind_that_the_family_lacks_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="layers of the kind 'conv' are not known in this family"):
            read_architecture(SMALL["llama"] | {"layer_types": ["conv"] * 5})

    def test_more_experts_used_than_there_are_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="num_experts_per_tok: 9 of 6 experts"):
            read_architecture(SMALL["mixtral"] | {"num_experts_per_tok": 9})

    @pytest.mark.parametrize("pattern", ["", "LXG", "L" * 3 + "\n"])
    def test_a_pattern_of_windows_that_is_none_is_refused(self, pattern: str) -> None:
        exaone = next(config for config in FIELD if config["model_type"] == "exaone4")
        with pytest.raises(ConfigError, match="sliding_window_pattern"):
            read_architecture(exaone | {"sliding_window_pattern": pattern})
