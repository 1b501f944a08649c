"""vLLM's command line, as far as operators and profilers use it, and the light engine's own settings.

Exists so that a flag which vLLM would refuse is refused here too. The settings of the pretended hardware and of the
misbehaviours come from the environment (LIGHT_ENGINE_*), never from flags: flags belong to vLLM.
"""

import argparse
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BYTES_OF_DTYPE = {"float32": 4, "float": 4}
SINCE = {"--max-num-queued-reqs": (0, 29)}
"""Flags that vLLM has not always had, and its first version with each (release notes of v0.29.0)."""


def size(text: str) -> int:
    """vLLM's human readable sizes: 64M is binary, 64m is decimal."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"invalid size {text!r}")
    return int(float(found[1]) * (BINARY | DECIMAL).get(found[2], 1))


def parser() -> argparse.ArgumentParser:
    """The flags, with vLLM's defaults."""
    made = argparse.ArgumentParser(prog="api_server.py", allow_abbrev=False)
    made.add_argument("model_tag", nargs="?")
    for name, default in (
        ("model", None), ("host", "0.0.0.0"), ("dtype", "auto"), ("revision", None), ("load-format", "auto"),
        ("tokenizer", None), ("download-dir", None), ("chat-template", None), ("quantization", None),
        ("kv-cache-dtype", "auto"), ("uvicorn-log-level", "info"),
    ):  # fmt: skip
        made.add_argument(f"--{name}", default=default)
    for name, default in (
        ("port", 8000), ("max-num-seqs", 256), ("max-num-batched-tokens", 2048), ("shutdown-timeout", 0), ("seed", 0),
        ("max-num-queued-reqs", None), ("max-model-len", None), ("tensor-parallel-size", 1), ("block-size", 16),
    ):  # fmt: skip
        made.add_argument(f"--{name}", type=int, default=default)
    made.add_argument("--gpu-memory-utilization", type=float, default=0.92)
    made.add_argument("--kv-cache-memory-bytes", type=size)
    made.add_argument("--served-model-name", nargs="+")
    made.add_argument("--api-key", nargs="+")
    for name in ("enforce-eager", "trust-remote-code", "disable-log-stats", "disable-uvicorn-access-log"):
        made.add_argument(f"--{name}", action="store_true")
    for name in ("enable-prefix-caching", "enable-chunked-prefill", "enable-log-requests"):
        made.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    return made


def parse(argv: list[str], *, as_module: bool = False) -> argparse.Namespace:
    """Read the command line; vLLM takes underscores for dashes in flags, and as a module no model in first place.

    NB: the module reads one there and ignores it: it serves its default model.
    """
    dashed = [re.sub(r"^--[\w-]+", lambda flag: flag[0].replace("_", "-"), word) for word in argv]
    made, version = parser(), tuple(int(part) for part in settings().version.split(".")[:2])
    newer = [word for word in dashed if SINCE.get(word.partition("=")[0], version) > version]
    if newer:
        made.error(f"unrecognized arguments: {' '.join(newer)}")
    args = made.parse_args(dashed)
    args.api_key = [key for key in (args.api_key or [os.environ.get("VLLM_API_KEY", "")]) if key]
    args.model = (None if as_module else args.model_tag) or args.model or "Qwen/Qwen3-0.6B"
    args.served_model_name = args.served_model_name or [args.model]
    return args


@dataclass(frozen=True, slots=True)
class Settings:
    """The pretended hardware, and what goes wrong on it."""

    start_seconds: float = 0.1
    step_ms: float = 2.0
    """Time of a step with nothing to do."""
    sequence_ms: float = 0.05
    """What each decoding sequence adds to a step."""
    prefill_ms: float = 0.002
    """What each prompt token adds to a step."""
    device_bytes: int = 8 * 2**30
    weights_bytes: int = 512 * 2**20
    version: str = "0.32.0"
    """Which vLLM it is."""
    first_seconds: float = 0.0
    """How long its first request waits for kernels to be compiled."""
    last_words: str = ""
    """A file with what it says before it ends at its start; none: it starts."""
    hub: str = ""
    """Folder that plays the hub: a model given by a name is `NAME/config.json` in it."""
    download_seconds: float = 0.0
    """How long a model of the hub takes to come, the first time."""
    event_ms: float = 0.0
    """Time that the front end takes for each event that it streams, one after the other."""
    fault: str = ""
    """never-healthy, die-at-start, silent (no log), answers-errors, no-metrics, renamed-metrics, ignores-sigterm, or at N running: die-at:N, die-slowly-at:N, hang-at:N."""

    @classmethod
    def of(cls, environment: dict[str, str]) -> "Settings":
        """Read LIGHT_ENGINE_<FIELD>."""
        given = {}
        for name, kind in cls.__annotations__.items():
            text = environment.get(f"LIGHT_ENGINE_{name.upper()}")
            if text:
                given[name] = kind(text)
        return cls(**given)

    def fault_at(self, kind: str) -> int | None:
        """N of a fault `kind:N`."""
        name, _, number = self.fault.partition(":")
        return int(number) if name == kind else None


@dataclass(frozen=True, slots=True)
class Shape:
    """What the model's config.json says of its KV cache."""

    kv_bytes_per_token: int
    max_model_len: int

    @classmethod
    def of(cls, model: str, dtype: str, hub: str = "") -> "Shape":
        """Read a model folder, or one of the hub's. Raises OSError or ValueError as vLLM does."""
        path = Path(hub) / model / "config.json"
        if not path.exists():
            raise OSError(
                f"Can't load the configuration of '{model}'. If you were trying to load it from "
                f"'https://huggingface.co/models', make sure you don't have a local directory with the same name."
            )
        config = json.loads(path.read_text())
        config = config.get("text_config", config)
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        width = BYTES_OF_DTYPE.get(dtype, 2)
        return cls(
            kv_bytes_per_token=2
            * config["num_hidden_layers"]
            * (config.get("num_key_value_heads") or heads)
            * head_dim
            * width,
            max_model_len=config.get("max_position_embeddings", 2048),
        )


def settings() -> Settings:
    """The settings of this process."""
    return Settings.of(dict(os.environ))
