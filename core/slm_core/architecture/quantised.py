"""Bytes of weights as the engine keeps them: by data type, and by what a quantisation says of which modules.

Exists because a checkpoint in 4 bits still has embeddings, and often attention, in 16. Assumes that a quantisation names
modules as checkpoints do; names of other families' modules are read as Llama's. Must never take an unknown method for
16 bits.

Sources: the configuration classes of Transformers and compressed-tensors; MX formats have a byte of scale for 32
weights, NVFP4 one for 16; vLLM loads float32 checkpoints in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_core.architecture.fields import ConfigError, Fields, shown
from slm_core.architecture.modules import Modules, read_modules

if TYPE_CHECKING:
    from collections.abc import Sequence

DTYPE_BYTES = {
    "auto": 2.0, "float16": 2.0, "half": 2.0, "bfloat16": 2.0, "float32": 2.0, "float": 2.0, "float8_e4m3fn": 1.0,
}  # fmt: skip
"""Bytes of a weight as vLLM loads a checkpoint of this type: float32 becomes 16 bits."""
ASKED_BYTES = {"auto": None, "float16": 2.0, "half": 2.0, "bfloat16": 2.0, "float32": 4.0, "float": 4.0}
"""The same where the user asks for a type: vLLM's --dtype. None: the checkpoint's."""
KV_DTYPE_BYTES = {
    "auto": None, "float16": 2.0, "bfloat16": 2.0, "float32": 4.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0,
    "fp8_inc": 1.0, "int8": 1.0,
}  # fmt: skip
"""vLLM's --kv-cache-dtype. None: that of the weights."""
METHOD_BITS = {
    "awq": 4, "gptq": 4, "awq_marlin": 4, "gptq_marlin": 4, "fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4.25, "mxfp8": 8.25,
    "modelopt": 8, "modelopt_fp4": 4.5,
}  # fmt: skip
"""Bits of a weight by method, where the file does not tell; with their scales where these belong to the format."""
ONLINE_BITS = {
    "fp8": 8, "fp8_per_tensor": 8, "fp8_per_block": 8, "fp8_per_channel": 8, "int8_per_channel_weight_only": 8,
    "bitsandbytes": 4.5, "mxfp8": 8.25, "nvfp4_per_token": 4.5,
}  # fmt: skip
"""vLLM's --quantization for a checkpoint that is not quantised."""
EXPERTS_ONLY = frozenset({"mxfp4"})
"""Methods that reach nothing but experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What a quantisation does to a linear layer."""

    bits: float
    targets: Modules | None = None
    """None: all linear layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How many bytes a weight of each module has."""

    bytes_per_weight: float
    """Of whatever is not quantised."""
    schemes: tuple[Scheme, ...] = ()
    ignored: Modules = field(default_factory=Modules)
    experts_only: bool = False
    stored_bytes_per_weight: float = 2.0
    """The same on disk."""
    kv_bytes: float | None = None
    """Bytes of an element of the KV cache, where the checkpoint brings scales for a narrower one."""
    in_checkpoint: bool = False
    """The checkpoint is quantised; else the engine does it while it loads."""

    def bytes_of(self, module: str, *, linear: bool, expert: bool) -> float:
        """Bytes of one weight of a module, by its full name."""
        if not linear or not self.schemes or (self.experts_only and not expert):
            return self.bytes_per_weight
        if self.ignored.include(module):
            return self.bytes_per_weight
        for scheme in self.schemes:
            if scheme.targets is None or scheme.targets.include(module):
                return scheme.bits / 8
        return self.bytes_per_weight

    def stranger(self, modules: Sequence[str]) -> str | None:
        """A name among its own that is none of these modules', so that what it means for them is not known."""
        if self.experts_only:
            return None  # whatever else it names has 16 bits in any case
        named = (self.ignored, *(scheme.targets for scheme in self.schemes if scheme.targets is not None))
        return next((name for one in named for name in one.strangers(modules)), None)


def read_quantisation(f: Fields, whole: Fields, *, dtype: str, online: str | None) -> Quantisation:
    """By the text part `f` or the `whole` file, the user's --dtype, and --quantization. Raises ConfigError."""
    plain, stored = _plain_bytes(f, whole, dtype)
    for name in ("quantization_config", "compression_config"):
        for one in (f, whole):
            inside = one.inside(name)
            if inside:
                return _read(Fields(inside, path=f"{name}."), plain)
    if online is None:
        return Quantisation(bytes_per_weight=plain, stored_bytes_per_weight=stored)
    if online not in ONLINE_BITS:
        raise ConfigError(
            f"quantization: what {shown(online)} makes of weights in 16 bits is not known here: measure the model"
        )
    schemes = (Scheme(bits=ONLINE_BITS[online]),)
    return Quantisation(bytes_per_weight=plain, stored_bytes_per_weight=stored, schemes=schemes)


def kv_bytes(name: str, quantisation: Quantisation) -> float:
    """Bytes of an element of the KV cache, by vLLM's --kv-cache-dtype. Raises ConfigError."""
    if name not in KV_DTYPE_BYTES:
        raise ConfigError(f"kv-cache-dtype: {shown(name)} is none of {', '.join(KV_DTYPE_BYTES)}: measure the model")
    return KV_DTYPE_BYTES[name] or quantisation.kv_bytes or max(2.0, quantisation.bytes_per_weight)


def _plain_bytes(f: Fields, whole: Fields, asked: str) -> tuple[float, float]:
    """Bytes of a weight that is not quantised, in memory and on disk."""
    if asked not in ASKED_BYTES:
        raise ConfigError(f"dtype: {shown(asked)} is none of {', '.join(ASKED_BYTES)}")
    names = (one.word(name) for one in (f, whole) for name in ("dtype", "torch_dtype"))
    name = (next((found for found in names if found), None) or "float16").removeprefix("torch.")
    if name not in DTYPE_BYTES:
        raise ConfigError(f"torch_dtype: {shown(name)} is none of {', '.join(DTYPE_BYTES)}: measure the model instead")
    stored = 4.0 if name in ("float32", "float") else DTYPE_BYTES[name]
    return ASKED_BYTES[asked] or DTYPE_BYTES[name], stored


def _read(q: Fields, plain: float) -> Quantisation:
    method = q.word("quant_method") or ""
    ignored = read_modules(q, "modules_to_not_convert", "llm_int8_skip_modules", "ignore", "exclude_modules")
    groups = q.inside("config_groups")
    schemes = tuple(_group(q, name, group) for name, group in groups.items()) if groups else ()
    found = tuple(scheme for scheme in schemes if scheme is not None) or (Scheme(bits=_bits(q, method)),)
    return Quantisation(
        bytes_per_weight=plain,
        schemes=found,
        ignored=ignored,
        experts_only=method in EXPERTS_ONLY,
        kv_bytes=_kv_bytes(q),
        in_checkpoint=True,
    )


def _kv_bytes(q: Fields) -> float | None:
    """As vLLM resolves `auto`: by the scheme of the checkpoint's KV cache (vllm/utils/torch_utils.py)."""
    raw = q.raw("kv_cache_scheme") or q.raw("kv_cache_quant_algo")
    if raw is None:
        return None
    if isinstance(raw, dict):
        return Fields(raw, path="kv_cache_scheme.").count("num_bits", most=64) / 8
    known = {"FP8": 1.0, "NVFP4": 4.5 / 8}
    if not isinstance(raw, str) or raw.upper() not in known:
        raise q.wrong("kv_cache_quant_algo", f"{shown(raw)} is not known here: measure the model")
    return known[raw.upper()]


def _group(q: Fields, name: str, raw: object) -> Scheme | None:
    """One group of modules of compressed-tensors; None where it does not touch their weights."""
    if not isinstance(raw, dict):
        raise q.wrong(f"config_groups.{name}", f"{shown(raw)} is not an object: give the model's own config.json")
    group = Fields(raw, path=f"config_groups.{name}.")
    inside = group.inside("weights")
    if inside is None:
        return None
    weights = Fields(inside, path=f"config_groups.{name}.weights.")
    bits, size = weights.count("num_bits", most=64), weights.optional("group_size", least=-1) or 0
    scale = 8 if weights.word("type") == "float" and bits == 4 else 16
    zero = 0 if weights.raw("symmetric") is not False else bits
    return Scheme(bits=bits + ((scale + zero) / size if size > 0 else 0), targets=_targets(group))


def _targets(group: Fields) -> Modules | None:
    kinds = set(group.words("targets") or ("Linear",))
    return None if "Linear" in kinds else read_modules(group, "targets")


def _bits(q: Fields, method: str) -> float:
    if q.flag("load_in_4bit"):
        return 4 + (0.127 if q.flag("bnb_4bit_use_double_quant") else 0.5)
    if q.flag("load_in_8bit"):
        return 8
    algorithm = (q.word("quant_algo") or "").upper()
    if algorithm:
        named = {"FP8": 8.0, "NVFP4": 4.5, "MXFP8": 8.25, "W4A16_AWQ": 4.25}
        if algorithm not in named:
            raise q.wrong("quant_algo", f"{shown(algorithm)} is not known here: measure the model")
        return named[algorithm]
    bits, size = q.optional("bits", most=64) or q.optional("w_bit", most=64), q.optional("group_size", least=-1) or 0
    if bits is None and method not in METHOD_BITS:
        raise q.wrong("bits", "missing: give the bits of a weight, or measure the model")
    each = bits if bits is not None else METHOD_BITS[method]
    return each + ((16 + each) / size if size > 0 else 0)
