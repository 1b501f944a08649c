"""Memory and bandwidth of GPUs, by the product names of NVML and of node labels.

Exists for estimates only. Bandwidths are the makers' data sheets. Assumes nothing of products it does not know: their
memory comes from the label or NVML, their bandwidth from the family, and the answer says so. Must never fail on a name,
nor take a part of a GPU (a slice by MIG, a virtual GPU) for all of it.

Sources of the names: NVIDIA's device plugin and feature discovery, whose label is the NVML name with hyphens, and its
`-SHARED` and `-MIG-1g.10gb`; the vGPU types of the makers' guide, as `A40-8Q` for 8 GB of an A40.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from slm_core.units import GIB

# words of the name, memory in GiB, bandwidth in GB/s; the first whose words are all in the name, so the special come first
PRODUCTS: tuple[tuple[tuple[str, ...], int, float], ...] = (
    (("GB200",), 186, 8000),
    (("B200",), 180, 8000),
    (("GH200", "144G"), 141, 4900),
    (("GH200", "480GB"), 96, 4000),  # the name has the memory of its CPU
    (("GH200",), 96, 4000),
    (("H200",), 141, 4800),
    (("H100", "NVL"), 94, 3938),
    (("H100", "96GB"), 96, 3352),
    (("H100", "94GB"), 94, 3352),
    (("H100", "64GB"), 64, 2020),
    (("H100", "PCIE"), 80, 2039),
    (("H100",), 80, 3352),
    (("H800", "PCIE"), 80, 2039),
    (("H800",), 80, 3352),
    (("H20", "3E"), 141, 4800),
    (("H20",), 96, 4000),
    (("A100", "80GB"), 80, 2039),
    (("A100", "64GB"), 64, 1640),
    (("A100",), 40, 1555),
    (("A800", "40GB"), 40, 1555),
    (("A800",), 80, 2039),
    (("A30",), 24, 933),
    (("A40",), 48, 696),
    (("A10G",), 24, 600),
    (("A10",), 24, 600),
    (("A16",), 16, 200),
    (("A2",), 16, 200),
    (("A6000",), 48, 768),
    (("A5000",), 24, 768),
    (("A4000",), 16, 448),
    (("L40S",), 48, 864),
    (("L40",), 48, 864),
    (("L20",), 48, 864),
    (("L4",), 24, 300),
    (("T4",), 16, 320),
    (("T4G",), 16, 320),
    (("V100", "32GB"), 32, 900),
    (("V100S",), 32, 1134),
    (("V100",), 16, 900),
    (("PRO", "6000", "BLACKWELL"), 96, 1792),
    (("6000", "ADA"), 48, 960),
    (("5090", "D", "V2"), 24, 1344),
    (("5090", "LAPTOP"), 24, 896),
    (("5090",), 32, 1792),
    (("4090", "LAPTOP"), 16, 576),
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
_SIZED = re.compile(r"^(\d+)G[BI]?$")
_MIG = re.compile(r"-(?:MIG-)?(\d)[CG]\.(?:(\d)G\.)?(\d+)GB")
"""As `MIG-1g.10gb`; with a compute instance of it, as `1c.3g.40gb`."""
_VIRTUAL = re.compile(r"-(?:(\d+)-)?(\d+)([ABCQ])(?:ME)?$")
"""As `A40-8Q`; of a slice by MIG, as `A100-1-5C`."""
_MIG_SLICES = {"A30": 4}
"""Slices of memory bandwidth that MIG makes of a GPU; 8 where it says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One kind of GPU, or of a part of one."""

    product: str
    memory_bytes: int
    bytes_per_second: float
    """Memory bandwidth."""
    source: str
    """Where memory and bandwidth come from, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """A part of a GPU, by its name."""

    gib: int
    """0 where the name does not tell, or less than one."""
    what: str
    by_mig: bool


def find_accelerator(product: str, *, memory_bytes: int | None = None, family: str | None = None) -> Accelerator | None:
    """What is known of a product. `memory_bytes` from NVML or the label nvidia.com/gpu.memory (MiB) wins over the table.

    None when neither the table nor the caller knows the memory.
    """
    name = product.strip()
    part = _part(name)
    words = set(re.split(r"[^A-Z0-9]+", name.upper()))
    known = next((entry for entry in PRODUCTS if words.issuperset(entry[0])), None)
    if part is not None:
        return _accelerator_of_part(product, part, known, memory_bytes)
    if known and (memory_bytes or _is_whole(words.difference(known[0]), known[1])):
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


def _is_whole(words: set[str], gib: int) -> bool:
    """Whether the memory in a name, if it has any, is that of the table: else it is another board than the table's."""
    sizes = [int(found[1]) for word in words if (found := _SIZED.match(word))]
    return not sizes or any(abs(size - gib) <= gib / 16 for size in sizes)


def _part(name: str) -> _Slice | None:
    plain = name.upper().replace(" ", "-").removesuffix("-SHARED")
    if found := _MIG.search(plain):
        return _Slice(gib=int(found[3]), what="a slice by MIG", by_mig=True)
    if "-MIG-" in plain:
        return _Slice(gib=0, what="a slice by MIG", by_mig=True)
    if found := _VIRTUAL.search(plain):
        return _Slice(gib=int(found[2]), what="a virtual GPU", by_mig=found[1] is not None)
    return None


def _accelerator_of_part(
    product: str, part: _Slice, whole: tuple[tuple[str, ...], int, float] | None, memory_bytes: int | None
) -> Accelerator | None:
    """Memory of its own; of the bandwidth what MIG gives it, or all of it as far as its neighbours leave it."""
    memory = memory_bytes or part.gib * GIB
    if not memory:
        return None
    if whole is None:
        speed, basis = SLOWEST_GB_PER_SECOND, "the least of any current GPU"
    else:
        words, gib, full = whole
        speed, basis = full, "the whole GPU's by data sheet, which its neighbours share"
        if part.by_mig:
            slices = next((number for name, number in _MIG_SLICES.items() if name in words), 8)
            held = min(slices, max(1, round(memory / GIB * slices / gib)))
            speed, basis = full * held / slices, f"{held} of {slices} slices of the whole GPU's by data sheet"
    return Accelerator(
        product=product,
        memory_bytes=memory,
        bytes_per_second=speed * 1e9,
        source=f"{part.what} with {memory / GIB:.0f} GiB: {speed:,.0f} GB/s, {basis}",
    )
