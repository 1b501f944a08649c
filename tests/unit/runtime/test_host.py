import pytest
from slm_core.engines.registry import default
from slm_runtime import host

SHARES = [
    ("two engines on two cores", {0, 1}, 2, ((0,), (1,))),
    ("cores left over are nobody's", {2, 3, 5, 7, 9}, 2, ((2, 3), (5, 7))),
    ("engines take turns when there are more of them", {4, 6}, 3, ((4,), (6,), (4,))),
]


@pytest.mark.parametrize(("name", "cores", "engines", "expected"), SHARES, ids=[c[0] for c in SHARES])
def test_cores_are_shared_among_engines(
    name: str, cores: set[int], engines: int, expected: tuple[tuple[int, ...], ...]
) -> None:
    assert host.shares(frozenset(cores), engines) == expected


def test_a_share_is_bound_as_vllm_wants_it() -> None:
    assert default().pinned_to((2, 3)) == {"VLLM_CPU_OMP_THREADS_BIND": "2,3"}
