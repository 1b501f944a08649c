"""Memory and bandwidth of GPUs, by the product names of NVML and of node labels.

Exists for estimates only. Bandwidths are the makers' data sheets. Assumes nothing of products it does not know: their
memory comes from the label or NVML, their bandwidth from the family, and the answer says so. Must never fail on a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from slm_core.units import GIB

# words of the name, memory in GiB, bandwidth in GB/s; the first whose words are all in the name, so the special come first
PRODUCTS: tuple[tuple[tuple[str, ...], int, float], ...] = (
    (("GB200",), 186, 8000),
    (("B200",), 180, 8000),
    (("H200",), 141, 4800),
    (("GH200", "144G"), 141, 4900),
    (("GH200",), 96, 4000),
    (("H100", "NVL"), 94, 3938),
    (("H100", "PCIE"), 80, 2039),
    (("H100", "64GB"), 64, 2020),
    (("H100",), 80, 3352),
    (("H20",), 96, 4000),
    (("A100", "80GB"), 80, 2039),
    (("A100",), 40, 1555),
    (("A30",), 24, 933),
    (("A40",), 48, 696),
    (("A10G",), 24, 600),
    (("A10",), 24, 600),
    (("A16",), 16, 200),
    (("A2",), 16, 200),
    (("A6000",), 48, 768),
    (("L40S",), 48, 864),
    (("L40",), 48, 864),
    (("L4",), 24, 300),
    (("T4",), 16, 320),
    (("V100", "32GB"), 32, 900),
    (("V100",), 16, 900),
    (("PRO", "6000"), 96, 1792),
    (("6000", "ADA"), 48, 960),
    (("5090",), 32, 1792),
    (("4090",), 24, 1008),
    (("3090",), 24, 936),
)
FAMILY_GB_PER_SECOND = {
    "volta": 900.0,
    "turing": 320.0,
    "ampere": 600.0,
    "ada-lovelace": 300.0,
    "hopper": 2000.0,
    "blackwell": 1792.0,
}
"""The slowest common product of each family (label nvidia.com/gpu.family)."""
SLOWEST_GB_PER_SECOND = 300.0
"""Where not even the family is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One kind of GPU."""

    product: str
    memory_bytes: int
    bytes_per_second: float
    """Memory bandwidth."""
    source: str
    """Where memory and bandwidth come from, in words."""


def find_accelerator(product: str, *, memory_bytes: int | None = None, family: str | None = None) -> Accelerator | None:
    """What is known of a product. `memory_bytes` from NVML or the label nvidia.com/gpu.memory (MiB) wins over the table.

    None when neither the table nor the caller knows the memory.
    """
    words = set(re.split(r"[^A-Z0-9]+", product.upper()))
    known = next((entry for entry in PRODUCTS if words.issuperset(entry[0])), None)
    if known:
        _, gib, speed = known
        return Accelerator(
            product=product,
            memory_bytes=memory_bytes or gib * GIB,
            bytes_per_second=speed * 1e9,
            source=f"{speed:,.0f} GB/s by data sheet",
        )
    if not memory_bytes:
        return None
    speed = FAMILY_GB_PER_SECOND.get((family or "").lower(), SLOWEST_GB_PER_SECOND)
    basis = f"the {family} family" if family and family.lower() in FAMILY_GB_PER_SECOND else "any current GPU"
    return Accelerator(
        product=product,
        memory_bytes=memory_bytes,
        bytes_per_second=speed * 1e9,
        source=f"{product} is not in the table: memory from its label, {speed:,.0f} GB/s as the least of {basis}",
    )
