"""Short hashes of plain values, for names and annotations that change exactly when what they stand for does."""

from __future__ import annotations

import hashlib
import json


def digest(value: object, length: int = 10) -> str:
    """A short stable hash of plain JSON values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
