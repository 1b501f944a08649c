"""Disjoint cores for the engines of a pack on CPU, so that neighbours are measurable without a GPU."""

from __future__ import annotations


def split(cores: frozenset[int], engines: int) -> tuple[tuple[int, ...], ...]:
    """Equal shares of the cores in order; with fewer cores than engines, engines take turns on a core each."""
    ranked = sorted(cores)
    if len(ranked) < engines:
        return tuple((ranked[i % len(ranked)],) for i in range(engines))
    share = len(ranked) // engines
    return tuple(tuple(ranked[i * share : (i + 1) * share]) for i in range(engines))


def binding(share: tuple[int, ...]) -> str:
    """The share as VLLM_CPU_OMP_THREADS_BIND wants it."""
    return ",".join(map(str, share))
