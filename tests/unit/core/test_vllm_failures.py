"""Signs of vLLM's failures that no recorded log shows: tests/unit/runtime/test_failure.py has those of tests/data/field."""

from __future__ import annotations

import pytest
from slm_core.engines.vllm_failures import explain
from slm_core.failure import Failure

SAID = {
    "requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url: https://hub/m": Failure.SOURCE,
    "ValueError: Total number of attention heads (32) must be divisible by tensor parallel size (3).": Failure.ARGUMENTS,
    "vllm serve: error: argument --block-size: expected one argument": Failure.ARGUMENTS,
    "OSError: Can't load tokenizer for '/model'. If you were trying to load it from": Failure.MODEL,
    "ValueError: Extra data: line 2 column 1 (char 9)": Failure.MODEL,
    "KeyError: 'architectures'": Failure.MODEL,
    "  Value error, the model is odd [type=value_error]": Failure.ARGUMENTS,
}


@pytest.mark.parametrize(("line", "failure"), SAID.items(), ids=SAID)
def test_a_line_shows_its_class(line: str, failure: Failure) -> None:
    found = explain(f"INFO 11-21 09:24:03 [core.py:1] it starts\n{line}\n")
    assert (found.failure, found.line) == (failure, line.strip())


def test_log_line_below_error_is_no_error() -> None:
    found = explain("WARNING 11-28 [a.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate\nit ends\n")
    assert (found.failure, found.line) == (Failure.DIED, "it ends")


def test_error_line_does_not_take_words_of_a_later_traceback() -> None:
    log = "ValueError: odd\nTraceback (most recent call last):\n  raise X  # CUDA out of memory. Tried to allocate\n"
    assert explain("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate").failure is not Failure.DIED
    assert (explain(log).failure, explain(log).line) == (Failure.DIED, "ValueError: odd")


def test_a_line_with_an_address_does_not_go_on_in_the_next() -> None:
    first = "OSError: Can't load tokenizer for 'https://hub/m'. If you were trying to load it from"
    assert explain(f"{first}\nhttps://elsewhere\n").line == first
