from __future__ import annotations

import pytest
from slm_runtime import bca
from slm_runtime.slo import Slo, resolve
from unit.runtime_search import published

EPSILON = 0.1

PUBLISHED_ANSWERS = [
    ("opt-1.3b", 2, 96),
    ("opt-1.3b", 3, 128),
    ("opt-1.3b", 4, 256),
    ("opt-2.7b", 2, 96),
    ("opt-2.7b", 3, 128),
    ("opt-2.7b", 4, 256),
    ("llama-2-7b", 2, 96),
    ("llama-2-7b", 3, 192),
    ("llama-2-7b", 4, 192),
]


@pytest.mark.parametrize(("model", "itl_factor", "batch_size"), PUBLISHED_ANSWERS)
def test_the_published_answers(model: str, itl_factor: float, batch_size: int) -> None:
    points = published.sweep(model).points
    result = bca.choose(points, resolve(Slo(itl_factor=itl_factor), points), EPSILON)
    assert result.chosen is not None
    assert result.chosen.point.batch_size == batch_size
