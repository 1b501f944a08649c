"""What a product's name tells: its memory, or that of the part of a GPU that it names, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slm_core.units import GIB
from slm_operator.estimator.gpus import find_accelerator

FIELD = json.loads((Path(__file__).parents[2] / "data/field/plan/products.json").read_text())


@pytest.mark.parametrize(
    ("product", "memory_gib", "gb_per_second"),
    [
        ("NVIDIA-H100-80GB-HBM3", 80, 3352),
        ("NVIDIA H100 NVL", 94, 3938),
        ("NVIDIA-H100-PCIe", 80, 2039),
        ("NVIDIA-H200", 141, 4800),
        ("NVIDIA-A100-SXM4-80GB", 80, 2039),
        ("NVIDIA-A100-SXM4-40GB", 40, 1555),
        ("NVIDIA-A100-SXM4-40GB-SHARED", 40, 1555),
        ("NVIDIA-A10G", 24, 600),
        ("NVIDIA-L40S", 48, 864),
        ("NVIDIA-L4", 24, 300),
        ("Tesla-T4", 16, 320),
        ("Tesla-V100-SXM2-32GB", 32, 900),
        ("NVIDIA-GeForce-RTX-4090", 24, 1008),
        ("NVIDIA-RTX-6000-Ada-Generation", 48, 960),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 96, 1792),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition", 96, 1792),
        ("NVIDIA-H20", 96, 4000),
        ("NVIDIA-H20-3e", 141, 4800),
        ("NVIDIA-H100-64GB-HBM2", 64, 2020),
        ("NVIDIA-GH200-480GB", 96, 4000),
        ("NVIDIA-GH200-144G-HBM3e", 141, 4900),
        ("NVIDIA-GB200", 186, 8000),
        ("NVIDIA-A100-SXM-64GB", 64, 1640),
        ("NVIDIA-A100-PCIE-40GB", 40, 1555),
        ("NVIDIA-A800-SXM4-80GB", 80, 2039),
        ("NVIDIA-RTX-A6000", 48, 768),
        ("NVIDIA-A40", 48, 696),
        ("NVIDIA-A16", 16, 200),
        ("Tesla-V100-SXM2-16GB", 16, 900),
        ("NVIDIA-GeForce-RTX-4090-Laptop-GPU", 16, 576),
    ],
)
def test_known_products(product: str, memory_gib: int, gb_per_second: float) -> None:
    found = find_accelerator(product)
    assert found
    assert (found.memory_bytes, found.bytes_per_second) == (memory_gib * GIB, gb_per_second * 1e9)
    assert found.source == f"{gb_per_second:,.0f} GB/s by data sheet"


def test_memory_from_the_label_wins_over_the_table() -> None:
    found = find_accelerator("NVIDIA-H100-80GB-HBM3", memory_bytes=81559 * 2**20)
    assert found
    assert found.memory_bytes == 81559 * 2**20


@pytest.mark.parametrize(
    ("family", "gb_per_second", "basis"),
    [("Hopper", 2000, "the Hopper family"), ("rubin", 300, "any current GPU"), (None, 300, "any current GPU")],
)
def test_an_unknown_product_works_from_its_labels_and_says_so(
    family: str | None, gb_per_second: float, basis: str
) -> None:
    found = find_accelerator("NVIDIA-X1000", memory_bytes=50 * GIB, family=family)
    assert found
    assert (found.memory_bytes, found.bytes_per_second) == (50 * GIB, gb_per_second * 1e9)
    assert found.source == (
        f"NVIDIA-X1000 is not in the table: memory from its label, {gb_per_second:,.0f} GB/s as the least of {basis}"
    )


def test_an_unknown_product_without_labels_is_unknown() -> None:
    assert find_accelerator("NVIDIA-X1000") is None


@pytest.mark.parametrize(
    ("product", "memory_gib", "gb_per_second"),
    [
        # MIG: an eighth of the memory's bandwidth for each slice of memory, of A30 a quarter.
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 10, 2039 / 8),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED", 10, 2039 / 8),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.20gb", 20, 2039 / 4),
        ("NVIDIA-A100-SXM4-40GB-MIG-3g.20gb", 20, 1555 / 2),
        ("NVIDIA A100-SXM4-40GB MIG 2g.10gb", 10, 1555 / 4),
        ("NVIDIA-A30-MIG-1g.6gb", 6, 933 / 4),
        ("NVIDIA-H100-80GB-HBM3-MIG-7g.80gb", 80, 3352),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb.me", 10, 3352 / 8),
        ("NVIDIA-H200-MIG-1c.2g.35gb", 35, 4800 / 4),
        ("NVIDIA-B200-MIG-1g.23gb", 23, 8000 / 8),
        # Virtual GPUs: all of the bandwidth, as far as neighbours leave it; of slices by MIG their own.
        ("NVIDIA-A40-8Q", 8, 696),
        ("NVIDIA-A40-8Q-SHARED", 8, 696),
        ("NVIDIA A40-48Q", 48, 696),
        ("NVIDIA-L40S-24C", 24, 864),
        ("NVIDIA-A16-4Q", 4, 200),
        ("NVIDIA-RTX-A6000-24Q", 24, 768),
        ("GRID-T4-16Q", 16, 320),
        ("GRID-A100-1-5C", 5, 1555 / 8),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition-DC-1-24Q", 24, 1792 / 4),
        # Parts of boards that are not in the table.
        ("GRID-V100DX-32Q", 32, 300),
        ("NVIDIA-X1000-MIG-1g.12gb", 12, 300),
    ],
)
def test_a_part_of_a_gpu_has_its_own_memory(product: str, memory_gib: int, gb_per_second: float) -> None:
    found = find_accelerator(product)
    assert found
    assert found.memory_bytes == memory_gib * GIB
    assert found.bytes_per_second == pytest.approx(gb_per_second * 1e9)
    assert found.source.startswith(("a slice by MIG with", "a virtual GPU with"))


def test_a_parts_memory_from_its_label_wins_over_its_name() -> None:
    found = find_accelerator("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", memory_bytes=9856 * 2**20)
    assert found
    assert found.memory_bytes == 9856 * 2**20
    assert found.bytes_per_second == pytest.approx(2039e9 / 8)


@pytest.mark.parametrize(("product", "expected"), FIELD.items(), ids=FIELD)
def test_products_of_the_field(product: str, expected: dict[str, object]) -> None:
    found = find_accelerator(product)
    assert found
    assert found.memory_bytes == expected["memoryGiBAbout"] * GIB


@pytest.mark.parametrize(
    "product",
    [
        "NVIDIA-A100-SXM4-120GB",  # of another size than any board of that name here
        "NVIDIA-H100-SXM5-32GB",
        "NVIDIA-L4-48GB",
        "GRID-M60-0B",  # half a GB
        "Quadro-RTX-6000",
        "NVIDIA-A100-SXM4-80GB-MIG-mixed",
        "NVIDIA-A2000",
        "NVIDIA-A10M",
        "NVIDIA-RTX-4000-Ada-Generation",
        "NVIDIA-H300",
        "",
        "-8Q?",
    ],
)
def test_unknown_gpu_product_is_not_taken_for_a_similar_one(product: str) -> None:
    assert find_accelerator(product) is None
