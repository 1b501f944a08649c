"""JSON of others: as the standard library decodes it where that can, and nothing more where it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slm_operator.decoding import MOST_LEVELS, decode

from tests.nesting import API_SERVER_LEVELS, nested

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def levels_of(value: Any) -> int:
    levels = 0
    while isinstance(value, dict | list) and value:
        value, levels = next(iter(value.values() if isinstance(value, dict) else value)), levels + 1
    return levels


@pytest.mark.slow
@given(values)
@settings(max_examples=25)
def test_shallow_json_is_decoded_as_usual(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert decode(text) == decode(text.encode("utf-8", "replace")) == json.loads(text)


@pytest.mark.parametrize("around", ["list", "object"])
@pytest.mark.parametrize("levels", [MOST_LEVELS, MOST_LEVELS + 1, 994, 1500, API_SERVER_LEVELS])
def test_deeper_values_are_cut_and_their_neighbours_whole(levels: int, around: str) -> None:
    deep = nested(levels - 1, around, inmost='"]}\\"["')
    text = f'{{"deep": {deep}, "after": ["[", {{"b": "\\"]"}}], "last": 1}}'
    for decoded in (decode(text), decode(text.encode())):
        assert (decoded["after"], decoded["last"]) == (["[", {"b": '"]'}], 1)
        assert levels_of(decoded) == MOST_LEVELS


@pytest.mark.parametrize(
    "text",
    ["", "[", "[" * 100_000, "]" * 1000, '{"a": ' * 5000, '"\\"' * 100_000, '["' + '\\"' * 100_000, "[}" * 500, "\\", "x",
     nested(5000) + "]", '"' + "[" * 5000, "[" * 500 + '"\\'],
)  # fmt: skip
def test_invalid_json_is_a_value_error_in_linear_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


def test_json_that_only_the_standard_library_takes_is_taken() -> None:
    assert decode('["\\ud800", 1]') == ["\ud800", 1]
    assert decode(b'["\xff", 1]') == ["�", 1]
