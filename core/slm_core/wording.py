"""Numbers in sentences for people. Must never be parsed back."""

from __future__ import annotations


def several(count: int, noun: str) -> str:
    """`1 replica`, `2 replicas`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
