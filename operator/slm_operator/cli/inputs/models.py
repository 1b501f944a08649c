"""A model from its folder: config.json, and what the weight files beside it say of themselves.

Exists so that an estimate counts what lies on disk where it does. Reads headers and indexes; must never read a weight.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slm_core.architecture.checkpoint import (
    HEADER_LENGTH_BYTES,
    MOST_HEADER_BYTES,
    Checkpoint,
    files_of,
    read_headers,
    read_index,
)

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import as_written, load

CONFIG, ONE_FILE = "config.json", "model.safetensors"
INDEX = f"{ONE_FILE}.index.json"


def model(path: str) -> tuple[dict[str, Any], Checkpoint | None]:
    """The parsed config.json of a folder or a file, and the weights beside it. Raises Refused and ConfigError."""
    place = Path(path)
    folder = place.is_dir()
    filename = str(place / CONFIG) if folder else path
    (raw, *_) = load(filename) or [None]
    if not isinstance(raw, dict):
        raise Refused(f"{filename}: not an object: give the config.json of the model, or its folder")
    beside = folder or place.name == CONFIG
    return raw, _weights(Path(filename).parent) if beside else None


def _weights(folder: Path) -> Checkpoint | None:
    """By the headers of all files where they are all here, else by the index's sum; None without either."""
    index = folder / INDEX
    if not index.is_file():
        return _headers(folder, (ONE_FILE,)) if (folder / ONE_FILE).is_file() else None
    (listed, *_) = as_written(str(index)) or [None]
    names = files_of(listed, str(index))
    if all((folder / name).is_file() for name in names):
        return _headers(folder, names)
    return read_index(listed, str(index))


def _headers(folder: Path, names: tuple[str, ...]) -> Checkpoint:
    return read_headers((str(folder / name), _header(folder / name)) for name in names)


def _header(path: Path) -> object:
    """The JSON before the weights of one file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
            if not 0 < length <= min(MOST_HEADER_BYTES, size - HEADER_LENGTH_BYTES):
                raise Refused(f"{path}: not a safetensors file: load it again (a pointer of Git LFS is no weight file)")
            text = file.read(length)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}: give files that can be read") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(f"{path}: its header is not JSON: load the file again") from None
