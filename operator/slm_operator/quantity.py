"""Quantities as Kubernetes writes them (500m, 1.5, 4Gi), as far as resources of containers need them.

Pure. Must never raise for what is none: it stands in a pod template of others, and the API server refuses it in words.
"""

from __future__ import annotations

import re
from fractions import Fraction

from slm_core.units import GIB, MIB

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{letter}i": 10 * (i + 1) for i, letter in enumerate("KMGTPE")}
# NB: 1E is an exa, 1E3 a thousand.
_FORM = re.compile(r"\+?(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE]([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII)


def amount(quantity: object) -> Fraction | None:
    """CPUs or bytes, exactly; None for anything that is no quantity."""
    found = _FORM.fullmatch(str(quantity))
    if found is None or isinstance(quantity, bool):
        return None
    digits, exponent, suffix = found.groups()
    if suffix in _BINARY:
        return Fraction(digits) * (1 << _BINARY[suffix])
    power = int(exponent) if exponent is not None else _DECIMAL[suffix or ""]
    return Fraction(digits) * Fraction(10) ** power


def cpu_quantity(cpus: Fraction) -> str:
    """`3`, or `2500m`: no finer than Kubernetes counts CPUs."""
    return str(cpus) if cpus.denominator == 1 else f"{-(-cpus * 1000 // 1)}m"


def memory_quantity(size: Fraction) -> str:
    """`9Gi`, else `9500Mi`, else bytes."""
    whole = -(-size // 1)
    return next(
        (f"{whole // unit}{name}" for unit, name in ((GIB, "Gi"), (MIB, "Mi")) if whole % unit == 0), str(whole)
    )
