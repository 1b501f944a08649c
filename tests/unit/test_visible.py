"""What others wrote reaches nobody's terminal as a command, and nobody's eye as another text."""

from __future__ import annotations

import json
import logging
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slm_operator.kube.engine_metrics import NoMetrics
from slm_operator.kube.errors import error_of
from slm_operator.logs import Lines
from slm_operator.visible import visible, visible_in

OBEYED = {
    "clear the screen": ("\x1b[2J", r"\x1b[2J"),
    "write to the clipboard": ("\x1b]52;c;ZXZpbA==\x1b\\", r"\x1b]52;c;ZXZpbA==\x1b" + "\\"),
    "C1 in one byte": ("\x9b2J", r"\x9b2J"),
    "go back on the line": ("False\rTrue", r"False\x0dTrue"),
    "delete": ("a\x7f\x08", r"a\x7f\x08"),
    "turn the direction": ("\u202eeurt", r"\u202eeurt"),
    "isolate": ("\u2066a\u2069", r"\u2066a\u2069"),
    "another end of line": ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    "half a character": ("\ud83d", r"\ud83d"),
    "nothing": ("naïve 模型 \U0001f680\n\tindented", "naïve 模型 \U0001f680\n\tindented"),
}


@pytest.mark.parametrize("case", OBEYED)
def test_control_characters_are_written_visibly(case: str) -> None:
    text, shown = OBEYED[case]
    assert visible(text) == shown
    assert visible_in({"a": [text, {text: 1}]}) == {"a": [shown, {shown: 1}]}


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text())
def test_visible_text_is_not_escaped_twice(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    shown.encode()
    assert {unicodedata.category(sign) for sign in shown if sign not in "\n\t"}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})


@given(ANYTHING)
@settings(max_examples=25)
def test_plain_text_is_not_copied(value: object) -> None:
    shown = visible_in(value)
    assert (shown is value) == (shown == value)
    assert visible_in(shown) is shown


def test_answers_of_api_server_and_engine_are_shown_visible() -> None:
    assert error_of(500, "\x1b[2Jgone").message == r"\x1b[2Jgone"
    assert NoMetrics("\x1b[2Jgone").because == r"\x1b[2Jgone"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_of_the_log_is_one_line_of_plain_signs(*, as_json: bool) -> None:
    record = logging.LogRecord("slm_operator", logging.INFO, "", 0, "\x9b2J\u2028\u202e 模型", None, None)
    line = Lines(as_json=as_json).format(record)
    assert line.isascii()
    assert line.isprintable()
    if as_json:
        assert json.loads(line)["message"] == "\x9b2J\u2028\u202e 模型"
