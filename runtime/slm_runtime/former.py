"""The document of a former session, and whether this session may go on from it.

Exists because points of another GPU, model, engine or workload would be believed as if they had been measured here: what is
not surely the same is measured anew, and that is said. Must never correct a document, nor end a profile for a former one that
is of something else.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.codec import DocumentError, parse_document
from slm_core.failure import Failure, ProfileError
from slm_core.measurements import MOST_ITEMS
from slm_core.search.continuation import findings_of, on_its_device
from slm_core.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slm_core.measurements import Gpu, MeasurementDocument

    from slm_runtime.document import Documents
    from slm_runtime.rig import EngineRig

ROOM_POINTS = 50
"""Places of a document that must be left for what one session measures."""


def read_former(path: Path) -> MeasurementDocument:
    """The document in this file. Raises ProfileError."""
    try:
        return parse_document(json.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        why = error.strerror or type(error).__name__
    except DocumentError as error:
        why = str(error)
    except (ValueError, RecursionError) as error:
        why = f"it is no JSON ({type(error).__name__})"
    raise ProfileError(
        Failure.ARGUMENTS,
        f"--continue-from {path}: {why}",
        "give a document that the profiler wrote, or measure anew without --continue-from",
    )


def with_former(now: Documents, former: MeasurementDocument, note: Callable[[str], None]) -> Documents:
    """The documents of this session, with the former one where it may be gone on from; else a note why not."""
    other = _other(former, now)
    if other is None:
        return replace(now, former=former)
    note(f"the former measurements are of {other}: everything is measured anew")
    return now


def _other(former: MeasurementDocument, now: Documents) -> str | None:
    """What they are of instead, in words; None: of the same."""
    if not on_its_device(former, now.gpu.product, now.gpu.memory_bytes):
        return f"another GPU ({_shown(former.gpu)}, this is {_shown(now.gpu)})"
    model = (former.model.uri, former.model.revision)
    if model != (now.task.model_uri, now.task.revision):
        return f"another model ({' at '.join(filter(None, model))})"
    if former.engine.name != now.rig.kind.name:
        return f"another engine ({former.engine.name})"
    if not _is_same_workload(former, now.rig):
        return f"another workload ({former.workload.source})"
    if len(former.points) + ROOM_POINTS > MOST_ITEMS["points"]:
        return f"so many sessions that no room is left ({len(former.points)} points)"
    try:
        known = findings_of(former, now.request).outcomes
    except (ArithmeticError, ValueError):
        return "engines that do not exist: some of its figures are impossible"
    return None if known else "another step budget, or without the memory of the sweep's engine"


def _is_same_workload(former: MeasurementDocument, rig: EngineRig) -> bool:
    """By its source, to which a session adds in parentheses what it had to leave out; and by its lengths, where known."""
    measured, lengths = former.workload, rig.lengths
    if measured.source != rig.source:
        return measured.source.startswith(f"{rig.source} (")
    return lengths is None or all(
        math.isclose(before, now, rel_tol=1e-3)
        for before, now in (
            (measured.input_tokens_mean, lengths.input_mean),
            (measured.output_tokens_mean, lengths.output_mean),
        )
    )


def _shown(gpu: Gpu) -> str:
    return f"{gpu.product} with {gpu.memory_bytes / GIB:.1f} GiB"
