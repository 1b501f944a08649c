"""What a pack's supervisor leaves as its last word is read back whole, and what is none of ours is no word at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.failure import Failure
from slm_core.pack_pod import (
    DRAIN_SECONDS,
    MOST_TERMINATION_BYTES,
    POD_GRACE_SECONDS,
    SUPERVISOR_GRACE_SECONDS,
    SUPERVISOR_WORDS,
    Termination,
    read_termination,
)
from slm_operator.manifests.engine import SHUTDOWN_SECONDS
from slm_runtime import cli
from slm_runtime.serve.arguments import settings_of
from slm_runtime.serve.settings import mistakes

GROWN = Termination(
    reason=Failure.HOST_MEMORY, message="engine 1 has grown", remedy="more memory", engine=1, served=3, resident_bytes=7
)


@given(
    st.builds(
        Termination,
        reason=st.sampled_from(Failure),
        message=st.text(max_size=300),
        remedy=st.text(max_size=300),
        engine=st.none() | st.integers(0, 47),
        served=st.integers(0, 48),
        resident_bytes=st.none() | st.integers(0, 2**50),
        limit_bytes=st.none() | st.integers(0, 2**50),
    )
)
def test_termination_is_read_back(said: Termination) -> None:
    read = read_termination(said.text())
    assert read is not None
    assert (read.reason, read.engine, read.served) == (said.reason, said.engine, said.served)
    assert said.message.startswith(read.message)


@pytest.mark.parametrize("character", ["x", "\N{SNOWMAN}", "\N{ROCKET}"])
def test_termination_fits_however_long_its_words(character: str) -> None:
    text = Termination(reason=Failure.DIED, message=character * 9000, remedy=character * 9000).text()
    assert len(text.encode()) <= MOST_TERMINATION_BYTES
    assert read_termination(text) is not None


@pytest.mark.parametrize(
    "text", [None, "", "killed", "[]", "7", "{}", '{"reason": "Boredom", "message": "m", "remedy": "r"}', "[" * 9000]
)
def test_word_of_somebody_else_is_none_of_ours(text: str | None) -> None:
    assert read_termination(text) is None


def test_termination_of_a_newer_supervisor_is_read() -> None:
    assert read_termination(json.dumps(json.loads(GROWN.text()) | {"since": "tomorrow"})) == GROWN


def test_words_of_a_pod_are_what_the_supervisor_takes() -> None:
    words = ["serve", "--model", "m", "--batch-size", "8", "--kv-cache-bytes", "1024", "--engines-per-gpu", "3"]
    args = cli._parser().parse_args([*words, "--sharing-mode", "mps", *SUPERVISOR_WORDS])
    settings = settings_of(args, ())
    assert mistakes(settings) == ()
    assert settings.drain_seconds == DRAIN_SECONDS >= SHUTDOWN_SECONDS


def test_graces_are_those_that_were_promised() -> None:
    assert (SUPERVISOR_GRACE_SECONDS, POD_GRACE_SECONDS) == (180, 215)
