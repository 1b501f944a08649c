"""Arguments that more than one command of `python -m slm_runtime` takes, and what no command takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from slm_core import tuning
from slm_core.arguments import count
from slm_core.failure import Failure, ProfileError

from slm_runtime.device_checks import Choice

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from slm_core.engines.base import Engine

T = TypeVar("T")

_DEVICE_HELP = "auto takes the CPU only where nothing says that a GPU is there"


def add(group: argparse._ArgumentGroup, flag: str, kind: Callable[[str], T], default: T, **more: Any) -> None:
    """An argument whose help ends with its default."""
    words = f"{more.pop('help', '')} (default: %(default)s)".lstrip()
    group.add_argument(flag, type=kind, default=default, help=words, **more)


def add_device(group: argparse._ArgumentGroup) -> None:
    """Which device, and what it has to be."""
    add(group, "--device", Choice, Choice.AUTO, choices=list(Choice), help=_DEVICE_HELP)
    group.add_argument("--gpu-product", help="the GPU's product as feature discovery has it; another one is refused")
    group.add_argument("--gpu-memory-bytes", type=count(tuning.GPU_MEMORY_BYTES), help="the same of its memory")


def refuse_secrets(engine: Engine, words: Sequence[str]) -> None:
    """Raise ProfileError where a secret stands among the engine's words: they go into the document."""
    names = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")} - {"--"}
    for flag in sorted(engine.secret_flags):
        if any(flag.startswith(name) for name in names):
            raise ProfileError(
                Failure.ARGUMENTS,
                f"{flag} would stand in the process list, in the engine's log and in the document",
                "give it to the engine as a variable of its environment",
            )
