"""The stages, in order of worth: what is known least, and decides most, comes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.gpu_stages import decode_stage, mps_stage, profile_stage, serve_stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.gpu_stages.job import Job

ORDINARY_UID = 2000
"""The user of the product's own pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage."""

    name: str
    """Also of its file."""
    title: str
    most_seconds: float
    """After so long on a GPU it is ended, so that one that hangs leaves time for the next."""
    run: Callable[[Job], Awaitable[None]]
    uid: int | None = None
    """Runs as this user where the command is run by root."""


STAGES = (
    Stage(
        name="mps",
        title="A private MPS daemon as an ordinary user",
        most_seconds=120,
        run=mps_stage.run,
        uid=ORDINARY_UID,
    ),
    Stage(
        name="packs",
        title="OPT-1.3B's shape: one engine against packs under MPS",
        most_seconds=420,
        run=profile_stage.packs,
    ),
    Stage(
        name="serve",
        title="OPT-1.3B's shape: a pack served in one container, and what befalls it",
        most_seconds=300,
        run=serve_stage.run,
    ),
    Stage(
        name="decode",
        title="Board, memory, CPUs and streams during decode",
        most_seconds=300,
        run=decode_stage.run,
    ),
    Stage(
        name="modern",
        title="A model of today's shape: one engine against packs under MPS",
        most_seconds=420,
        run=profile_stage.modern,
    ),
    Stage(
        name="slicing",
        title="OPT-1.3B's shape: a pack of two under time slicing",
        most_seconds=300,
        run=profile_stage.slicing,
    ),
)
