"""Batch sizes that are asked for: those that an engine has captured as CUDA graphs, where one is near."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.engines.registry import default
from slm_core.search.boundary import NEAR_GRAPH_FRACTION, tidy

from tests.other_engine.port import OtherEngine

CAPTURED = {1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)}
"""vllm/config/vllm.py, `_set_cudagraph_sizes`."""


def test_the_engines_graphs_are_those_that_it_captures() -> None:
    engine = default()
    found = {size for size in range(1, 513) if size % engine.graph_step(size) == 0}
    assert found == CAPTURED


@pytest.mark.parametrize(
    ("edge", "size"),
    [(250.7, 248), (98, 96), (275, 272), (512.9, 512), (1000, 992), (45.3, 45), (7.9, 7), (1.5, 1), (0.2, 0)],
)
def test_a_graph_nearby_is_taken_and_none_far_below(edge: float, size: int) -> None:
    assert tidy(edge, default()) == size


@pytest.mark.parametrize(("edge", "size"), [(250.7, 248), (275, 272), (98, 98)])
def test_engine_without_cuda_graphs_gets_round_batch_sizes(edge: float, size: int) -> None:
    assert tidy(edge, OtherEngine()) == size


@pytest.mark.parametrize("edge", [-math.inf, -3.0])
def test_boundary_is_absent_where_no_batch_keeps_a_limit(edge: float) -> None:
    assert tidy(edge, default()) == 0


@given(st.floats(1, 2000))
def test_tidy_batch_size_gives_up_little(edge: float) -> None:
    size = tidy(edge, default())
    assert size <= edge
    assert size >= math.floor(edge) * (1 - NEAR_GRAPH_FRACTION) or size in CAPTURED
