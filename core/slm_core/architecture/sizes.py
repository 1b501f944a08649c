"""What a model weighs and what a token of context costs, from its `config.json`.

Exists so that something can be said before anything is measured. Counts parameters as the architectures define them and
bytes as vLLM keeps them. Must never guess a size that neither the file nor its family tells: it raises.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_core.architecture.class_defaults import CLASSES
from slm_core.architecture.families import FAMILIES
from slm_core.architecture.family import WINDOWED, Family
from slm_core.architecture.fields import MAIN, ConfigError, Fields, shown
from slm_core.architecture.kinds import kinds_of, window_of
from slm_core.architecture.parts import Mixer, Part
from slm_core.architecture.quantised import Quantisation, kv_bytes, read_quantisation
from slm_core.architecture.towers import TOWERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.architecture.checkpoint import Checkpoint

ENCODERS = ("albert", "bert", "camembert", "deberta", "distilbert", "electra", "esm", "modernbert", "mpnet", "nomic_bert",
            "roberta", "xlm-roberta", "xlm_roberta")  # fmt: skip
"""Families that read text and generate none."""
_OTHER_PARTS = ("audio_config", "speech_config", "encoder", "decoder", "talker_config", "thinker_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes of one model."""

    parameters: int
    """All weights, counted; a vision tower's too."""
    weights_bytes: int
    """All weights, in memory."""
    active_bytes: int
    """Weights that one token reads: fewer than all in a mixture of experts."""
    expert_bytes: int
    """Weights of all experts that tokens are routed to. 0 without experts."""
    expert_share: float
    """Part of them that one token reads."""
    layers: int
    hidden_size: int
    vocabulary: int
    kv_bytes_per_token: int
    """KV cache bytes of one token, all layers."""
    window_tokens: int | None
    """Sliding window, absent where every layer sees everything."""
    windowed_fraction: float
    """Part of the KV bytes of a token that only the window keeps."""
    state_bytes_per_sequence: int = 0
    """What a sequence keeps whatever its length, where layers have a state instead of a KV cache."""

    def kv_bytes_per_sequence(self, tokens: float) -> float:
        """Cache bytes of a sequence of so many tokens."""
        state = self.state_bytes_per_sequence
        if self.window_tokens is None:
            return state + self.kv_bytes_per_token * tokens
        seen = self.windowed_fraction * min(tokens, self.window_tokens) + (1 - self.windowed_fraction) * tokens
        return state + self.kv_bytes_per_token * seen


def read_architecture(
    config: Mapping[str, Any],
    *,
    kv_dtype: str = "auto",
    dtype: str = "auto",
    quantization: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> Architecture:
    """Count a model. `config` is the parsed config.json, the words are vLLM's --kv-cache-dtype, --dtype, --quantization.

    Weights on disk win over counted ones. Raises ConfigError, also for families that are not known here.
    """
    whole, f, family, tower = _parts_of(config)
    kinds = kinds_of(f, family)
    mixers = {kind: _mixer(f, family, kind) for kind in sorted(set(kinds))}
    seeing = Part(module="vision_tower", weights=tower, linear=False, read_fraction=0.0)
    parts = [*_all_parts(f, family, kinds, mixers), seeing]
    quantisation = read_quantisation(f, whole, dtype=dtype, online=quantization)
    stranger = quantisation.stranger([part.module for part in parts])
    if stranger is not None:
        raise ConfigError(f"quantization_config: the module {shown(stranger)} is not known here: measure the model")
    window = window_of(f) if WINDOWED in kinds else None
    elements = sum(mixers[kind].kv_elements for kind in kinds)
    windowed = sum(mixers[kind].kv_elements for kind in kinds if kind == WINDOWED)
    each = kv_bytes(kv_dtype, quantisation)
    state = sum(mixers[kind].state_elements for kind in kinds) * max(2.0, quantisation.bytes_per_weight)
    found = Architecture(
        **_sums(parts, quantisation),
        layers=len(kinds),
        hidden_size=f.count("hidden_size"),
        vocabulary=f.count("vocab_size"),
        kv_bytes_per_token=round(elements * each),
        window_tokens=window,
        windowed_fraction=windowed / elements if window and elements else 0.0,
        state_bytes_per_sequence=round(state),
    )
    return found if checkpoint is None else _weighed(found, checkpoint, quantisation)


def longest_sequence(config: Mapping[str, Any]) -> int | None:
    """The longest sequence in tokens that a config.json names, None where it names none that can be read."""
    inside = config.get("text_config")
    text = Fields({**config, **inside} if isinstance(inside, dict) else config)
    try:
        found = (text.optional(name) for name in ("max_position_embeddings", "n_positions", "max_seq_len"))
        return next((tokens for tokens in found if tokens is not None), None)
    except ConfigError:
        return None


def _parts_of(config: Mapping[str, Any]) -> tuple[Fields, Fields, Family, int]:
    """The whole file, its text part with its family, and the weights of its vision tower."""
    given = Fields(config)
    kind = given.word("model_type")
    if kind is None:
        raise ConfigError("model_type: missing: give the model's own config.json")
    inside = given.inside("text_config")
    _generates(given, kind)
    classes = CLASSES.get(kind, {})
    whole = Fields(config, classes.get("defaults"))
    seeing = kind in TOWERS
    if not seeing:
        return whole, *_text_only(config, kind, inside), 0
    part = Fields(inside or {}, path="text_config.").word("model_type") or classes["text_config"]
    if part not in FAMILIES:
        raise _unknown(part)
    text = _fields(config if inside is None else inside, part, nested=inside is not None, whole=config)
    return whole, text, FAMILIES[part], _tower(given, whole, kind, text)


def _text_only(config: Mapping[str, Any], kind: str, inside: Mapping[str, Any] | None) -> tuple[Fields, Family]:
    if kind not in FAMILIES:
        raise _unknown(kind)
    if inside is not None or Fields(config).inside("vision_config") is not None:
        raise ConfigError(f"model_type: {shown(kind)} with parts of its own is not known here: measure the model")
    return _fields(config, kind, nested=False, whole=config), FAMILIES[kind]


def _tower(given: Fields, whole: Fields, kind: str, text: Fields) -> int:
    inside = given.inside("vision_config")
    if inside is None and not TOWERS[kind].has_defaults:
        raise ConfigError("vision_config: missing: give the model's own config.json")
    vision = Fields(inside or {}, path="vision_config.")
    usual = CLASSES[kind]["vision_config"]
    part = vision.word("model_type") or usual
    if part not in (usual, kind):
        raise ConfigError(f"vision_config.model_type: {shown(part)} is not known here: measure the model")
    fields = Fields(inside or {}, CLASSES[usual]["defaults"], path="vision_config.")
    return TOWERS[kind].weights(fields, whole, text.count("hidden_size"))


def _fields(given: Mapping[str, Any], kind: str, *, nested: bool, whole: Mapping[str, Any]) -> Fields:
    """Fields with the class's defaults: of the sizes that make a model only where they are in a part of a file."""
    known = CLASSES.get(kind, {})
    defaults = known.get("defaults") or {}
    if not nested:
        defaults = {name: value for name, value in defaults.items() if name not in MAIN}
    elif "tie_word_embeddings" in whole:
        given = {**given, "tie_word_embeddings": whole["tie_word_embeddings"]}
    return Fields(given, defaults, names=known.get("names"), path="text_config." if nested else "")


def _generates(given: Fields, kind: str) -> None:
    """Raises ConfigError for what generates no text, or has parts that nothing here counts."""
    classes = given.words("architectures") or ()
    if kind.lower() in ENCODERS or given.flag("is_encoder_decoder"):
        raise ConfigError(f"model_type: {shown(kind)} does not generate text: give a generative model")
    if classes and not any(name.endswith(_GENERATIVE) for name in classes):
        raise ConfigError(f"architectures: {shown(classes[0])} generates no text: give a generative model")
    other = next((name for name in _OTHER_PARTS if given.raw(name) is not None), None)
    if other is not None:
        raise ConfigError(f"{other}: models with this part are not known here: measure the model")


_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForCausalLMV2")


def _unknown(kind: str) -> ConfigError:
    return ConfigError(
        f"model_type: the family {shown(kind)} is not known here, and a size is never guessed: measure the model"
    )


def _mixer(f: Fields, family: Family, kind: str) -> Mixer:
    counting = family.mixers.get("full_attention" if kind == WINDOWED else kind)
    if counting is None:
        raise f.wrong(
            "layer_types", f"layers of the kind {shown(kind)} are not known in this family: measure the model"
        )
    return counting(f, family)


def _all_parts(f: Fields, family: Family, kinds: tuple[str, ...], mixers: Mapping[str, Mixer]) -> list[Part]:
    """Every module by its full name, embeddings and last norm too."""
    hidden, vocabulary = f.count("hidden_size"), f.count("vocab_size")
    width = f.optional(family.embedding_width) or hidden
    norm = hidden * family.norm_vectors * family.has(f, family.has_norm_weights)
    norms = family.norms(f) * norm + family.rest_of_layer
    tied = _is_tied(f, family)
    # Reading one row of the input embedding costs nothing, the output projection is read whole.
    parts = [
        Part(module="model.embed_tokens", weights=vocabulary * width, linear=False, read_fraction=float(tied)),
        Part(module="model.norm", weights=norm * family.has(f, family.last_norm), linear=False, read_fraction=0.0),
        Part(module="model.rest", weights=family.rest(f), linear=False, read_fraction=0.0),
        Part(module="lm_head.bias", weights=vocabulary * family.has(f, family.head_bias), linear=False),
    ]
    if not tied:
        parts.append(Part(module="lm_head", weights=vocabulary * width, linear=False))
    for i, kind in enumerate(kinds):
        of_layer = (*mixers[kind].parts, *family.feed(f, i, len(kinds)))
        parts += [replace(part, module=f"model.layers.{i}.{part.module}") for part in of_layer if part.weights]
        parts.append(Part(module=f"model.layers.{i}.norm", weights=norms, linear=False))
    return parts


def _is_tied(f: Fields, family: Family) -> bool:
    """Whether the output projection is the input embedding."""
    name = family.tied_field
    if name is None:
        return False
    return f.flag(name) if f.raw(name) is not None else f.flag("tie_word_embeddings")


def _sums(parts: list[Part], quantisation: Quantisation) -> dict[str, Any]:
    """The fields of `Architecture` that are sums over modules."""
    sized = [
        (part, part.weights * quantisation.bytes_of(part.module, linear=part.linear, expert=part.expert))
        for part in parts
    ]
    experts = [(part, size) for part, size in sized if part.expert]
    return {
        "parameters": sum(part.weights for part in parts),
        "weights_bytes": round(sum(size for _, size in sized)),
        "active_bytes": round(sum(size * part.read_fraction for part, size in sized)),
        "expert_bytes": round(sum(size for _, size in experts)),
        "expert_share": experts[0][0].read_fraction if experts else 0.0,
    }


def _weighed(found: Architecture, checkpoint: Checkpoint, quantisation: Quantisation) -> Architecture:
    """The same with the weights that are on disk."""
    if quantisation.schemes and not quantisation.in_checkpoint:
        return found  # the engine makes other weights of them while it loads
    stored = None if quantisation.in_checkpoint else quantisation.stored_bytes_per_weight
    weights = checkpoint.weights_bytes(quantisation.bytes_per_weight, stored)
    ratio = weights / found.weights_bytes
    return replace(
        found,
        parameters=checkpoint.parameters or found.parameters,
        weights_bytes=weights,
        active_bytes=round(found.active_bytes * ratio),
        expert_bytes=round(found.expert_bytes * ratio),
    )
