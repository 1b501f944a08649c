"""The engines there are, and which one is meant.

Nobody says it in so many words: an engine is known by the command that starts it, or by the name in a measurement
document. A command that no engine claims (a script in an image of the user's own) is taken for the first one's.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from slm_core.engines.vllm import Vllm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_core.engines.base import Engine

ENGINES: tuple[Engine, ...] = (Vllm(),)
"""The first is the default."""
UNNAMED_IMAGE = "vllm/vllm-openai:v0.32.0"
"""Image of which measurements are taken to be that name none. It never changes: profiles are found by theirs, and stay found."""


OTHERS: Mapping[str, str] = {
    "sglang": "SGLang", "text-generation-inference": "TGI", "text-generation-launcher": "TGI", "ollama": "Ollama",
    "llama.cpp": "llama.cpp", "llama-server": "llama.cpp", "tritonserver": "Triton", "trtllm-serve": "TensorRT-LLM",
    "tensorrt-llm": "TensorRT-LLM", "lmdeploy": "LMDeploy", "huggingfaceserver": "KServe's Hugging Face server",
    "text-embeddings-inference": "TEI", "infinity": "Infinity", "faster-whisper": "faster-whisper",
}  # fmt: skip
"""Engines that are not known here, by a word of their images and programs: named to whoever asks about one."""


def default() -> Engine:
    """The engine that is meant where nothing else is said."""
    return ENGINES[0]


def engine_of(command: Sequence[str] | None) -> Engine:
    """The engine that a command starts."""
    # NB: what follows the first flag may be anything, a model's name with that of another engine in it for instance.
    program = _before_flags(command or ())
    return next((engine for engine in ENGINES if engine.is_started_by(program)), ENGINES[0])


def other_engine(words: Sequence[str]) -> str | None:
    """The engine that is not known here which an image or a program's words name. None: none that was ever heard of."""
    said = " ".join(words).lower()
    return next((name for word, name in OTHERS.items() if word in said), None)


def command_and_arguments(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A command line's command, and the arguments that follow it: between them stands the last `--`, or the first flag."""
    found = tuple(words)
    if "--" in found:
        at = len(found) - 1 - found[::-1].index("--")
        return found[:at], found[at + 1 :]
    command = _before_flags(found)
    return command, found[len(command) :]


def engine_named(name: str) -> Engine:
    """The engine of a measurement document. A document that was imported may have any name for it."""
    return next((engine for engine in ENGINES if engine.name == name), ENGINES[0])


def _before_flags(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(takewhile(lambda word: not word.startswith("--"), words))
