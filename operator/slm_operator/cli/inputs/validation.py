"""What pydantic finds wrong, as one sentence.

Exists by itself because the other way to check a manifest (`manifests`, by the rules of the CRD) loads a library that
takes most of a second, which no command that only reads the cluster should wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError


def sentence(error: ValidationError, root: str) -> str:
    """The first thing that is wrong, where, and how to fix it."""
    first = error.errors(include_url=False)[0]
    given = f" (it is {first['input']!r})" if isinstance(first["input"], str | int | float) else ""
    return f"{_place(root, first['loc'])}: {first['msg']}{given}: correct the field, `kubectl explain slmd.spec` documents it"


def _place(root: str, parts: Sequence[int | str]) -> str:
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
