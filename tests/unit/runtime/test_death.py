"""What is made of an engine that was killed, and could say nothing itself."""

from pathlib import Path

import pytest
from slm_core.failure import Cause, Failure
from slm_runtime import host
from slm_runtime.death import ending, with_signal

SILENT = Cause(failure=Failure.DIED, line="Loading weights")
CASES = {
    "killed-for-memory": (SILENT, -9, 1, Failure.HOST_MEMORY, "the container's memory was used up"),
    "a-child-killed-for-memory": (SILENT, 1, 2, Failure.HOST_MEMORY, "last line: Loading weights"),
    "killed-by-somebody": (SILENT, -9, 0, Failure.DIED, "Loading weights"),
    "a-child-killed-by-somebody": (Cause(failure=Failure.DIED, line="x", signal=9), 1, 0, Failure.DIED, "killed by SIGKILL"),
    "an-instruction-too-new": (SILENT, -4, 0, Failure.HARDWARE, "SIGILL"),
    "an-instruction-too-new-behind-a-shell": (SILENT, 132, 0, Failure.HARDWARE, "SIGILL"),
    "an-instruction-too-new-in-a-child": (Cause(failure=Failure.DIED, line="x", signal=4), 1, 0, Failure.HARDWARE, "SIGILL"),
    "shared-memory-too-small": (SILENT, -7, 0, Failure.HOST_MEMORY, "SIGBUS"),
    "an-exit-status": (SILENT, 1, 0, Failure.DIED, "Loading weights"),
    "still-alive": (SILENT, None, 0, Failure.DIED, "Loading weights"),
    "a-remedy-of-its-own-wins": (Cause(failure=Failure.DIED, line="x", remedy="y"), -9, 1, Failure.DIED, "x"),
    "words-of-its-own-win": (Cause(failure=Failure.MODEL, line="no weights"), -9, 1, Failure.MODEL, "no weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_death_without_words_has_the_class_of_its_signal(case: str) -> None:
    cause, status, killed, failure, words = CASES[case]
    found = with_signal(cause, status, killed)
    assert found.failure is failure
    assert words in found.line


COUNTS = {
    "v2": ("memory.events", "low 0\nhigh 7\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n", 2),
    "v1": ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", 5),
    "of-an-old-kernel": ("memory.events", "low 0\nhigh 0\n", 0),
    "no-counts": ("memory.events", "nonsense", 0),
    "no-cgroup": ("other", "oom_kill 5\n", 0),
}


@pytest.mark.parametrize("case", COUNTS)
def test_the_kernels_count_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    name, text, expected = COUNTS[case]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(host, "CGROUP", tmp_path)
    assert host.kills_for_memory() == expected


def test_a_signal_that_has_no_name_is_said_by_its_number() -> None:
    assert ending(-99) == "killed by signal 99"
