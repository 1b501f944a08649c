"""What weight files say of themselves, by header and index."""

from __future__ import annotations

from typing import Any

import pytest
from slm_core.architecture import ConfigError, read_architecture
from slm_core.architecture.checkpoint import files_of, read_headers, read_index

from tests.builders import configs


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, 0]}


HALVES = {
    "__metadata__": {"format": "pt"},
    "a": tensor("BF16", 10, 100),
    "b": tensor("F32", 50),
    "mtp.x": tensor("F32", 9),
    "model.mtp.x": tensor("F32", 9),
}
PACKED = {
    "a.qweight": tensor("I32", 100, 10),
    "a.scales": tensor("F16", 100),
    "b": tensor("F8_E4M3", 64),
    "c": tensor("F4", 7),
}


def test_weights_are_cast_to_the_engines_type_but_packed_ones() -> None:
    found = read_headers([("a", HALVES)])
    assert (found.parameters, found.weights_bytes(2.0, None), found.weights_bytes(4.0, None)) == (1050, 2100, 4200)
    packed = read_headers([("a", PACKED)])
    assert (packed.parameters, packed.weights_bytes(2.0, None)) == (None, 4000 + 200 + 64 + 4)


def test_headers_of_several_files_are_one_checkpoint() -> None:
    both = read_headers([("a", HALVES), ("b", PACKED)])
    assert both.weights_bytes(2.0, None) == 2100 + 4268


def test_an_index_alone_tells_the_bytes_on_disk() -> None:
    found = read_index({"metadata": {"total_size": 4000}}, "i")
    assert found
    assert found.parameters is None
    assert [found.weights_bytes(2.0, stored) for stored in (2.0, 4.0, None)] == [4000, 2000, 4000]
    assert read_index({"metadata": {}}, "i") is None
    assert read_index({"metadata": {"total_size": 4000.0}}, "i") == found


def test_weights_on_disk_win_over_counted_ones() -> None:
    header = {"w": tensor("BF16", 1000, 1000)}
    found = read_architecture(configs.LLAMA_2_7B, checkpoint=read_headers([("a", header)]))
    counted = read_architecture(configs.LLAMA_2_7B)
    assert (found.parameters, found.weights_bytes) == (1_000_000, 2_000_000)
    assert found.active_bytes / found.weights_bytes == pytest.approx(
        counted.active_bytes / counted.weights_bytes, rel=1e-4
    )
    assert found.kv_bytes_per_token == counted.kv_bytes_per_token


def test_weights_on_disk_are_not_those_quantised_in_memory() -> None:
    disk = read_headers([("a", {"w": tensor("BF16", 1000, 1000)})])
    found = read_architecture(configs.LLAMA_2_7B, checkpoint=disk, quantization="fp8")
    assert found == read_architecture(configs.LLAMA_2_7B, quantization="fp8")


def test_weights_that_are_quantised_on_disk_are_never_cast() -> None:
    disk = read_index({"metadata": {"total_size": 4_000_000_000}}, "i")
    quantised = configs.LLAMA_2_7B | {"quantization_config": {"quant_method": "awq"}}
    assert read_architecture(quantised, checkpoint=disk, dtype="float32").weights_bytes == 4_000_000_000


@pytest.mark.parametrize(
    "header",
    [
        [], {}, {"__metadata__": {}}, {"a": 1}, {"a": {"dtype": "F99", "shape": [1]}}, {"a": {"dtype": ["F16"], "shape": [1]}},
        {"a": {"dtype": "F16"}}, {"a": {"dtype": "F16", "shape": "1"}}, {"a": {"dtype": "F16", "shape": [-1]}},
        {"a": {"dtype": "F16", "shape": [True]}}, {"a": {"dtype": "F16", "shape": [10**10, 10**10]}},
        {"a": {"dtype": "F16", "shape": [10**400]}},
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_refused(header: object) -> None:
    with pytest.raises(ConfigError):
        read_headers([("model.safetensors", header)])


@pytest.mark.parametrize("total", [True, 0, -1, 1.5, "4000", [1], float("nan"), float("inf"), 10**400])
def test_an_index_with_a_sum_that_is_none_is_refused(total: object) -> None:
    with pytest.raises(ConfigError, match=r"metadata\.total_size"):
        read_index({"metadata": {"total_size": total}}, "i")


@pytest.mark.parametrize("table", [None, 1, [], {"a": 1}, {"a": "../b"}, {"a": "/etc/passwd"}, {"a": ".."}, {"a": ""}])
def test_an_index_names_files_beside_it_only(table: object) -> None:
    with pytest.raises(ConfigError, match="weight_map"):
        files_of({"weight_map": table}, "i")
    assert files_of({"weight_map": {"a": "y", "b": "x", "c": "y"}}, "i") == ("x", "y")
