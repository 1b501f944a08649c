"""Quantities of containers' resources, as Kubernetes reads them."""

from fractions import Fraction

import pytest
from slm_operator.quantity import amount, cpu_quantity, memory_quantity

READ = [
    ("2", Fraction(2)),
    (2, Fraction(2)),
    (1.5, Fraction(3, 2)),
    ("500m", Fraction(1, 2)),
    (".5", Fraction(1, 2)),
    ("4Gi", Fraction(4 << 30)),
    ("1.5Gi", Fraction(3 << 29)),
    ("1G", Fraction(10**9)),
    ("1e3", Fraction(1000)),
    ("1E", Fraction(10**18)),
    ("1E-3", Fraction(1, 1000)),
    ("128974848", Fraction(128974848)),
]
NONE = [None, "", "two", "-1", "1 Gi", "1gi", "0x10", True, [], {"a": 1}, "NaN", "inf", "1e999", "9" * 500, "٣"]


@pytest.mark.parametrize(("quantity", "expected"), READ, ids=str)
def test_a_quantity_is_read(quantity: object, expected: Fraction) -> None:
    assert amount(quantity) == expected


@pytest.mark.parametrize("quantity", NONE, ids=lambda one: str(one)[:10])
def test_text_that_is_no_quantity_is_none(quantity: object) -> None:
    assert amount(quantity) is None


def test_sums_are_written_as_people_write_them() -> None:
    assert [cpu_quantity(Fraction(c)) for c in ("9", "5/2", "1/3")] == ["9", "2500m", "334m"]
    sizes = (33 << 30, 3 << 29, 1000, Fraction(1, 2))
    assert [memory_quantity(Fraction(size)) for size in sizes] == ["33Gi", "1536Mi", "1000", "1"]


def test_every_suffix_is_worth_what_kubernetes_says() -> None:
    decimal = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
    assert {suffix: amount(f"1{suffix}") for suffix in decimal} == {s: Fraction(10) ** e for s, e in decimal.items()}
    binary = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
    assert [amount(f"1{suffix}") for suffix in binary] == [1 << 10 * (power + 1) for power in range(6)]
