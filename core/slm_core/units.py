"""Units of memory, once.

Exists because a unit spelt in a dozen files is a dozen places to be wrong by a factor of a thousand. Bytes are what
every figure is kept in; these are for reading and printing. Must never round.
"""

from __future__ import annotations

MIB = 2**20
"""Bytes of a mebibyte."""
GIB = 2**30
"""Bytes of a gibibyte."""
