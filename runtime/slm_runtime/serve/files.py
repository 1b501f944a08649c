"""The two files that outlive a pack: what is kept for its successor, and its last word to whoever runs the container.

A file that cannot be written or read costs what it would have said, and nothing else: the pack serves. Must never take
a file of another pack, or of somebody else, for its own former one's.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.codec import parse, to_json
from slm_core.measurements import MOST_TEXT

from slm_runtime.processes import SHM, Identity, remove_shared_memory
from slm_runtime.serve.init import SCRATCH_PREFIX
from slm_runtime.serve.memory import Remembered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_core.pack_pod import Termination

_SHARED = re.compile(rf"{SHM}[^/]+")
BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Which start of the machine this is."""
    return BOOT.read_text().strip()


def read_former(path: Path) -> Remembered | None:
    """What a former pack has left, of which nothing lives; None where it ended in order, or nothing can be read."""
    try:
        former = parse(Remembered, json.loads(path.read_text()), "")
    except (OSError, ValueError, RecursionError):
        return None
    is_alive = former.boot == boot_id() and Identity(former.pid, former.started).is_alive
    return None if is_alive else former


def remember(path: Path, now: Remembered) -> None:
    """Keep it. NB: by another file, for whoever is killed while writing leaves half of one."""
    draft = path.with_name(f"{path.name}.new")
    with contextlib.suppress(OSError):
        draft.write_text(json.dumps(to_json(now)))
        draft.replace(path)


def forget(path: Path) -> None:
    """The end was in order."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def joined(shared: Iterable[str]) -> str:
    """As many as the file takes."""
    kept = ""
    for path in sorted(shared):
        if len(kept) + len(path) < MOST_TEXT:
            kept += f"{path}\n"
    return kept


def remove_left(former: Remembered) -> None:
    """Remove what a former pack had no time to. NB: whoever can write the file must not choose any file or folder.

    A volume in memory outlives the container, and what lies there counts as the pod's memory, after every OOM more.
    """
    remove_shared_memory(path for path in former.shared.splitlines() if _SHARED.fullmatch(path))
    folder, own = Path(former.scratch), Path(tempfile.gettempdir())
    if folder.name.startswith(SCRATCH_PREFIX) and folder.parent == own.parent and folder != own:
        shutil.rmtree(folder, ignore_errors=True)


def leave(path: Path, word: Termination | None) -> None:
    """The last word, until there is another; None: there is nothing to say. NB: it is mounted, so no other file takes its place."""
    with contextlib.suppress(OSError):
        path.write_text(word.text() if word else "")
