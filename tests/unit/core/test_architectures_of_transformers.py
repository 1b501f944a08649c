"""Sizes as a kind: every family that Transformers has is either counted as Transformers counts it, or refused.

The counts, of three configurations of each family in the table, stand in tests/data/architectures.json, made by
`python -m tests.testbed.architectures`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slm_core.architecture import ConfigError, read_architecture
from slm_core.architecture.class_defaults import CLASSES
from slm_core.architecture.families import FAMILIES
from slm_core.architecture.towers import TOWERS

DATA = Path(__file__).parents[2] / "data"
SAID = json.loads((DATA / "architectures.json").read_text())
CASES: list[dict[str, Any]] = [
    # What its class says of DeepSeek-V2 where a file does not is no model: it has experts, and uses none.
    case
    for case in SAID["cases"]
    if "n_routed_experts" not in case["config"] or "num_experts_per_tok" in case["config"]
]
FIELD = DATA / "field/configs"
EXPECTED = json.loads((FIELD / "expected.json").read_text())
NOT_IN_TRANSFORMERS = {"baichuan", "internlm2", "qwen"}
"""Families of remote code: held against what their cards say, below."""
LATENT = ("deepseek_v2", "deepseek_v3")
"""Transformers keeps keys and values that it has unfolded; the engine keeps what they are unfolded from."""


COUNTED = {f"{case['config']['model_type']} {number}": case for number, case in enumerate(CASES)}
CACHED = {name: case for name, case in COUNTED.items() if "cacheElementsPerToken" in case}


def test_known_family_has_the_parameters_of_transformers() -> None:
    found = {name: read_architecture(case["config"]).parameters for name, case in COUNTED.items()}
    assert found == {name: case["parameters"] for name, case in COUNTED.items()}
    assert len(found) > 200


def test_known_family_keeps_transformers_bytes_a_token() -> None:
    asked = {name: case for name, case in CACHED.items() if case["config"]["model_type"] not in LATENT}
    found = {name: read_architecture(case["config"]).kv_bytes_per_token for name, case in asked.items()}
    assert found == {name: 2 * case["cacheElementsPerToken"] for name, case in asked.items()}
    assert len(found) > 100


def test_known_family_keeps_transformers_bytes_a_sequence() -> None:
    """But for one more token of each convolution, which Transformers keeps: three where two would do, at most."""
    states = {name: read_architecture(case["config"]).state_bytes_per_sequence for name, case in CACHED.items()}
    kept = {name: 2 * case["cacheElementsPerSequence"] for name, case in CACHED.items()}
    assert {name: state for name, state in states.items() if not kept[name] * 2 / 3 <= state <= kept[name]} == {}


def test_every_row_of_the_tables_is_held_against_transformers() -> None:
    counted = {kind for case in CASES for kind in kinds(case["config"])}
    assert {*FAMILIES, *TOWERS} - counted == NOT_IN_TRANSFORMERS


def kinds(config: dict[str, Any]) -> set[str]:
    inside = config.get("text_config") or {}
    usual = CLASSES.get(config["model_type"], {}).get("text_config")
    return {config["model_type"], inside.get("model_type", usual)}


def test_a_family_without_a_row_is_refused_and_never_guessed() -> None:
    llama = next(case["config"] for case in CASES if case["config"]["model_type"] == "llama")
    assert len(SAID["unknown"]) > 100
    for kind in [*SAID["unknown"], "phi3_v", "chatglm", "some_family_of_next_year", ""]:
        with pytest.raises(ConfigError, match=r"is not known here|does not generate text"):
            read_architecture(llama | {"model_type": kind})


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "modernbert"])
def test_an_encoder_is_refused_as_one(kind: str) -> None:
    config = json.loads((FIELD / "encoder-only-bert.config.json").read_text()) | {"model_type": kind}
    with pytest.raises(ConfigError, match="does not generate text"):
        read_architecture(config)


def test_a_class_that_generates_nothing_is_refused() -> None:
    config = json.loads((FIELD / "phi-2.config.json").read_text())
    with pytest.raises(ConfigError, match="architectures: 'PhiForSequenceClassification' generates no text"):
        read_architecture(config | {"architectures": ["PhiForSequenceClassification"]})


@pytest.mark.parametrize("part", ["audio_config", "speech_config"])
def test_a_part_that_nothing_counts_is_refused(part: str) -> None:
    config = json.loads((FIELD / "phi-2.config.json").read_text())
    with pytest.raises(ConfigError, match=f"{part}: models with this part are not known here"):
        read_architecture(config | {part: {"hidden_size": 8}})


def test_a_tower_of_another_kind_is_refused() -> None:
    config = json.loads((FIELD / "gemma3-4b-it-sparse-text-config.config.json").read_text())
    config["vision_config"]["model_type"] = "pixtral"
    with pytest.raises(ConfigError, match=r"vision_config\.model_type: 'pixtral' is not known here"):
        read_architecture(config)


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items(), ids=EXPECTED)
def test_configurations_of_the_field(name: str, expected: dict[str, Any]) -> None:
    config = json.loads((FIELD / name).read_text())
    if "refusedBecause" in expected:
        with pytest.raises(ConfigError, match=expected["refusedBecause"]):
            read_architecture(config)
        return
    found = read_architecture(config)
    assert found.parameters == expected.get("parameters", found.parameters)
    assert found.kv_bytes_per_token == expected.get("kvBytesPerToken", found.kv_bytes_per_token)
    assert found.weights_bytes == pytest.approx(expected.get("weightsBytesAbout", found.weights_bytes), rel=0.02)
    assert found.windowed_fraction == expected.get("windowedFraction", found.windowed_fraction)


@pytest.mark.parametrize(
    ("kind", "config", "parameters"),
    [
        # Qwen-7B, Baichuan2-7B-Base and internlm2-7b, as their checkpoints' indexes sum up.
        ("qwen", {"vocab_size": 151936, "intermediate_size": 22016}, 7_721_324_544),
        ("baichuan", {"vocab_size": 125696, "intermediate_size": 11008}, 7_505_973_248),
        ("internlm2", {"vocab_size": 92544, "intermediate_size": 14336, "num_key_value_heads": 8}, 7_737_708_544),
    ],
)
def test_families_of_remote_code_as_published(kind: str, config: dict[str, Any], parameters: int) -> None:
    seven = {"model_type": kind, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
    assert read_architecture(seven | config).parameters == parameters
