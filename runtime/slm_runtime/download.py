"""How much of a model has come from the hub while an engine downloads it: read off the disk, for whoever waits.

The engine's own downloader (huggingface_hub) keeps each file of a model under `blobs`, a partial one as `*.incomplete`
that the next try goes on with. How much is to come is not known here, and must never be guessed.
Source: huggingface_hub, "Understand caching".
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVERY_SECONDS = 5.0


async def follow_download(model: str, environment: Mapping[str, str], report: Callable[[str, float], None]) -> None:
    """Tell each time that more is there, and for how many seconds it came, until cancelled.

    Returns at once for a model that no hub has.
    """
    folder = hub_folder(model, environment)
    if folder is None:
        return
    reported, looked = bytes_on_disk(folder), time.monotonic()
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        here, now = bytes_on_disk(folder), time.monotonic()
        if here > reported:
            report(f"downloading {model}: {here / GIB:.2f} GiB of it are here", now - looked)
        reported, looked = here, now


def hub_folder(model: str, environment: Mapping[str, str]) -> Path | None:
    """Where the downloader keeps a model; None for a folder or a bucket."""
    if model.startswith(("/", ".")) or "://" in model:
        return None
    home = Path(environment.get("HF_HOME") or Path(environment.get("HOME", "/root")) / ".cache" / "huggingface")
    cache = Path(environment.get("HF_HUB_CACHE") or home / "hub")
    return cache / f"models--{model.replace('/', '--')}"


def bytes_on_disk(folder: Path) -> int:
    """Bytes of all files of a model, partial ones included. 0 before there is one."""
    # NB: a partial file may have its full length from the start: what counts is what was written.
    found = (_written(path) for path in folder.glob("blobs/*"))
    return sum(found)


def _written(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:  # a partial file that was finished, and renamed, just now
        return 0
    return min(status.st_size, status.st_blocks * 512)
