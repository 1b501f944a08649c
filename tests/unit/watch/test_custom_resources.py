"""Our own kinds as records: what cannot be read is said, with its field."""

from typing import Any

import pytest
from slm_operator.api.base import MOST_LEVELS
from slm_operator.decoding import decode
from slm_operator.watch import custom_resources

from tests.builders import raw_meta
from tests.nesting import DEEP, deep_json

MODEL = {"uri": "hf://facebook/opt-1.3b"}
RAW_OBJECTS: dict[str, dict[str, Any]] = {
    "spec.podTemplate": {"podTemplate": {"spec": {"x": DEEP}}},
    "spec.podTemplate of a profile": {"gpu": {}, "podTemplate": {"spec": {"x": DEEP}}},
}
"""By its place, a spec with DEEP at the third level of a raw object: two objects are around it."""


def broken(spec: dict[str, Any], levels: int) -> str | None:
    raw = decode(deep_json({"metadata": raw_meta("a"), "spec": {"model": MODEL} | spec}, levels))
    record = custom_resources.profile(raw) if "gpu" in spec else custom_resources.deployment(raw)
    assert (record.spec is None) == (record.broken is not None)
    return record.broken


@pytest.mark.parametrize("place", RAW_OBJECTS)
def test_a_raw_object_nested_too_deeply_is_refused_by_its_place(place: str) -> None:
    assert broken(RAW_OBJECTS[place], MOST_LEVELS - 2) is None
    for levels in (MOST_LEVELS - 1, 900, 10_000):
        reported = broken(RAW_OBJECTS[place], levels)
        assert reported is not None
        assert reported.startswith(f"{place.partition(' ')[0]}: nested deeper than {MOST_LEVELS} levels.")


def test_measurements_nested_deeply_are_no_document() -> None:
    raw = {"metadata": raw_meta("a"), "spec": {"model": MODEL, "measurements": {"schema": "x", "points": DEEP}}}
    record = custom_resources.profile(decode(deep_json(raw)))
    assert record.broken is not None
    assert record.broken.startswith("spec.measurements: schema")


@pytest.mark.parametrize("place", ["spec", "status"])
def test_a_newer_document_breaks_its_profile_with_a_remedy(place: str) -> None:
    newer = {"measurements": {"schema": "slm-operator.io/measurements/v2"}}
    raw = {"metadata": raw_meta("a"), "spec": {"model": MODEL}}
    raw[place] = raw.get(place, {}) | newer
    record = custom_resources.profile(raw)
    assert record.measurements is None
    assert record.broken is not None
    assert record.broken.startswith(f"{place}.measurements: schema: 'slm-operator.io/measurements/v2' is newer")
    assert "upgrade the operator" in record.broken
