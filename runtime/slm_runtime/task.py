"""All that a profile is asked for, and what of it can be found out on the device that there is.

What can be known to be wrong is said here, before a GPU is held. Must start nothing.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.failure import Failure, ProfileError
from slm_core.search.steps import step_tokens
from slm_core.sharing import PACKED, sharing_of
from slm_core.sharing.time_slicing import TIME_SLICING

from slm_runtime.ledger import read_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_core.measurements import SharingMode
    from slm_core.search.steps import Request

    from slm_runtime.device_checks import Choice
    from slm_runtime.launches import Subject
    from slm_runtime.measuring import Conditions
    from slm_runtime.nvml import Device
    from slm_runtime.workload import Lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """All that a profile is asked for."""

    subject: Subject
    request: Request
    """Without modes and token budget: those depend on the device."""
    max_num_batched_tokens: int | None
    """The user's own token budget per step."""
    lengths: Lengths | str
    """Token lengths, or the path of a dataset."""
    conditions: Conditions
    asked_mode: SharingMode | None
    """The only one that packs may use; None: whichever can be measured here."""
    model_uri: str
    revision: str | None
    dtype: str | None
    image: str | None
    device: Choice
    gpu_product: str | None
    """What was asked for, as the nodes' label has it."""
    gpu_memory_bytes: int | None
    """The same of the device's memory."""
    output: Path | None
    provenance: str
    continue_from: Path | None = None
    """The document of former sessions."""


def check_task(task: Task) -> None:
    """What can be known to be wrong before a GPU is held. Raises ProfileError."""
    check_model(task.subject.model)
    if task.output and not os.access(task.output.parent, os.W_OK):
        raise ProfileError(Failure.DISK, f"--output {task.output}: its folder cannot be written to")


def check_model(name: str) -> None:
    """Raise ProfileError for a folder that holds no model; a name is for the engine to resolve."""
    model = Path(name)
    if model.is_absolute() or name.startswith("."):
        if not model.is_dir():
            raise ProfileError(Failure.MODEL, f"--model {model}: no such folder")
        if not (model / "config.json").is_file():
            raise ProfileError(Failure.MODEL, f"--model {model}: it has no config.json")
        if not read_config(str(model)):
            raise ProfileError(Failure.MODEL, f"--model {model}: its config.json is not a JSON object")


def request_on(task: Task, device: Device | None, note: Callable[[str], None]) -> Request:
    """What is to be found out on this device."""
    memory_bytes = device.memory_bytes if device else None
    budget = step_tokens(memory_bytes, task.request.max_batch_size, task.max_num_batched_tokens)
    return replace(task.request, modes=_modes(task, device, note), max_num_batched_tokens=budget)


def _modes(task: Task, device: Device | None, note: Callable[[str], None]) -> tuple[SharingMode, ...]:
    """Ways of sharing that can be measured here, best first. Raises ProfileError when the one asked for cannot."""
    wanted = PACKED if task.asked_mode is None else (sharing_of(task.asked_mode),)
    if task.request.max_engines == 1:
        return ()
    if device is None:
        others = [one.title for one in wanted if one is not TIME_SLICING]
        if others:
            note(
                f"no NVIDIA device: packs run on disjoint cores and count as {TIME_SLICING.title}; {' and '.join(others)} is not measured"
            )
        return (TIME_SLICING.mode,)
    lacking = {one.daemon for one in wanted if one.daemon and not shutil.which(one.daemon)}
    possible = [one for one in wanted if one.daemon not in lacking]
    for daemon in lacking:
        if not possible:
            raise ProfileError(Failure.SHARING, f"{daemon} is not in PATH")
        under = " and ".join(one.title for one in possible)
        note(f"{daemon} is not in PATH: packs are measured under {under} only")
    return tuple(one.mode for one in possible)
